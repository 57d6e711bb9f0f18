"""Steps 2 and 3 of documents: reads the next pages of each, and makes entries of their passages and images.

A document of a few pages is one segment. A longer one gets a `Checkpoint` with each segment, from which any worker can
read the next pages. Pages are parsed in a process of their own (`media.documents.reader`). The entries are the same
however a document is divided into segments: passages end with their page, and an image that is on many pages, such as a
logo, is an entry of the first of them alone.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace

from PIL import Image

from penstock.config import DocumentSettings, LongMediaSettings, TextSettings
from penstock.encoders.base import ImageSpec, Tokenizer
from penstock.encoders.profiles import JOINT_IMAGE, PASSAGE_TEXT
from penstock.errors import Reason, TransientError
from penstock.media.decode import EncoderInputs, EncoderItem, to_rejection
from penstock.media.documents.limits import DocumentLimits
from penstock.media.documents.reader import read_pages
from penstock.media.documents.types import DocumentPages, Page, document_type
from penstock.media.image import fit_image, reduce_to
from penstock.media.segments.decoder import Fetch
from penstock.media.text.passages import cut_passages, normalize_text
from penstock.media.thumbnail import jpeg_thumbnail
from penstock.records import (
    Checkpoint,
    ClaimCheck,
    Collection,
    Decoded,
    EncoderInput,
    Event,
    FetchedMedia,
    Field,
    MediaPosition,
    PendingEntry,
    Rejected,
    UInt8,
)

logger = logging.getLogger(__name__)

PAGE_COUNT_ATTRIBUTE, AUTHOR_ATTRIBUTE = "page_count", "author"
MIN_PAGE_LETTERS = 20  # a page with fewer, and an image, is a scan: what can be read of it are page numbers and stamps
# Images of a batch that go to the models of words in full size; those of an A4 page of 1,024 px have 2.2 MB.
_MAX_WHOLE_IMAGE_BYTES = 64 * 2**20
THUMBNAIL_PX = 800  # longer side of the images that are kept: what is large on a page can be read
_PAGE_GAP = 2  # characters between the texts of two pages
_MAX_KEPT_BYTES = 256 * 2**20  # of documents between two segments; one of any size is kept
# Images of a document that are recognised when they are repeated. Their keys take 15 KB of a row's 64 KB of JSON.
MAX_KNOWN_FIGURES = 1_000
_FIGURE_KEY_DIGITS = 12


class DocumentDecoder:
    """Decodes documents, some pages at a time. A decode worker owns one. Not thread-safe.

    Args:
        documents, text, long_media: limits of pages, passages and segments.
        image_spec: the input size and preprocessing of the image encoder.
        tokenizer: counts tokens as the sentence encoder does.
        joint_text_encoder: the encoder of texts in the joint space.
        image_texts: as of `Decoder`: the roles of the models that give an image's words.
        put_thumbnail: stores a JPEG and returns its address. Raises `TransientError`.
        read: reads pages.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        *,
        documents: DocumentSettings,
        text: TextSettings,
        long_media: LongMediaSettings,
        image_spec: ImageSpec,
        tokenizer: Tokenizer,
        joint_text_encoder: str,
        image_texts: Mapping[str, int],
        put_thumbnail: Callable[[bytes], str],
        read: Callable[..., DocumentPages] = read_pages,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._segment_pages = documents.segment_pages
        self._limits = DocumentLimits.from_settings(documents)
        self._long_media = long_media
        self._read = read
        self._clock = clock
        self._composer = _PageComposer(text, tokenizer, joint_text_encoder, image_spec, image_texts, put_thumbnail)
        self._settings_hash = _settings_hash(documents, text, image_spec, image_texts)
        self._kept: dict[str, FetchedMedia] = {}  # of documents that are not finished, the least recently used first

    def decode(
        self,
        events: Sequence[Event],
        checkpoints: Sequence[Checkpoint],
        fetch: Fetch,
        *,
        keep_open: bool = True,
    ) -> tuple[Decoded, dict[str, EncoderInput]]:
        """Decodes the next pages of each event. An event that cannot be decoded is rejected alone.

        Args:
            events: of documents; tombstones are passed through.
            checkpoints: those of events that have segments already. One of other settings is ignored, and its event
                starts again.
            fetch: fetches the media of one event, or rejects it.
            keep_open: keep the bytes of documents that are not finished.

        Returns:
            the segments, and by encoder its input.

        Raises:
            TransientError: a dependency is unavailable; the batch can be retried.
        """
        valid = {
            checkpoint.asset.id: checkpoint
            for checkpoint in checkpoints
            if checkpoint.settings_hash == self._settings_hash
        }
        batch, deadline_s = _PageBatch(), self._clock() + self._long_media.max_worker_s
        for event in events:
            if event.is_tombstone:
                batch.tombstones.append(event)
                continue
            is_late = self._clock() > deadline_s or batch.whole_image_bytes > _MAX_WHOLE_IMAGE_BYTES
            count = 1 if is_late else self._segment_pages
            rejection = self._decode_or_reject(event, valid.get(event.asset.id), fetch, batch, count)
            if rejection is not None:
                batch.rejected.append(rejection)
        self._drop_kept(self._long_media.max_open if keep_open else 0)
        return batch.decoded(), batch.inputs.by_encoder()

    def _drop_kept(self, max_kept: int) -> None:
        """Drops the bytes of documents that have waited longest for their next segment."""
        kept_bytes = sum(len(fetched.data) for fetched in self._kept.values())
        while len(self._kept) > max_kept or (len(self._kept) > 1 and kept_bytes > _MAX_KEPT_BYTES):
            kept_bytes -= len(self._kept.pop(next(iter(self._kept))).data)

    def _decode_or_reject(
        self, event: Event, checkpoint: Checkpoint | None, fetch: Fetch, batch: _PageBatch, count: int
    ) -> Rejected | None:
        """Adds the next pages of one event to the batch, or returns its rejection.

        1. Take the bytes that the previous segment left here; else fetch them.
        2. Read pages in a child process, and make entries of them.
        3. Keep the bytes if there are more pages.
        """
        mime, name = str(event.modality), _name(event)
        try:
            fetched = self._kept.pop(name, None) or fetch(event)  # 1
            if isinstance(fetched, Rejected):
                return fetched
            mime = fetched.mime
            if checkpoint is not None and checkpoint.media_sha256 != fetched.sha256:
                logger.warning("the bytes of %s have changed since its checkpoint; it starts again", event.asset)
                checkpoint = None
            first = 1 + (checkpoint.position.page if checkpoint else 0)
            kind = document_type(mime)
            pages = self._read(fetched.data, kind, first=first, count=count, limits=self._limits)  # 2
            segment, entries = self._segment(event, fetched, checkpoint, pages, batch)
            if segment.finished and not any(segment.counts.values()):
                detail = f"{mime}: none of its {pages.page_count:,} pages has text or images"
                return Rejected(event.position, "decode", Reason.CORRUPT, detail)
            batch.add(entries, segment, is_whole=checkpoint is None and segment.finished)
            if not segment.finished:  # 3
                self._kept[name] = fetched
        except TransientError:
            raise
        except Exception as exc:
            return to_rejection(event.position, mime, exc)
        return None

    def _segment(
        self,
        event: Event,
        fetched: FetchedMedia,
        before: Checkpoint | None,
        pages: DocumentPages,
        batch: _PageBatch,
    ) -> tuple[Checkpoint, _SegmentEntries]:
        """Returns the entries of pages, and the checkpoint after those that it took: not all if they have large images.

        The inputs of the encoders are added to the batch.
        """
        start = before.position if before else MediaPosition()
        entries = _SegmentEntries(
            _indexed_event(event, fetched, pages),
            fetched,
            _attributes(event, pages),
            dict(before.counts) if before else {},
            dict.fromkeys(before.figures) if before else {},
        )
        position = start
        for page in pages.pages:
            if page.number > pages.first and batch.whole_image_bytes > _MAX_WHOLE_IMAGE_BYTES:
                break
            if page.damage:
                logger.warning("page %d of %s: %s", page.number, event.asset, page.damage)
            chars = self._composer.add(page, position.char, entries, batch)
            position = replace(position, page=page.number, char=position.char + chars + _PAGE_GAP)
        finished = pages.is_last and position.page == pages.pages[-1].number
        for note in pages.notes if finished else ():
            logger.warning("%s: %s", event.asset, note)
        checkpoint = Checkpoint(
            asset=event.asset,
            version=event.version,
            position=position,
            counts=entries.counts,
            settings_hash=self._settings_hash,
            uri=fetched.uri,
            media_sha256=fetched.sha256,
            start=start,
            figures=tuple(entries.figures),
            finished=finished,
        )
        return checkpoint, entries


@dataclass(slots=True)
class _PageBatch:
    """Collects the segments of a batch."""

    inputs: EncoderInputs = field(default_factory=EncoderInputs)
    indexable: list[Event] = field(default_factory=list)
    tombstones: list[Event] = field(default_factory=list)
    pending: list[PendingEntry] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    checkpoints: list[Checkpoint] = field(default_factory=list)
    whole_image_bytes: int = 0

    def add(self, entries: _SegmentEntries, checkpoint: Checkpoint, *, is_whole: bool) -> None:
        """Adds a segment. One that is the whole document needs no checkpoint."""
        self.indexable.append(entries.event)
        self.pending += entries.pending
        if not is_whole:
            self.checkpoints.append(checkpoint)

    def decoded(self) -> Decoded:
        return Decoded(
            tuple(self.indexable),
            tuple(self.tombstones),
            tuple(self.pending),
            tuple(self.rejected),
            tuple(self.checkpoints),
        )


@dataclass(slots=True)
class _SegmentEntries:
    """Numbers the entries of an event's segment behind those of earlier ones."""

    event: Event
    fetched: FetchedMedia
    attributes_json: str
    counts: dict[Collection, int]
    figures: dict[str, None]  # keys of those that have an entry, in order
    pending: list[PendingEntry] = field(default_factory=list)

    def is_new(self, pixels: UInt8) -> bool:
        """Returns whether an image has not been on an earlier page, and remembers it; the first `MAX_KNOWN_FIGURES`."""
        key = _pixels_key(pixels)[:_FIGURE_KEY_DIGITS]
        if key in self.figures:
            return False
        if len(self.figures) < MAX_KNOWN_FIGURES:
            self.figures[key] = None
        return True

    def next(self, collection: Collection, page: Page) -> PendingEntry:
        """Returns an entry of a page that has only its place."""
        part = self.counts.get(collection, 0)
        self.counts[collection] = part + 1
        return PendingEntry(
            self.event,
            collection,
            part,
            self.fetched.mime,
            self.fetched.uri,
            page=page.number,
            page_label=page.label,
            attributes_json=self.attributes_json,
        )


@dataclass(frozen=True, slots=True)
class _PageComposer:
    """Makes entries of pages; see `DocumentDecoder`."""

    text: TextSettings
    tokenizer: Tokenizer
    joint_text_encoder: str
    image_spec: ImageSpec
    image_texts: Mapping[str, int]
    put_thumbnail: Callable[[bytes], str]

    def add(self, page: Page, first_char: int, entries: _SegmentEntries, batch: _PageBatch) -> int:
        """Adds the passages and images of a page; returns the characters of its text.

        A passage has the thumbnail of its page, so that it can be shown there.

        The words of a scanned page and of the images on a page come from the models that read images.
        """
        text = normalize_text(page.text)
        images = [
            replace(
                self._image_entry(entries.next(Collection.PAGE, page), pixels, batch, is_read=is_read),
                figure=number,
                text=normalize_text(alt),
            )
            for number, pixels, alt, is_read in _images(page, text)
            if not number or entries.is_new(pixels)
        ]
        shown = next((entry.thumbnail for entry in images if entry.figure == 0), "")
        for passage in cut_passages(text, settings=self.text, tokenizer=self.tokenizer) if text else ():
            item = EncoderItem(hashlib.sha256(passage.text.encode()).hexdigest(), passage.text)
            entries.pending.append(
                replace(
                    entries.next(Collection.TEXT, page),
                    text=passage.text,
                    start_char=first_char + passage.start_char,
                    end_char=first_char + passage.end_char,
                    thumbnail=shown,
                    vectors=(
                        (Field.PASSAGE, PASSAGE_TEXT, batch.inputs.row(PASSAGE_TEXT, item)),
                        (Field.JOINT, self.joint_text_encoder, batch.inputs.row(self.joint_text_encoder, item)),
                    ),
                )
            )
        entries.pending += images
        return len(text)

    def _image_entry(self, entry: PendingEntry, pixels: UInt8, batch: _PageBatch, *, is_read: bool) -> PendingEntry:
        image = Image.fromarray(pixels)
        key = _pixels_key(pixels)
        row = batch.inputs.row(JOINT_IMAGE, EncoderItem(key, fit_image(image, self.image_spec)))
        words = []
        for role, side_px in self.image_texts.items() if is_read else ():
            whole = pixels if max(pixels.shape) <= side_px else reduce_to(image, side_px)
            batch.whole_image_bytes += whole.nbytes
            words.append((role, batch.inputs.row(role, EncoderItem(key, whole, is_whole=True))))
        return replace(
            entry,
            thumbnail=self.put_thumbnail(jpeg_thumbnail(image, THUMBNAIL_PX)),
            vectors=((Field.JOINT, JOINT_IMAGE, row),),
            words=tuple(words),
        )


def _images(page: Page, text: str) -> Iterator[tuple[int, UInt8, str, bool]]:
    """Yields the images of a page: number, pixels, description, and whether models read them.

    A page with text is not read once more. Of a scanned page the image alone is an entry: the one that is embedded in
    it shows the same.
    """
    is_scan = page.image is not None and sum(character.isalpha() for character in text) < MIN_PAGE_LETTERS
    if page.image is not None:
        yield 0, page.image, "", is_scan
    if is_scan and len(page.figures) == 1:
        return
    for figure in page.figures:
        yield figure.number, figure.pixels, figure.alt, not is_scan


def _pixels_key(pixels: UInt8) -> str:
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()


def _indexed_event(event: Event, fetched: FetchedMedia, pages: DocumentPages) -> Event:
    """Returns the event as it is indexed: without its bytes, and with the document's title if it has no other."""
    own = event if event.title or not pages.title else replace(event, title=pages.title, has_media_title=True)
    return replace(own, payload=ClaimCheck(fetched.uri))


def _attributes(event: Event, pages: DocumentPages) -> str:
    """Returns the attributes of a document's entries: those of its event, its author and the number of its pages."""
    known = {PAGE_COUNT_ATTRIBUTE: pages.page_count} | ({AUTHOR_ATTRIBUTE: pages.author} if pages.author else {})
    return json.dumps({**known, **json.loads(event.attributes_json)}, ensure_ascii=False)


def _settings_hash(
    documents: DocumentSettings, text: TextSettings, image: ImageSpec, image_texts: Mapping[str, int]
) -> str:
    """Returns a hash of all that determines the entries, which a checkpoint records."""
    values = (
        documents.model_dump(mode="json"),
        text.model_dump(mode="json"),
        astuple(image),
        sorted(image_texts.items()),
    )
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]


def _name(event: Event) -> str:
    """Names the media of one version of an asset."""
    return f"{event.asset.id}-{event.version.partition}-{event.version.offset}"
