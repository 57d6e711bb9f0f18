"""Step 3: decodes media into pending entries, and collects the inputs of the encoders for them.

`DECODERS` has one decoder for each modality without segments; a new modality in `records.MODALITIES` is a new function
there. Each turns one asset into parts, and names for each part the encoder items that its vectors come from. `Decoder`
collects the items of a whole batch, each distinct item once. Long media are decoded by `media.segments`.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from penstock.config import ImageSettings, TextSettings
from penstock.encoders.base import ImageSpec, Tokenizer
from penstock.encoders.profiles import JOINT_IMAGE, PASSAGE_TEXT
from penstock.errors import BadInputError, Reason, TransientError
from penstock.media.given_vectors import PREFIX, GivenVectors, KnownEncoder
from penstock.media.image import decode_image_at_sizes, set_pixel_limit
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


@dataclass(frozen=True, slots=True)
class DecoderContext:
    """The settings and models that the decoders of all modalities share; see `Decoder`."""

    text: TextSettings
    image: ImageSettings
    image_spec: ImageSpec
    tokenizer: Tokenizer
    joint_text_encoder: str
    image_texts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class EncoderItem:
    """A text or uint8[height, width, 3] of pixels to encode, with the hash of its content as key.

    `is_whole` marks an image of any size; else all images of an encoder have one size.
    """

    key: str
    content: str | UInt8
    is_whole: bool = False


@dataclass(frozen=True, slots=True)
class DecodedPart:
    """One entry of an asset, such as a passage or an image. The fields are those of `PendingEntry`.

    Attributes:
        vectors: for each vector field the encoder that fills it and the item that it encodes.
        words: the models that give its words, each with the item that it takes.
    """

    collection: Collection
    vectors: tuple[tuple[Field, str, EncoderItem], ...]
    words: tuple[tuple[str, EncoderItem], ...] = ()
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
    """Decodes batches of text and images. A decode worker owns one. Not thread-safe if the tokenizer is not.

    Args:
        text, image: limits, and how text is cut.
        image_spec: the input size and preprocessing of the image encoder.
        tokenizer: counts tokens as the sentence encoder does.
        joint_text_encoder: the encoder of texts in the joint space; `passage.text` where both spaces are the same, so
            that one row serves both fields.
        image_texts: the roles of the models that give an image's words, each with the longer side of the image that it
            takes, pixels.
        known_encoders: returns those of the index by role, once a vector has come with an event; None: such events
            are encoded again.
    """

    def __init__(
        self,
        *,
        text: TextSettings,
        image: ImageSettings,
        image_spec: ImageSpec,
        tokenizer: Tokenizer,
        joint_text_encoder: str,
        image_texts: Mapping[str, int] | None = None,
        known_encoders: Callable[[], Mapping[str, KnownEncoder]] | None = None,
    ) -> None:
        self._context = DecoderContext(text, image, image_spec, tokenizer, joint_text_encoder, image_texts or {})
        self._known_encoders = known_encoders or dict
        set_pixel_limit(image.max_pixels)

    def decode(
        self,
        fetched: Sequence[FetchedMedia],
        rejected: Sequence[Rejected] = (),
        tombstones: Sequence[Event] = (),
    ) -> tuple[Decoded, dict[str, EncoderInput]]:
        """Decodes every asset of a batch. An asset that cannot be decoded is rejected alone.

        Args:
            fetched: events with their media.
            rejected: rejections of earlier steps, passed through.
            tombstones: events that delete, passed through.

        Returns:
            the batch, and by encoder its input: texts, uint8[n, size_px, size_px, 3], or whole images.

        Raises:
            TransientError: a dependency of a decoder is unavailable; the batch can be retried.
        """
        inputs, given = EncoderInputs(), GivenVectors(self._known_encoders)
        indexable: list[Event] = []
        pending: list[PendingEntry] = []
        rejections = list(rejected)
        for media in fetched:
            decoded = self._decode_or_reject(media, given)
            if isinstance(decoded, Rejected):
                rejections.append(decoded)
                continue
            asset, rows = decoded
            event = media.event
            if event.vectors:  # they have served
                event = replace(event, vectors=(), vectors_hash=event.hash_of_vectors())
            if asset.title and not event.title:
                event = replace(event, title=asset.title, has_media_title=True)
            indexable.append(event)
            pending.extend(_pending_entries(event, media, asset, inputs, rows))
        parts = tuple(indexable), tuple(tombstones), tuple(pending), tuple(rejections)
        return Decoded(*parts, given=given.encoded()), inputs.by_encoder()

    def _decode_or_reject(
        self, fetched: FetchedMedia, given: GivenVectors
    ) -> tuple[DecodedAsset, Mapping[str, int]] | Rejected:
        """Returns an asset with the rows of the vectors that came with it, or its rejection."""
        modality = fetched.event.modality
        try:
            decoder = DECODERS.get(modality)
            if decoder is None:
                raise BadInputError(Reason.UNSUPPORTED, f"this version has no decoder for {modality}")
            asset = decoder(fetched, self._context)
            items = ((encoder, item.key) for part in asset.parts for _, encoder, item in part.vectors)
            return asset, given.rows_of(fetched.event, items)
        except TransientError:
            raise
        except Exception as exc:
            return to_rejection(fetched.event.position, fetched.mime, exc)


def to_rejection(position: Position, mime: str, exc: Exception) -> Rejected:
    """Converts a decoder's exception to a rejection. An unexpected one is logged with its traceback."""
    if isinstance(exc, BadInputError):
        return Rejected(position, "decode", exc.reason, str(exc))
    if isinstance(exc, MemoryError):
        return Rejected(position, "decode", Reason.TOO_LARGE, f"{mime}: not enough memory to decode it")
    logger.error("unexpected error while decoding %s (%s); the event is rejected", position, mime, exc_info=exc)
    detail = f"{mime}: its decoder failed: {type(exc).__name__}: {exc}"
    return Rejected(position, "decode", Reason.CORRUPT, detail)


# --- one decoder a modality ------------------------------------------------------------------------------------------


def _decode_image_asset(fetched: FetchedMedia, context: DecoderContext) -> DecodedAsset:
    pixels, images = decode_image_at_sizes(
        fetched, spec=context.image_spec, settings=context.image, longest_px=tuple(context.image_texts.values())
    )
    words = tuple(
        (role, EncoderItem(fetched.sha256, image, is_whole=True))
        for role, image in zip(context.image_texts, images, strict=True)
    )
    vectors = ((Field.JOINT, JOINT_IMAGE, EncoderItem(fetched.sha256, pixels)),)
    return DecodedAsset("", (DecodedPart(Collection.IMAGE, vectors, words),))


def _decode_text_asset(fetched: FetchedMedia, context: DecoderContext) -> DecodedAsset:
    document = decode_text(fetched, settings=context.text, tokenizer=context.tokenizer)
    parts = []
    for passage in document.passages:
        item = EncoderItem(hashlib.sha256(passage.text.encode()).hexdigest(), passage.text)
        vectors = ((Field.PASSAGE, PASSAGE_TEXT, item), (Field.JOINT, context.joint_text_encoder, item))
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


# A decoder raises `BadInputError` for a fault of the media, and `TransientError` for one of a dependency.
DECODERS: Mapping[Modality, Callable[[FetchedMedia, DecoderContext], DecodedAsset]] = {
    Modality.TEXT: _decode_text_asset,
    Modality.IMAGE: _decode_image_asset,
}


# --- inputs of the encoders ------------------------------------------------------------------------------------------


class EncoderInputs:
    """The encoders' inputs of a batch, in order of arrival. An item that comes twice has one row."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[str, int]] = {}
        self._contents: dict[str, list[str | UInt8]] = {}
        self._whole: set[str] = set()  # encoders that take images of any size

    def row(self, encoder: str, item: EncoderItem) -> int:
        """Returns the row of an item in the encoder's input, and adds the item if it is new."""
        rows = self._rows.setdefault(encoder, {})
        if item.key not in rows:
            rows[item.key] = len(rows)
            self._contents.setdefault(encoder, []).append(item.content)
            if item.is_whole:
                self._whole.add(encoder)
        return rows[item.key]

    def by_encoder(self) -> dict[str, EncoderInput]:
        """Returns the inputs of all encoders that have any."""
        return {
            encoder: _encoder_input(encoder, tuple(rows), self._contents[encoder], encoder in self._whole)
            for encoder, rows in self._rows.items()
        }


def _encoder_input(
    encoder: str, keys: tuple[str, ...], contents: Sequence[str | UInt8], is_whole: bool
) -> EncoderInput:
    texts = tuple(content for content in contents if isinstance(content, str))
    if texts:
        return EncoderInput(encoder, keys, texts=texts)
    images = tuple(content for content in contents if not isinstance(content, str))
    if is_whole:
        return EncoderInput(encoder, keys, images=images)
    return EncoderInput(encoder, keys, pixels=np.stack(images))


def _pending_entries(
    event: Event, fetched: FetchedMedia, asset: DecodedAsset, inputs: EncoderInputs, given: Mapping[str, int]
) -> list[PendingEntry]:
    """Returns the parts as entries, numbered within their collection from 0 without gaps.

    `given` has the rows of vectors that stand for the items of an encoder.
    """
    counts: dict[Collection, int] = {}
    entries = []
    for part in asset.parts:
        number = counts.get(part.collection, 0)
        counts[part.collection] = number + 1
        entries.append(
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
                vectors=tuple(
                    (field, f"{PREFIX}{encoder}", given[encoder])
                    if encoder in given
                    else (field, encoder, inputs.row(encoder, item))
                    for field, encoder, item in part.vectors
                ),
                words=tuple((role, inputs.row(role, item)) for role, item in part.words),
            )
        )
    return entries
