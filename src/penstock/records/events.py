"""Parsed events: what happened to which asset, and how an event can end."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache

from penstock.errors import Reason
from penstock.records.access import DEFAULT_ACL
from penstock.records.fast_pickle import FastPickle
from penstock.records.kafka import Position
from penstock.records.taxonomy import Modality


@dataclass(frozen=True, slots=True, order=True)
class AssetRef(FastPickle):
    """The names of an asset, which a newer event of the same key replaces as a whole."""

    tenant: str
    topic: str
    key: str

    @property
    def id(self) -> str:
        """32 hexadecimal digits: BLAKE2b-128 of the three names, each preceded by its length."""
        return digest_of(self.tenant, self.topic, self.key)

    def __str__(self) -> str:
        return f"{self.tenant}/{self.topic}/{self.key}"


@dataclass(frozen=True, slots=True, order=True)
class Version(FastPickle):
    """The order of an asset's events, by first arrival. Compare with `newer_than`, not with `>`."""

    timestamp_ms: int
    partition: int
    offset: int

    def newer_than(self, other: Version) -> bool:
        """Returns whether this version is newer.

        Within a partition the offset decides; across partitions Kafka's timestamp, then partition, then offset.
        """
        if self.partition == other.partition:
            return self.offset > other.offset
        return self > other


@dataclass(frozen=True, slots=True)
class Inline(FastPickle):
    """Media carried in the value of the record itself."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ClaimCheck(FastPickle):
    """A URI sent in place of the media: the CloudEvents extension `dataref`."""

    uri: str


@dataclass(frozen=True, slots=True)
class GivenVector(FastPickle):
    """A vector of the whole media that came with the event.

    Attributes:
        encoder: the fingerprint of its encoder: model, weights and preprocessing with slashes between them.
        data: little-endian float32[dim], as it came.
    """

    encoder: str
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Event(FastPickle):
    """A parsed record: what happened to which asset.

    Over the limit because each part of a record is an attribute.

    Attributes:
        asset: the asset that the event replaces or deletes.
        origin: the position at which it was first produced, its lasting identity. Differs from `position` only for a
            replayed dead letter.
        position: the position of this delivery, which has to be committed.
        timestamp_ms: Kafka's timestamp of its first arrival, milliseconds since the epoch.
        modality: the modality of its topic.
        payload: inline bytes, a claim check, or None for a tombstone.
        content_type: the type that the producer declared; used in messages only, never trusted.
        title: the title shown with hits.
        attributes_json: a JSON object, as text, searchable with filters.
        event_time_ms: when it happened according to the producer (CloudEvents `time`), else `timestamp_ms`.
        traceparent: its trace context by W3C, which its asset row keeps; empty if it is not traced.
        acl: labels of its entries, as of `sorted_labels`; a caller has to have one of them.
        names_acl: whether the producer named them.
        has_media_title: whether `title` is that of its media, as the producer gave none.
        vectors: of the whole media, by encoders that may be those of the index.
        vectors_hash: of `vectors` that were left out on the way.
        refills: whether it is a signed replay by which a re-index fills a new version of the index. Only such an event
            may name media by their address in the asset store, and nothing is announced of it.
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
    traceparent: str = field(default="", compare=False)
    acl: tuple[str, ...] = DEFAULT_ACL
    names_acl: bool = False
    has_media_title: bool = False
    vectors: tuple[GivenVector, ...] = ()
    vectors_hash: str = ""
    refills: bool = field(default=False, compare=False)

    @property
    def version(self) -> Version:
        """Its order among the events of its asset."""
        return Version(self.timestamp_ms, self.origin.partition, self.origin.offset)

    @property
    def is_tombstone(self) -> bool:
        """Whether it deletes its asset."""
        return self.payload is None

    def hash_of_vectors(self) -> str:
        """Returns a hash of the vectors that came with it, in any order; empty if there were none."""
        if not self.vectors:
            return self.vectors_hash
        hashes = {vector.encoder: hashlib.sha256(vector.data).hexdigest() for vector in self.vectors}
        return digest_of(*(part for pair in sorted(hashes.items()) for part in pair))


@dataclass(frozen=True, slots=True)
class Rejected(FastPickle):
    """An event that can never be indexed, with the reason: the second output of every step.

    Attributes:
        position: the position of the delivery.
        step: the step that rejected it: receive, fetch, decode, encode or write.
        reason: one of the closed list.
        detail: one line to read: what happened, to what, and what to do next.
    """

    position: Position
    step: str
    reason: Reason
    detail: str


class Outcome(StrEnum):
    """The end of an event. The members are in order of precedence, for events of which a crash left more than one."""

    INDEXED = "indexed"
    DELETED = "deleted"
    EXPIRED = "expired"  # it was indexed, and its time is over
    SUPERSEDED = "superseded"
    DEAD_LETTERED = "dead_lettered"


@lru_cache(maxsize=2_048)  # an id is computed a dozen times for a batch, and takes 3 µs
def digest_of(*names: str) -> str:
    """Returns the BLAKE2b-128 of length-prefixed UTF-8 names, so that ("a", "bc") and ("ab", "c") differ."""
    state = hashlib.blake2b(digest_size=16)
    for name in names:
        data = name.encode()
        state.update(len(data).to_bytes(8, "big"))
        state.update(data)
    return state.hexdigest()
