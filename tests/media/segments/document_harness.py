"""A decoder of documents whose pages are scripted, for the tests of this folder."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from PIL import Image

from penstock.assets import sha256_of
from penstock.config import DocumentSettings, LongMediaSettings, TextSettings
from penstock.encoders.base import ImageSpec
from penstock.media.documents.limits import DocumentLimits
from penstock.media.documents.types import DocumentPage, DocumentPages, DocumentType, Figure
from penstock.media.segments.documents import DocumentDecoder
from penstock.records import (
    AssetRef,
    Checkpoint,
    ClaimCheck,
    Decoded,
    EncoderInput,
    Event,
    FetchedMedia,
    Modality,
    PendingEntry,
    Position,
    Rejected,
    UInt8,
)
from tests.media.conftest import WordTokenizer

SPEC = ImageSpec(32, "shortest", "bicubic", 0, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
OCR_SIDE_PX = 200


def page(number: int, text: str = "", **more: Any) -> DocumentPage:
    return DocumentPage(number, more.pop("label", ""), text, **more)


def pixels(shade: int, width: int = 120, height: int = 80) -> UInt8:
    """An image of one shade."""
    return np.full((height, width, 3), shade, dtype=np.uint8)


def figures(*shades: int) -> tuple[Figure, ...]:
    return tuple(Figure(number, pixels(shade)) for number, shade in enumerate(shades, 1))


@dataclass
class ScriptedReader:
    """Reads pages as `read_pages` does, of documents that are known by their bytes.

    Attributes:
        documents: pages by bytes.
        short: the most pages of the next calls; then as many as are requested.
        calls: first page and count of each call.
    """

    documents: dict[bytes, Sequence[DocumentPage]]
    short: Iterator[int] = field(default_factory=lambda: iter(()))
    title: str = ""
    author: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.calls: list[tuple[int, int]] = []

    def __call__(
        self, data: bytes, kind: DocumentType, *, first: int, count: int, limits: DocumentLimits
    ) -> DocumentPages:
        self.calls.append((first, count))
        pages = self.documents[data]
        read = tuple(pages[first - 1 : first - 1 + min(count, next(self.short, count))])
        is_last = first - 1 + len(read) == len(pages)
        return DocumentPages(self.title, self.author, kind, len(pages), first, read, is_last, self.notes)


class DocumentHarness:
    """A decoder of documents with what it may fetch, restarted at will."""

    def __init__(self, **options: Any) -> None:
        self.reader: Any = ScriptedReader({})
        self.fetches: list[str] = []
        self.thumbnails: dict[str, bytes] = {}
        self.media: dict[str, FetchedMedia] = {}
        self.clock: Callable[[], float] = lambda: 0.0
        self.image_texts: dict[str, int] = {}
        self.documents = DocumentSettings(segment_pages=options.pop("segment_pages", 3))
        self.text = TextSettings(max_passage_tokens=20, overlap_tokens=0)
        self.long_media = LongMediaSettings(**options)
        self.restart()

    def restart(self) -> DocumentDecoder:
        """Starts a worker that knows nothing of those before."""
        self.decoder = DocumentDecoder(
            documents=self.documents,
            text=self.text,
            long_media=self.long_media,
            image_spec=SPEC,
            tokenizer=WordTokenizer(),
            joint_text_encoder="joint.text",
            image_texts=self.image_texts,
            put_thumbnail=self._put,
            read=self.reader,
            clock=self.clock,
        )
        return self.decoder

    def _put(self, data: bytes) -> str:
        uri = f"asset:{len(self.thumbnails):064x}"
        known = next((known for known, other in self.thumbnails.items() if other == data), uri)
        assert sha256_of(known)
        self.thumbnails[known] = data
        return known

    def add(self, *pages: DocumentPage, key: str = "book", data: bytes | None = None, title: str = "") -> Event:
        """Adds a document of scripted pages."""
        data = f"%PDF of {key}".encode() if data is None else data
        self.reader.documents[data] = pages
        return self.add_bytes(data, "application/pdf", key, title)

    def add_bytes(self, data: bytes, mime: str, key: str = "book", title: str = "") -> Event:
        at = Position("media.document", 0, len(self.media))
        payload = ClaimCheck("https://host/" + key)
        event = Event(AssetRef("default", at.topic, key), at, at, 1, Modality.DOCUMENT, payload, title=title)
        self.media[event.asset.id] = FetchedMedia(event, data, mime, f"sha of {data!r}"[:64], f"asset:{key}")
        return event

    def replace_bytes(self, event: Event, *pages: DocumentPage) -> None:
        """Changes what the address of an event's media returns."""
        data = b"%PDF changed"
        self.reader.documents[data] = pages
        old = self.media[event.asset.id]
        self.media[event.asset.id] = replace(old, data=data, sha256="changed")

    def fetch(self, event: Event) -> FetchedMedia | Rejected:
        self.fetches.append(event.asset.key)
        return self.media[event.asset.id]

    def decode(
        self, *events: Event, checkpoints: Sequence[Checkpoint] = (), keep_open: bool = True
    ) -> tuple[Decoded, dict[str, EncoderInput]]:
        return self.decoder.decode(events, checkpoints, self.fetch, keep_open=keep_open)

    def decode_all(
        self, event: Event, before: Callable[[], object] = lambda: None
    ) -> tuple[list[PendingEntry], list[Checkpoint]]:
        """Decodes all segments; returns the entries, with keys of inputs for rows, and the checkpoints.

        `before` is called before each segment.
        """
        entries, checkpoints = list[PendingEntry](), list[Checkpoint]()
        while True:
            before()
            decoded, inputs = self.decode(event, checkpoints=checkpoints[-1:])
            assert not decoded.rejected, decoded.rejected
            entries += (with_keys(entry, inputs) for entry in decoded.pending)
            checkpoints += decoded.checkpoints
            if not decoded.checkpoints or decoded.checkpoints[0].finished:
                return entries, checkpoints


def with_keys(entry: PendingEntry, inputs: dict[str, EncoderInput]) -> Any:
    """Returns an entry that names its inputs by their content and not by their row in a batch."""
    vectors = tuple((field, encoder, inputs[encoder].keys[row]) for field, encoder, row in entry.vectors)
    words = tuple((role, inputs[role].keys[row]) for role, row in entry.words)
    return replace(entry, vectors=vectors, words=words)  # type: ignore[arg-type]


def size_of(jpeg: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(jpeg)) as image:
        assert image.format == "JPEG"
        return image.size
