"""Step 3: bytes → entries that wait for their vectors, and what the encoders have to encode for them.

One decoder a modality, in `DECODERS`; a new modality is a new function there. Each turns one asset into parts, and says
of each part which encoder's input its vectors come from. `Decoder` gathers the inputs of a whole batch, each item once.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from penstock.config import ImageSettings, TextSettings
from penstock.encoders.base import ImageSpec, Tokenizer
from penstock.errors import BadInputError, Reason, TransientError
from penstock.media.image import decode_image, set_pixel_limit
from penstock.media.text.passages import decode_text
from penstock.records import (
    Collection,
    Decoded,
    EncoderInput,
    Event,
    FetchedMedia,
    Field,
    Modality,
    PendingEntry,
    Position,
    Rejected,
    UInt8,
)

logger = logging.getLogger(__name__)

PASSAGE_TEXT = "passage.text"
JOINT_IMAGE = "joint.image"


@dataclass(frozen=True, slots=True)
class DecoderContext:
    """What the decoders of all modalities work with; see `Decoder`."""

    text: TextSettings
    image: ImageSettings
    image_spec: ImageSpec
    tokenizer: Tokenizer
    joint_text_encoder: str


@dataclass(frozen=True, slots=True)
class EncoderItem:
    """One thing to encode: a text, or uint8[height, width, 3] of pixels, under the hash of its content."""

    key: str
    content: str | UInt8


@dataclass(frozen=True, slots=True)
class DecodedPart:
    """One entry of an asset: a passage, a picture, a segment, a frame. The fields are those of `Draft`.

    Attributes:
        vectors: for each vector field the encoder that fills it and the item that it encodes.
    """

    collection: Collection
    vectors: tuple[tuple[Field, str, EncoderItem], ...]
    text: str = ""
    start_ms: int = 0
    end_ms: int = 0
    start_char: int = 0
    end_char: int = 0


@dataclass(frozen=True, slots=True)
class DecodedAsset:
    """A decoded asset: its own title ("" if it has none), and its parts in order."""

    title: str
    parts: tuple[DecodedPart, ...]


class Decoder:
    """Decodes batches. A decode worker owns one; it is not thread-safe if the tokenizer is not.

    Args:
        text, image: limits and how text is cut.
        image_spec: what the encoder of pictures wants.
        tokenizer: counts as the sentence encoder does.
        joint_text_encoder: the encoder of texts in the joint space; `passage.text` where the two spaces are one, so
            that one row serves both fields.
    """

    def __init__(
        self,
        *,
        text: TextSettings,
        image: ImageSettings,
        image_spec: ImageSpec,
        tokenizer: Tokenizer,
        joint_text_encoder: str,
    ) -> None:
        self._tools = DecoderContext(text, image, image_spec, tokenizer, joint_text_encoder)
        set_pixel_limit(image.max_pixels)

    def decode(
        self,
        fetched: Sequence[FetchedMedia],
        rejected: Sequence[Rejected] = (),
        tombstones: Sequence[Event] = (),
    ) -> tuple[Decoded, dict[str, EncoderInput]]:
        """Decodes every asset of a batch; those that cannot be are rejected, and take no other along.

        Args:
            fetched: events with their media.
            rejected: what earlier steps refused; handed on.
            tombstones: events that delete; handed on.

        Returns:
            the batch, and by encoder what it has to encode: texts, or uint8[n, size_px, size_px, 3].

        Raises:
            TransientError: what a decoder needs is away; the batch is worth trying again.
        """
        inputs = EncoderInputs()
        indexable: list[Event] = []
        drafts: list[PendingEntry] = []
        refused = list(rejected)
        for one in fetched:
            outcome = self._decode_one(one)
            if isinstance(outcome, Rejected):
                refused.append(outcome)
                continue
            found = outcome.title and not one.event.title
            event = replace(one.event, title=outcome.title) if found else one.event
            indexable.append(event)
            drafts.extend(_drafts(event, one, outcome, inputs))
        return Decoded(tuple(indexable), tuple(tombstones), tuple(drafts), tuple(refused)), inputs.by_encoder()

    def _decode_one(self, fetched: FetchedMedia) -> DecodedAsset | Rejected:
        position, modality = fetched.event.position, fetched.event.modality
        try:
            decoder = DECODERS.get(modality)
            if decoder is None:
                raise BadInputError(Reason.UNSUPPORTED, f"this version decodes no {modality}")
            return decoder(fetched, self._tools)
        except TransientError:
            raise
        except Exception as exc:
            return to_rejection(position, fetched.mime, exc)


def to_rejection(position: Position, mime: str, exc: Exception) -> Rejected:
    """What a decoder's exception means for the event; a surprise stands in the log with its traceback."""
    if isinstance(exc, BadInputError):
        return Rejected(position, "decode", exc.reason, str(exc))
    if isinstance(exc, MemoryError):
        detail = f"{mime}: decoding it takes more memory than there is"
        return Rejected(position, "decode", Reason.TOO_LARGE, detail)
    logger.error("decoding %s (%s) failed in a way that is not foreseen", position, mime, exc_info=exc)
    return Rejected(
        position, "decode", Reason.CORRUPT, f"{mime} on which its decoder fails: {type(exc).__name__}: {exc}"
    )


# --- one decoder a modality ------------------------------------------------------------------------------------------


def _decode_image_asset(fetched: FetchedMedia, tools: DecoderContext) -> DecodedAsset:
    pixels = decode_image(fetched, spec=tools.image_spec, settings=tools.image)
    item = EncoderItem(fetched.sha256, pixels)
    return DecodedAsset("", (DecodedPart(Collection.IMAGE, ((Field.JOINT, JOINT_IMAGE, item),)),))


def _decode_text_asset(fetched: FetchedMedia, tools: DecoderContext) -> DecodedAsset:
    document = decode_text(fetched, settings=tools.text, tokenizer=tools.tokenizer)
    parts = []
    for passage in document.passages:
        item = EncoderItem(hashlib.sha256(passage.text.encode()).hexdigest(), passage.text)
        vectors = ((Field.PASSAGE, PASSAGE_TEXT, item), (Field.JOINT, tools.joint_text_encoder, item))
        parts.append(
            DecodedPart(
                Collection.TEXT,
                vectors,
                text=passage.text,
                start_char=passage.start_char,
                end_char=passage.end_char,
            )
        )
    return DecodedAsset(document.title, tuple(parts))


DECODERS: Mapping[Modality, Callable[[FetchedMedia, DecoderContext], DecodedAsset]] = {
    Modality.TEXT: _decode_text_asset,
    Modality.IMAGE: _decode_image_asset,
}
"""Raises of a decoder: `BadInputError` for what is the media's fault, `TransientError` for what is not."""


# --- gathering -------------------------------------------------------------------------------------------------------


class EncoderInputs:
    """The encoders' inputs of a batch, in order of arrival; an item that comes twice has one row."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[str, int]] = {}
        self._contents: dict[str, list[str | UInt8]] = {}

    def row(self, encoder: str, item: EncoderItem) -> int:
        rows = self._rows.setdefault(encoder, {})
        if item.key not in rows:
            rows[item.key] = len(rows)
            self._contents.setdefault(encoder, []).append(item.content)
        return rows[item.key]

    def by_encoder(self) -> dict[str, EncoderInput]:
        return {
            encoder: _encoder_input(encoder, tuple(rows), self._contents[encoder])
            for encoder, rows in self._rows.items()
        }


def _encoder_input(encoder: str, keys: tuple[str, ...], contents: Sequence[str | UInt8]) -> EncoderInput:
    texts = tuple(content for content in contents if isinstance(content, str))
    if texts:
        return EncoderInput(encoder, keys, texts=texts)
    return EncoderInput(
        encoder, keys, pixels=np.stack([content for content in contents if not isinstance(content, str)])
    )


def _drafts(event: Event, fetched: FetchedMedia, asset: DecodedAsset, inputs: EncoderInputs) -> list[PendingEntry]:
    """Parts are numbered within their collection, from 0 without gaps."""
    counts: dict[Collection, int] = {}
    drafts = []
    for part in asset.parts:
        number = counts.get(part.collection, 0)
        counts[part.collection] = number + 1
        drafts.append(
            PendingEntry(
                event,
                part.collection,
                number,
                fetched.mime,
                fetched.uri,
                text=part.text,
                start_ms=part.start_ms,
                end_ms=part.end_ms,
                start_char=part.start_char,
                end_char=part.end_char,
                vectors=tuple((field, encoder, inputs.row(encoder, item)) for field, encoder, item in part.vectors),
            )
        )
    return drafts
