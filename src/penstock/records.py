"""The data's path as frozen types: Record → Event → FetchedMedia → PendingEntry → Entry → Hit, and Rejected beside it.

Every step takes one of these and returns the next. They hold plain values and NumPy arrays only, so that they travel
between processes by pickle with the arrays out of band.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from functools import cache, lru_cache
from operator import attrgetter
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from penstock.errors import Reason

Float32: TypeAlias = NDArray[np.float32]
UInt8: TypeAlias = NDArray[np.uint8]


class FastPickle:
    """A record that is pickled as the call that makes it.

    What `dataclass` gives a frozen type with slots asks for the names of the fields at every record: for small events a
    sixth of all CPU time that ingest took.
    """

    __slots__ = ()

    def __reduce__(self) -> tuple[type[FastPickle], tuple[Any, ...]]:
        made: Any = type(self)
        return made, _values_of(made)(self)


@cache
def _values_of(record: type[Any]) -> Callable[[Any], tuple[Any, ...]]:
    """What gives the values of a record's fields, in order."""
    names = [one.name for one in fields(record)]
    if len(names) == 1:
        return lambda made: (getattr(made, names[0]),)
    return attrgetter(*names)


class Modality(StrEnum):
    """What a topic carries. A topic is of one modality."""

    TEXT = "text"
    IMAGE = "image"
    AUDIO = "audio"
    VIDEO = "video"


class Collection(StrEnum):
    """A logical collection, by what one of its rows is. Physical ones are versioned by encoder (`store.schema`)."""

    TEXT = "text"  # a passage of a text asset
    IMAGE = "image"  # an image
    SPEECH = "speech"  # a transcript segment of an audio or video asset
    FRAME = "frame"  # a frame of a video asset


COLLECTIONS_OF: Mapping[Modality, tuple[Collection, ...]] = {
    Modality.TEXT: (Collection.TEXT,),
    Modality.IMAGE: (Collection.IMAGE,),
    Modality.AUDIO: (Collection.SPEECH,),
    Modality.VIDEO: (Collection.FRAME, Collection.SPEECH),
}
"""The collections that an asset of a modality can have entries in; surplus is looked for in all of them."""


TIMED_MODALITIES: frozenset[Modality] = frozenset({Modality.AUDIO, Modality.VIDEO})
"""Modalities of media that may be too long to be indexed at once."""


TIMED_COLLECTIONS: frozenset[Collection] = frozenset({Collection.SPEECH, Collection.FRAME})
"""Collections of media that may be too long to be written at once."""


SINGLE_ENTRY_COLLECTIONS: frozenset[Collection] = frozenset({Collection.IMAGE})
"""Collections in which an asset has one entry, part 0, or none: no surplus of it is ever left there by a version that
writes one, so that nobody has to look for any."""


class Field(StrEnum):
    """A vector field of a collection."""

    JOINT = "joint"  # the space that text and pictures share (CLIP)
    PASSAGE = "passage"  # the sentence encoder's space
    LEXICAL = "lexical"  # BM25, computed by the store from `text`


FIELDS_OF: Mapping[Collection, tuple[Field, ...]] = {
    Collection.TEXT: (Field.PASSAGE, Field.JOINT, Field.LEXICAL),
    Collection.IMAGE: (Field.JOINT,),
    Collection.SPEECH: (Field.PASSAGE, Field.LEXICAL),
    Collection.FRAME: (Field.JOINT,),
}
"""The vector fields of a collection, the most important first: a store that can hold only one keeps the first."""


@dataclass(frozen=True, slots=True, order=True)
class Channel:
    """What can be searched on its own: a collection and one of its vector fields. Written `image.joint`."""

    collection: Collection
    field: Field

    def __str__(self) -> str:
        return f"{self.collection}.{self.field}"


# --- from Kafka ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class Position(FastPickle):
    """Where a record stands in Kafka."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]@{self.offset}"


_HELD_BYTES = 1_024  # record, event and item in a queue: 870 measured for a tombstone, 950 for a short text


@dataclass(frozen=True, slots=True)
class Record(FastPickle):
    """A Kafka record as it was delivered. Nothing in it has been believed yet."""

    position: Position
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    timestamp_ms: int

    @property
    def size_bytes(self) -> int:
        """Bytes of key, value and headers."""
        headers = sum(len(name) + len(value) for name, value in self.headers)
        return len(self.key or b"") + len(self.value or b"") + headers

    @property
    def accounted_bytes(self) -> int:
        """What the budget of bytes in flight counts: also what a lane holds of a record however small it is."""
        return self.size_bytes + _HELD_BYTES


@dataclass(frozen=True, slots=True)
class Assignment(FastPickle):
    """A partition as given to one lane: the consumer group's generation in which it got it and kept it since."""

    topic: str
    partition: int
    generation: int


# --- events ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class AssetRef(FastPickle):
    """Names an asset: what is replaced as a whole when a newer event of the same key arrives."""

    tenant: str
    topic: str
    key: str

    @property
    def id(self) -> str:
        """32 hexadecimal digits: BLAKE2b-128 of the three names, each preceded by its length."""
        return _digest(self.tenant, self.topic, self.key)

    def __str__(self) -> str:
        return f"{self.tenant}/{self.topic}/{self.key}"


@dataclass(frozen=True, slots=True, order=True)
class Version(FastPickle):
    """How old an event is, in the order of its first arrival. Compare with `newer_than`, not with `>`."""

    timestamp_ms: int
    partition: int
    offset: int

    def newer_than(self, other: Version) -> bool:
        """Within a partition the offset decides; across partitions Kafka's timestamp, then partition, then offset."""
        if self.partition == other.partition:
            return self.offset > other.offset
        return self > other


@dataclass(frozen=True, slots=True)
class Inline(FastPickle):
    """The media are in the message itself."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ClaimCheck(FastPickle):
    """The media are elsewhere: the CloudEvents `dataref` extension."""

    uri: str


@dataclass(frozen=True, slots=True)
class Event(FastPickle):
    """A record that was understood: what happened to which asset.

    Attributes:
        asset: the asset it is about.
        origin: its first position; what names it for ever. Differs from `position` for a replayed dead letter only.
        position: where it was delivered this time; what has to be committed.
        timestamp_ms: Kafka's timestamp of its first arrival, milliseconds since the epoch.
        modality: its topic's.
        payload: inline bytes, a claim check, or None for a tombstone.
        content_type: as declared by the producer; a hint for messages, never trusted.
        title: shown with hits.
        attributes_json: a JSON object, as text, searchable with filters.
        event_time_ms: when it happened, by the producer's word (CloudEvents `time`), else `timestamp_ms`.
    """

    asset: AssetRef
    origin: Position
    position: Position
    timestamp_ms: int
    modality: Modality
    payload: Inline | ClaimCheck | None
    content_type: str | None = None
    title: str = ""
    attributes_json: str = "{}"
    event_time_ms: int = 0

    @property
    def version(self) -> Version:
        return Version(self.timestamp_ms, self.origin.partition, self.origin.offset)

    @property
    def is_tombstone(self) -> bool:
        return self.payload is None


@dataclass(frozen=True, slots=True)
class Rejected(FastPickle):
    """An event that can never be indexed, and why: the second output of every step.

    Attributes:
        position: where the record was delivered.
        step: the step that refused it: receive, fetch, decode, encode or write.
        reason: one of the closed list.
        detail: one line for people: what happened, to what, and what to do.
    """

    position: Position
    step: str
    reason: Reason
    detail: str


class Outcome(StrEnum):
    """How an event ended. The order is the order of precedence where a crash left more than one."""

    INDEXED = "indexed"
    DELETED = "deleted"
    SUPERSEDED = "superseded"
    DEAD_LETTERED = "dead_lettered"


# --- media -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FetchedMedia(FastPickle):
    """An event with its bytes at hand.

    Attributes:
        event: the event, its payload replaced by a claim check to `uri`, so that the bytes are held once.
        data: the media's bytes.
        mime: the type that was found in the bytes.
        sha256: hexadecimal digest of `data`; the name of the media in the asset store.
        uri: where the media can be had again: the claim check's address, or `asset:<sha256>` for inline media.
    """

    event: Event
    data: bytes = field(repr=False)
    mime: str
    sha256: str
    uri: str


END_OF_TRACK = -1


@dataclass(frozen=True, slots=True)
class MediaPosition(FastPickle):
    """How far a recording or film has been read, milliseconds.

    Attributes:
        audio_ms: of its sound nothing that lies before is to come any more.
        video_ms: of its pictures likewise.
        scanned_ms: up to where it has been looked at; speech or a shot that is under way there is not out yet.

    `END_OF_TRACK` stands for a track that has been read to its end, or that there is none of.
    """

    audio_ms: int = 0
    video_ms: int = 0
    scanned_ms: int = 0


@dataclass(frozen=True, slots=True)
class PendingEntry(FastPickle):
    """An entry that waits for its vectors.

    Attributes:
        event: what it comes from, its payload a claim check to `uri`.
        collection: where it goes.
        part: its number within asset and collection, from 0 without gaps.
        mime, uri: of the asset it belongs to.
        text: passage, transcript or caption; what BM25 reads.
        start_ms, end_ms: where it lies in sound or film, milliseconds; 0 and 0 where that means nothing.
        start_char, end_char: where it lies in the decoded text, characters; 0 and 0 likewise.
        thumbnail: address of a small picture of it; empty if there is none.
        vectors: for each vector field the name of the encoder input (`EncoderInput.encoder`) and the row in it.
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
    vectors: tuple[tuple[Field, str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class EncoderInput(FastPickle):
    """What one encoder has to encode for a batch: texts, pictures or sound.

    Attributes:
        encoder: the encoder's name in the profile: `passage.text`, `joint.text`, `joint.image` or `speech`.
        keys: one content hash an item; the same key means the same vector, so that it need not be computed twice.
        texts: the items, for an encoder of texts.
        pixels: uint8[n, height, width, 3], RGB, already of the encoder's size, for an encoder of pictures.
        waveforms: float32[n] each, mono at 16 kHz, at most 30 s, for the transcriber.
    """

    encoder: str
    keys: tuple[str, ...]
    texts: tuple[str, ...] = ()
    pixels: UInt8 | None = None
    waveforms: tuple[Float32, ...] = ()

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True, slots=True)
class Encoded(FastPickle):
    """Vectors for an `EncoderInput`, row by row.

    Attributes:
        encoder: as in the input.
        vectors: float32[n, dim], L2-normalised; a row of an item that failed is all zeros.
        failed: (row, what happened) for each item on which the encoder fails alone, every time.
    """

    encoder: str
    vectors: Float32
    failed: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class TimedText(FastPickle):
    """Words that were heard: seconds from the start of the window, and the text."""

    start_s: float
    end_s: float
    text: str


@dataclass(frozen=True, slots=True)
class Transcript(FastPickle):
    """What was heard in a window of sound.

    Attributes:
        language: ISO 639-1, as the model takes it to be; English for models that know nothing else.
        probability: of the language.
        segments: in order; none where nobody speaks or nothing could be made out.
        failed: what happened, if the model fails on this window alone, every time.
    """

    language: str
    probability: float
    segments: tuple[TimedText, ...]
    failed: str = ""


@dataclass(frozen=True, slots=True)
class Checkpoint(FastPickle):
    """How far an event with long media has been indexed: all that the next owner of its partition needs to go on.

    Attributes:
        asset, version: of the event.
        position: how far its media have been read.
        counts: entries so far, by collection.
        settings_hash: hash of what decides on the entries; what was made under other settings is made anew.
        uri: of the media, so that they are kept.
        media_sha256: hash of them, hexadecimal: if a claim check brings others later, it is begun anew.
        start: where the slice begins that ends at `position`. Not kept: the writer compares it with the one that is.
        slot: see `part_id`. The writer decides; until then -1.
        updated_ms: when it was noted, by the writer, milliseconds since the epoch.
        finished: the media have been read to their end.
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
    updated_ms: int = 0
    finished: bool = False


@dataclass(frozen=True, slots=True)
class Decoded(FastPickle):
    """A batch after decoding, less its arrays, which travel beside it as `EncoderInput`s.

    Attributes:
        indexable: one event per asset, its payload a claim check to where the media can be had again; it has
            entries, or none and is then indexed without entries.
        tombstones: events that delete their asset.
        pending: the entries to be, of all indexable events.
        rejected: what can never be indexed.
        checkpoints: of the indexable events whose media do not fit into one slice, and how far they are with this one.
            Their entries are those of the slice alone.
    """

    indexable: tuple[Event, ...]
    tombstones: tuple[Event, ...]
    pending: tuple[PendingEntry, ...]
    rejected: tuple[Rejected, ...]
    checkpoints: tuple[Checkpoint, ...] = ()


# --- the store -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Entry(FastPickle):
    """One row of a collection. `vectors` maps a field to float32[dim], L2-normalised."""

    id: str
    collection: Collection
    asset: AssetRef
    part: int
    title: str
    text: str
    uri: str
    mime: str
    attributes_json: str
    start_ms: int
    end_ms: int
    start_char: int
    end_char: int
    event_time_ms: int
    indexed_at_ms: int
    origin: Position
    thumbnail: str = ""
    vectors: Mapping[Field, Float32] = field(default_factory=dict, repr=False)


SLOTS = 2


def entry_id(asset: AssetRef, collection: Collection, part: int, slot: int = 0) -> str:
    """The primary key of an entry: 32 hexadecimal digits, the same for the same part of the same asset for ever."""
    return part_id(asset.id, collection, part, slot)


def part_id(asset_id: str, collection: Collection, part: int, slot: int = 0) -> str:
    """`entry_id`, from the id of the asset: so a store can ask for an asset's parts by primary key.

    A part has an id in each of two slots: a version that is written in slices takes the one in which the older version
    is not, so that this one stays whole until the last slice is there. All others are in slot 0.
    """
    return _digest(asset_id, collection, str(part), *(["other"] if slot else []))


@dataclass(frozen=True, slots=True)
class AssetRow(FastPickle):
    """What became of an asset, as of its newest settled event: the record that order, audit and replay go by.

    Attributes:
        asset: the asset; its id is the row's primary key.
        version: of the event it stands for.
        topic_partition_offset is `Position(asset.topic, version.partition, version.offset)`.
        outcome: `INDEXED` or `DELETED`.
        counts: entries per collection; empty for a deleted asset.
        uri: of the media, so that the asset store's sweep knows what is still referred to; empty if deleted.
        indexed_at_ms: when the row was written, milliseconds since the epoch.
        slot: of its entries' ids; see `part_id`.
    """

    asset: AssetRef
    version: Version
    outcome: Outcome
    counts: Mapping[Collection, int]
    uri: str
    indexed_at_ms: int
    slot: int = 0

    @property
    def origin(self) -> Position:
        return Position(self.asset.topic, self.version.partition, self.version.offset)


@dataclass(frozen=True, slots=True)
class Settled(FastPickle):
    """The event at this position has its outcome; `rejection` says why, for `DEAD_LETTERED`."""

    position: Position
    outcome: Outcome
    rejection: Rejected | None = None


@dataclass(frozen=True, slots=True)
class Fenced(FastPickle):
    """The event was not written: another lane owns its partition now and will process it."""

    position: Position


@dataclass(frozen=True, slots=True)
class Continues(FastPickle):
    """The event has no outcome yet: the next segment of its media starts at `at`.

    If that is the start of the media, nothing of the event is written, or it waits for a newer version under way.
    """

    position: Position
    at: MediaPosition


WriteResult: TypeAlias = Settled | Fenced | Continues


@dataclass(frozen=True, slots=True)
class ScoredEntry:
    """An entry without its vectors, with its score in one channel."""

    entry: Entry
    score: float


@lru_cache(maxsize=2_048)  # an id is asked for a dozen times while a batch is worked on, and takes 3 µs
def _digest(*names: str) -> str:
    """BLAKE2b-128 over length-prefixed UTF-8, so that ("a", "bc") and ("ab", "c") differ."""
    state = hashlib.blake2b(digest_size=16)
    for name in names:
        data = name.encode()
        state.update(len(data).to_bytes(8, "big"))
        state.update(data)
    return state.hexdigest()
