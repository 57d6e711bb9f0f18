"""Converts between records of an audit and rows of its ledger."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from penstock.audit.checks import StoredEntry, outcome_of
from penstock.records import Collection, Outcome, Position, Version
from penstock.store.base import AssetState, EntryKey

COLLECTIONS = tuple(Collection)
_EventColumns: TypeAlias = tuple[
    int, int, int, bytes, int, int, int | None, int | None, int | None, int | None, int
]  # origin, asset, stamp, tombstone; then stamp, partition, at and deleted of the row; then whether there is a letter


class ScannedEvent(NamedTuple):
    """An event as a record of its topic contains it.

    Attributes:
        origin: its origin.
        asset_id: `AssetRef.id`; empty for a malformed record.
        timestamp_ms: Kafka's timestamp at its origin.
        tombstone: whether it deletes its asset.
        settled: whether the record lies below the committed offset; else the event is in flight.
    """

    origin: Position
    asset_id: str
    timestamp_ms: int
    tombstone: bool
    settled: bool


class EventOutcome(NamedTuple):
    """A settled event with its outcome; None if it has none according to what was scanned."""

    origin: Position
    asset_id: str
    version: Version
    outcome: Outcome | None
    tombstone: bool


class LedgerEvent(NamedTuple):
    """An event of one asset. It may be settled and in flight: a replay of its dead letter is an event of its origin."""

    version: Version
    tombstone: bool
    settled: bool
    in_flight: bool


class AssetEntries(NamedTuple):
    """An asset with its row and its entries, ordered by collection and part."""

    asset_id: str
    row: AssetState | None
    entries: list[StoredEntry]


class LedgerRows:
    """Converts rows of the ledger, in which topics and collections are numbers and ids are bytes.

    Args:
        topics: the audited topics, in the order of their numbers.
    """

    def __init__(self, topics: Sequence[str]) -> None:
        self._topics = tuple(topics)
        self._number = {topic: number for number, topic in enumerate(topics)}

    def columns(self, position: Position) -> tuple[int, int, int]:
        """Returns a position as the columns topic, partition and at."""
        return self._number[position.topic], position.partition, position.offset

    def position(self, topic: int, partition: int, at: int) -> Position:
        """Returns the position of these columns."""
        return Position(self._topics[topic], partition, at)

    def asset_columns(self, row: AssetState) -> tuple[bytes | int, ...]:
        """Returns an asset row as the columns of the table asset_rows."""
        return (
            bytes.fromhex(row.asset_id),
            *self.columns(row.origin),
            row.timestamp_ms,
            row.deleted + 2 * row.slot + 4 * row.expired,
            *(row.counts.get(collection, 0) for collection in COLLECTIONS),
        )

    def asset_state(self, columns: tuple[bytes, int, int, int, int, int, *tuple[int, ...]]) -> AssetState:
        """Returns the asset row of these columns."""
        asset, topic, partition, at, stamp, deleted, *counts = columns
        by_collection = {collection: count for collection, count in zip(COLLECTIONS, counts, strict=True) if count}
        origin = self.position(topic, partition, at)
        return AssetState(
            asset.hex(), origin, stamp, bool(deleted & 1), by_collection, (deleted >> 1) & 1, bool(deleted & 4)
        )

    def entry(self, columns: tuple[bytes, int, int, str, int, int, int]) -> StoredEntry:
        """Returns the entry of these columns of the table entries."""
        asset, collection, part, id_, topic, partition, at = columns
        return StoredEntry(
            COLLECTIONS[collection], EntryKey(id_, asset.hex(), part, self.position(topic, partition, at))
        )

    def event_outcome(self, columns: _EventColumns) -> EventOutcome:
        """Returns the outcome of an event, from its columns joined with its asset's row and its dead letter."""
        topic, partition, at, asset, stamp, tombstone, row_stamp, row_partition, row_at, deleted, letter = columns
        version = Version(stamp, partition, at)
        row: Version | None = None
        if row_stamp is not None and row_partition is not None and row_at is not None:
            row = Version(row_stamp, row_partition, row_at)
        flags = deleted or 0
        outcome = outcome_of(version, row, deleted=bool(flags & 1), dead_letter=bool(letter), expired=bool(flags & 4))
        return EventOutcome(self.position(topic, partition, at), asset.hex(), version, outcome, bool(tombstone))
