"""Entries and asset rows as the store holds them, and what a write did with an event."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from penstock.records.events import AssetRef, Outcome, Rejected, Version, digest_of
from penstock.records.fast_pickle import FastPickle
from penstock.records.kafka import Position
from penstock.records.media import Float32, MediaPosition
from penstock.records.taxonomy import Collection, Field

SLOTS = 2


@dataclass(frozen=True, slots=True)
class Entry(FastPickle):
    """One row of a collection. `vectors` maps a field to float32[dim], L2-normalised.

    Entries of documents have the page that they stand on, from 1, and its label if it has another name. `figure` is the
    number of an image on the page, from 1; 0 for the page itself.

    Without labels (`acl`) only those may read it who read all of its tenant.

    Over the limit because a row has this many columns.
    """

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
    page: int = 0
    page_label: str = ""
    figure: int = 0
    acl: tuple[str, ...] = ()
    vectors: Mapping[Field, Float32] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class ScoredEntry:
    """An entry without its vectors, with its score in one channel."""

    entry: Entry
    score: float


def entry_id(asset: AssetRef, collection: Collection, part: int, slot: int = 0) -> str:
    """Returns the primary key of an entry: 32 hexadecimal digits, always the same for the same part and slot."""
    return part_id(asset.id, collection, part, slot)


def part_id(asset_id: str, collection: Collection, part: int, slot: int = 0) -> str:
    """Returns `entry_id` from the asset's id, so that stores can look up its parts by primary key.

    A part has an id in each of two slots. A version that is written in segments takes the slot that the older version
    does not use, so that the older one stays complete until the last segment is written. All others use slot 0.
    """
    return digest_of(asset_id, collection, str(part), *(["other"] if slot else []))


def bare_entry(asset: AssetRef, collection: Collection, part: int = 0) -> Entry:
    """Returns an entry with its id and its place alone: no words, times or vectors. `replace` fills in the rest."""
    return Entry(
        id=entry_id(asset, collection, part),
        collection=collection,
        asset=asset,
        part=part,
        title="",
        text="",
        uri="",
        mime="",
        attributes_json="{}",
        start_ms=0,
        end_ms=0,
        start_char=0,
        end_char=0,
        event_time_ms=0,
        indexed_at_ms=0,
        origin=Position(asset.topic, 0, 0),
    )


@dataclass(frozen=True, slots=True)
class AssetRow(FastPickle):
    """The newest settled event of an asset, by which ordering, audit and replay are decided.

    Attributes:
        asset: the asset; its id is the row's primary key.
        version: of the event that the row records.
        outcome: `INDEXED` or `DELETED`.
        counts: entries by collection; empty for a deleted asset.
        uri: of the media, so that the sweep of the asset store knows which media are in use; empty if deleted.
        indexed_at_ms: when the row was written, milliseconds since the epoch.
        slot: of its entries' ids; see `part_id`.
        traceparent: `Event.traceparent`, so that a search that finds the asset can link to its trace.
        acl: labels of its entries; of a deleted asset those that they had.
        content_hash: of all that its entries were computed from; empty if that is not known.
    """

    asset: AssetRef
    version: Version
    outcome: Outcome
    counts: Mapping[Collection, int]
    uri: str
    indexed_at_ms: int
    slot: int = 0
    traceparent: str = ""
    acl: tuple[str, ...] = ()
    content_hash: str = ""

    @property
    def origin(self) -> Position:
        """The position at which its event was first produced."""
        return Position(self.asset.topic, self.version.partition, self.version.offset)


# --- what a write did with an event ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Written(FastPickle):
    """The entries that the store holds of one version of an asset, once a write is acknowledged.

    Attributes:
        counts: entries so far by collection; empty for a deleted asset.
        indexed_at_ms: when they were written, milliseconds since the epoch.
        slot: of their ids; see `entry_id`.
        since: by collection, the first part that this write added; 0 where a collection is absent.
        acl: labels of the entries; of a deleted asset those that they had.
    """

    counts: Mapping[Collection, int]
    indexed_at_ms: int
    slot: int = 0
    since: Mapping[Collection, int] = field(default_factory=dict)
    acl: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Settled(FastPickle):
    """The event at this position has its outcome; `rejection` says why, for `DEAD_LETTERED`.

    `written` is given for `INDEXED` and `DELETED`: what the store holds of the asset since.
    """

    position: Position
    outcome: Outcome
    rejection: Rejected | None = None
    written: Written | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Fenced(FastPickle):
    """The event was not written: another lane owns its partition now and will process it."""

    position: Position


@dataclass(frozen=True, slots=True)
class Continues(FastPickle):
    """The event has no outcome yet: the next segment of its media starts at `at`.

    If that is the start of the media, nothing of the event is written, or it waits for a newer version under way.
    `written` is what the store holds of this version by now; None if nothing of it is known to be stored.
    """

    position: Position
    at: MediaPosition
    written: Written | None = field(default=None, compare=False)


WriteResult: TypeAlias = Settled | Fenced | Continues
