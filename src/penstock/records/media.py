"""Fetched, decoded and encoded media, and how far long media have been indexed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from penstock.records.events import AssetRef, Event, Rejected, Version
from penstock.records.fast_pickle import FastPickle
from penstock.records.taxonomy import Collection, Field

Float32: TypeAlias = NDArray[np.float32]
UInt8: TypeAlias = NDArray[np.uint8]

END_OF_TRACK = -1


@dataclass(frozen=True, slots=True)
class FetchedMedia(FastPickle):
    """An event with the bytes of its media.

    Attributes:
        event: the event, its payload replaced by a claim check to `uri`, so that the bytes are held once.
        data: the bytes of the media.
        mime: the type detected from the bytes.
        sha256: hexadecimal digest of `data`; the name of the media in the asset store.
        uri: where the media can be fetched again: the claim check's address, or `asset:<sha256>` for inline media.
    """

    event: Event
    data: bytes = field(repr=False)
    mime: str
    sha256: str
    uri: str


@dataclass(frozen=True, slots=True)
class ImageRegion:
    """A rectangle of an upright image, in shares of its sides.

    Attributes:
        x, y: the upper left corner, 0 to 1.
        width, height: above 0; the rectangle ends within the image.
    """

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class MediaPosition(FastPickle):
    """The position up to which audio or video has been read, in milliseconds, or a document, in pages.

    Attributes:
        audio_ms: everything before this time of the audio track has been returned.
        video_ms: everything before this time of the video track has been returned.
        scanned_ms: end of the scanned range; speech or a shot in progress there has not been returned yet.
        page: pages of a document that have been read; 0 for other media.
        char: characters of their text, from which the offsets of later passages count.

    `END_OF_TRACK` stands for a track that has been read to its end, or that the file does not have.
    """

    audio_ms: int = 0
    video_ms: int = 0
    scanned_ms: int = 0
    page: int = 0
    char: int = 0


@dataclass(frozen=True, slots=True)
class PendingEntry(FastPickle):
    """An entry that still lacks its vectors.

    Over the limit because an entry has this many columns.

    Attributes:
        event: the event it comes from, whose payload is a claim check to `uri`.
        collection: the collection it will be written to.
        part: its number within asset and collection, from 0 without gaps.
        mime, uri: of the asset it belongs to.
        text: passage, transcript, caption or description; what BM25 reads, before `words`.
        start_ms, end_ms: its range in audio or video, milliseconds; 0 and 0 for entries without one.
        start_char, end_char: its range in the decoded text, characters; 0 and 0 for entries without one.
        thumbnail: address of its thumbnail; empty if there is none.
        page, page_label, figure: its place in a document; see `Entry`.
        attributes_json: of the entry, where they are more than the event's; else empty.
        vectors: for each vector field the name of the encoder input (`EncoderInput.encoder`) and the row in it.
        words: the inputs of the models that give the entry's words, each with the row in it; see `ImageTexts`.
    """

    event: Event
    collection: Collection
    part: int
    mime: str
    uri: str
    text: str = ""
    start_ms: int = 0
    end_ms: int = 0
    start_char: int = 0
    end_char: int = 0
    thumbnail: str = ""
    page: int = 0
    page_label: str = ""
    figure: int = 0
    attributes_json: str = ""
    vectors: tuple[tuple[Field, str, int], ...] = ()
    words: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class EncoderInput(FastPickle):
    """The items that one encoder has to encode for a batch: texts, images or audio.

    Attributes:
        encoder: the encoder's name in the profile: `passage.text`, `joint.text`, `joint.image`, `speech`, `ocr` or
            another one.
        keys: one content hash an item; equal keys have equal vectors, so that these are computed once.
        texts: the items of a text encoder.
        pixels: uint8[n, height, width, 3], RGB, already of the encoder's size; the items of an image encoder.
        waveforms: float32[n] each, mono at 16 kHz, at most 30 s; the items of the speech model.
        images: uint8[height, width, 3] each, RGB, of any size; the items of models that give an image's words.
    """

    encoder: str
    keys: tuple[str, ...]
    texts: tuple[str, ...] = ()
    pixels: UInt8 | None = None
    waveforms: tuple[Float32, ...] = ()
    images: tuple[UInt8, ...] = ()

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True, slots=True)
class Encoded(FastPickle):
    """The embeddings of an `EncoderInput`, row by row.

    Attributes:
        encoder: as in the input.
        vectors: float32[n, dim], L2-normalised; the row of a failed item is all zeros.
        failed: (row, error) of each item on which the encoder fails alone and every time.
    """

    encoder: str
    vectors: Float32
    failed: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ImageText(FastPickle):
    """The words that a model gave for one image.

    Attributes:
        text: rows of words separated by line ends; empty if there are none.
        failed: the error, if the model fails on this image alone.
    """

    text: str
    failed: str = ""


@dataclass(frozen=True, slots=True)
class ImageTexts(FastPickle):
    """The words of some consecutive images of an `EncoderInput`.

    Attributes:
        encoder: as in the input.
        start: row of the first one.
        texts: of each image, in order.
    """

    encoder: str
    start: int
    texts: tuple[ImageText, ...]


@dataclass(frozen=True, slots=True)
class TimedText(FastPickle):
    """A transcript segment: its text, with start and end in seconds from the start of the window."""

    start_s: float
    end_s: float
    text: str


@dataclass(frozen=True, slots=True)
class Transcript(FastPickle):
    """The transcript of one window of audio.

    Attributes:
        language: ISO 639-1 code detected by the model, or `und` for one that the model does not know; such a window has
            one segment without text.
        probability: of the language.
        segments: in order; empty if there is no speech or none was recognised.
        failed: the error, if the model fails on this window alone and every time.
    """

    language: str
    probability: float
    segments: tuple[TimedText, ...]
    failed: str = ""


@dataclass(frozen=True, slots=True)
class Checkpoint(FastPickle):
    """The progress of an event with long media: all that the next owner of its partition needs to resume it.

    Attributes:
        asset, version: of the event.
        position: how far its media have been read.
        counts: entries so far, by collection.
        settings_hash: hash of the settings that determine the entries; after a change, indexing starts again.
        uri: of the media, so that the asset store keeps them.
        media_sha256: hexadecimal digest of the media; if a claim check later returns others, indexing starts again.
        start: where the segment that ends at `position` begins. Not stored: the writer compares it with the stored
            position.
        slot: see `part_id`. The writer assigns it; -1 until then.
        figures: keys of images within the media that have entries, so that one on every page has only one.
        updated_ms: when the writer stored it, milliseconds since the epoch.
        finished: whether the media have been read to their end.
    """

    asset: AssetRef
    version: Version
    position: MediaPosition
    counts: Mapping[Collection, int]
    settings_hash: str
    uri: str
    media_sha256: str = ""
    start: MediaPosition = MediaPosition()
    slot: int = -1
    figures: tuple[str, ...] = ()
    updated_ms: int = 0
    finished: bool = False


@dataclass(frozen=True, slots=True)
class Decoded(FastPickle):
    """A batch after decoding, without its arrays, which travel beside it as `EncoderInput`s.

    Attributes:
        indexable: one event per asset, its payload a claim check to its media. One without pending entries is indexed
            without entries.
        tombstones: events that delete their asset.
        pending: the pending entries of all indexable events.
        rejected: the events that can never be indexed.
        checkpoints: of those indexable events whose media take more than one segment, after this segment. Their pending
            entries are those of this segment alone.
        given: vectors that came with the events, named as `PendingEntry.vectors` refers to them.
    """

    indexable: tuple[Event, ...]
    tombstones: tuple[Event, ...]
    pending: tuple[PendingEntry, ...]
    rejected: tuple[Rejected, ...]
    checkpoints: tuple[Checkpoint, ...] = ()
    given: tuple[Encoded, ...] = ()
