"""What an audit has gathered, in a SQLite file: so that millions of events are sorted and joined on disk.

    events   settled and in-flight events by position and asset; an unreadable record has no asset
    letters  the first dead letter of each event
    rows     asset rows
    parts    entries, as they were scanned
    missed   settled events without an outcome at first sight
    doubted  assets that did not fit at first sight, and the ids of their entries

Asset and entry ids are kept as bytes, topics and collections by number. The file is scratch: nothing is synced.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from penstock.audit.checks import Held, outcome_of
from penstock.broker.base import Partition
from penstock.records import Collection, Outcome, Position, Version
from penstock.store.base import AssetState, EntryKey

COLLECTIONS = tuple(Collection)
NO_ASSET = b""
_CACHE_KIB = 64 * 1024
_COUNTS = [f"n_{collection.value}" for collection in COLLECTIONS]
_SCHEMA = f"""
CREATE TABLE events(topic INT, partition INT, at INT, asset BLOB, stamp INT, tombstone INT, settled INT, flying INT,
    PRIMARY KEY(topic, partition, at, asset)) WITHOUT ROWID;
CREATE INDEX flying ON events(asset) WHERE flying;
CREATE TABLE letters(topic INT, partition INT, at INT, stands TEXT, PRIMARY KEY(topic, partition, at)) WITHOUT ROWID;
CREATE TABLE rows(asset BLOB PRIMARY KEY, topic INT, partition INT, at INT, stamp INT, deleted INT,
    {", ".join(f"{name} INT" for name in _COUNTS)}) WITHOUT ROWID;
CREATE TABLE parts(asset BLOB, collection INT, part INT, id TEXT, topic INT, partition INT, at INT);
CREATE TABLE missed(asset BLOB, topic INT, partition INT, at INT, stamp INT,
    PRIMARY KEY(asset, topic, partition, at)) WITHOUT ROWID;
CREATE TABLE doubted(asset BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE doubted_parts(asset BLOB, collection INT, id TEXT, PRIMARY KEY(asset, collection, id)) WITHOUT ROWID;
"""


class ScannedEvent(NamedTuple):
    """An event as a record told of it.

    Attributes:
        origin: its first position.
        asset_id: `AssetRef.id`; empty for a record that cannot be read.
        timestamp_ms: at its origin.
        tombstone: it deletes its asset.
        settled: the record lies below the committed offset; else the event is in flight.
    """

    origin: Position
    asset_id: str
    timestamp_ms: int
    tombstone: bool
    settled: bool


class EventOutcome(NamedTuple):
    """A settled event with its outcome: None if it has none, as far as was seen."""

    origin: Position
    asset_id: str
    version: Version
    outcome: Outcome | None
    tombstone: bool


class LedgerEvent(NamedTuple):
    """An event of one asset. A dead letter's replay may be in flight while the event itself is settled."""

    version: Version
    tombstone: bool
    settled: bool
    flying: bool


class Ledger:
    """One audit's gatherings. For one thread.

    Args:
        file: does not exist yet.
        topics: those that are audited.
    """

    def __init__(self, file: Path, topics: Sequence[str]) -> None:
        self._topics = tuple(topics)
        self._number = {topic: number for number, topic in enumerate(topics)}
        self._sql = sqlite3.connect(file, isolation_level=None)
        for pragma in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{_CACHE_KIB}", "locking_mode=EXCLUSIVE"):
            self._sql.execute(f"PRAGMA {pragma}")
        self._sql.executescript(_SCHEMA)

    def close(self) -> None:
        self._sql.close()

    # ---- filling ----

    def add_events(self, events: Iterable[ScannedEvent]) -> None:
        """An event of which several records tell is settled if one is, and in flight if one is."""
        self._fill(
            "INSERT INTO events VALUES(?,?,?,?,?,?,?,?) ON CONFLICT DO UPDATE SET"
            " settled = max(settled, excluded.settled), flying = max(flying, excluded.flying)",
            (
                (*self._at(one.origin), bytes.fromhex(one.asset_id), one.timestamp_ms, one.tombstone, one.settled,
                 not one.settled)
                for one in events
            ),
        )  # fmt: skip

    def add_letters(self, letters: Iterable[tuple[Position, Position]]) -> int:
        """Dead letters by origin and own position; the first of an event is kept. How many are new."""
        return self._fill(
            "INSERT OR IGNORE INTO letters VALUES(?,?,?,?)",
            ((*self._at(origin), str(stands)) for origin, stands in letters),
        )

    def add_rows(self, rows: Iterable[AssetState]) -> None:
        marks = ",".join("?" * (6 + len(COLLECTIONS)))
        self._fill(
            f"INSERT OR REPLACE INTO rows VALUES({marks})",
            (
                (bytes.fromhex(row.asset_id), *self._at(row.origin), row.timestamp_ms, row.deleted + 2 * row.slot,
                 *(row.counts.get(collection, 0) for collection in COLLECTIONS))
                for row in rows
            ),
        )  # fmt: skip

    def add_parts(self, collection: Collection, parts: Iterable[EntryKey]) -> None:
        number = COLLECTIONS.index(collection)
        self._fill(
            "INSERT INTO parts VALUES(?,?,?,?,?,?,?)",
            ((bytes.fromhex(one.asset_id), number, one.part, one.id, *self._at(one.origin)) for one in parts),
        )

    def flag(self, asset_id: str, entries: Iterable[Held] = ()) -> None:
        """Notes an asset to look at once more, and which entries were seen of it."""
        asset = bytes.fromhex(asset_id)
        self._sql.execute("INSERT OR IGNORE INTO doubted VALUES(?)", (asset,))
        seen = [(asset, COLLECTIONS.index(collection), part.id) for collection, part in entries]
        self._sql.executemany("INSERT OR IGNORE INTO doubted_parts VALUES(?,?,?)", seen)

    def record_missing(self, event: EventOutcome) -> None:
        """Notes a settled event without an outcome, and doubts its asset."""
        at = (*self._at(event.origin), event.version.timestamp_ms)
        self._sql.execute("INSERT INTO missed VALUES(?,?,?,?,?)", (bytes.fromhex(event.asset_id), *at))
        self.flag(event.asset_id)

    # ---- judging ----

    def event_outcomes(self) -> Iterator[EventOutcome]:
        """Every settled event, by topic, partition and offset, with its outcome. Where several assets claim one
        position, which takes a forged replay, the best outcome counts.
        """
        found = self._sql.execute(
            "SELECT e.topic, e.partition, e.at, e.asset, e.stamp, e.tombstone, r.stamp, r.partition, r.at, r.deleted,"
            " l.at IS NOT NULL FROM events e LEFT JOIN rows r ON r.asset = e.asset LEFT JOIN letters l"
            " ON l.topic = e.topic AND l.partition = e.partition AND l.at = e.at"
            " WHERE e.settled ORDER BY e.topic, e.partition, e.at"
        )
        order = [*Outcome, None]
        for _, group in groupby(found, key=itemgetter(0, 1, 2)):
            yield min(map(self._ended, group), key=lambda one: order.index(one.outcome))

    def assets(self) -> Iterator[tuple[str, AssetState | None, list[Held]]]:
        """Every asset that has a row or an entry, with both, by id; the entries by collection and part."""
        rows = self._sql.execute("SELECT * FROM rows ORDER BY asset")
        parts = self._sql.execute("SELECT * FROM parts ORDER BY asset, collection, part, id")
        row = next(rows, None)
        for asset, group in groupby(parts, key=itemgetter(0)):
            while row is not None and row[0] < asset:
                yield row[0].hex(), self._standing(row), []
                row = next(rows, None)
            held = [self._held(part) for part in group]
            if row is not None and row[0] == asset:
                yield row[0].hex(), self._standing(row), held
                row = next(rows, None)
            else:
                yield asset.hex(), None, held
        while row is not None:
            yield row[0].hex(), self._standing(row), []
            row = next(rows, None)

    def rows_without_event(self) -> Iterator[tuple[str, Position]]:
        """Asset rows, by asset id and origin, of whose version no record that was read tells."""
        for asset, *origin in self._sql.execute(
            "SELECT asset, topic, partition, at FROM rows r WHERE NOT EXISTS (SELECT 1 FROM events e"
            " WHERE e.topic = r.topic AND e.partition = r.partition AND e.at = r.at AND e.asset = r.asset"
            " AND e.stamp = r.stamp)"
        ):
            yield asset.hex(), self._position(*origin)

    def letters_without_event(self) -> Iterator[tuple[str, Position]]:
        """Dead letters, by where they stand and their origin, of which no record that was read tells."""
        for stands, *origin in self._sql.execute(
            "SELECT stands, topic, partition, at FROM letters l WHERE NOT EXISTS (SELECT 1 FROM events e"
            " WHERE e.topic = l.topic AND e.partition = l.partition AND e.at = l.at)"
        ):
            yield stands, self._position(*origin)

    def asset_ids(self) -> Iterator[str]:
        """The assets of all events, each once, by id."""
        found = self._sql.execute("SELECT DISTINCT asset FROM events WHERE asset <> ? ORDER BY asset", (NO_ASSET,))
        return (asset.hex() for (asset,) in found)

    # ---- one asset ----

    def flagged(self, after: str, limit: int) -> list[str]:
        """The next doubted assets, by id."""
        sql = "SELECT asset FROM doubted WHERE asset > ? ORDER BY asset LIMIT ?"
        return [asset.hex() for (asset,) in self._sql.execute(sql, (bytes.fromhex(after), limit))]

    def count_flagged(self) -> int:
        return int(self._sql.execute("SELECT count(*) FROM doubted").fetchone()[0])

    def seen_ids(self, asset_id: str, collection: Collection) -> list[str]:
        """The ids of entries that were seen of a doubted asset."""
        sql = "SELECT id FROM doubted_parts WHERE asset = ? AND collection = ?"
        return [
            id_ for (id_,) in self._sql.execute(sql, (bytes.fromhex(asset_id), COLLECTIONS.index(collection)))
        ]  # fmt: skip

    def missed(self, asset_id: str) -> Iterator[tuple[Position, Version]]:
        """The events of a doubted asset that had no outcome at first sight."""
        sql = "SELECT topic, partition, at, stamp FROM missed WHERE asset = ?"
        for topic, partition, at, stamp in self._sql.execute(sql, (bytes.fromhex(asset_id),)):
            yield self._position(topic, partition, at), Version(stamp, partition, at)

    def event(self, asset_id: str, origin: Position) -> LedgerEvent | None:
        """What the records told of this asset's event; None if none did."""
        found = self._sql.execute(
            "SELECT stamp, tombstone, settled, flying FROM events"
            " WHERE topic = ? AND partition = ? AND at = ? AND asset = ?",
            (*self._at(origin), bytes.fromhex(asset_id)),
        ).fetchone()
        if found is None:
            return None
        stamp, *flags = found
        return LedgerEvent(Version(stamp, origin.partition, origin.offset), *map(bool, flags))

    def in_flight(self, asset_id: str) -> Iterator[Version]:
        """The versions of this asset's events that are in flight."""
        sql = "SELECT stamp, partition, at FROM events WHERE asset = ? AND flying"
        return (Version(*found) for found in self._sql.execute(sql, (bytes.fromhex(asset_id),)))

    # ---- rows of tables ----

    def _fill(self, sql: str, values: Iterable[tuple[Any, ...]]) -> int:
        """Runs a statement for each, in one transaction and without holding them; how many rows it changed."""
        self._sql.execute("BEGIN")
        try:
            return self._sql.executemany(sql, values).rowcount
        finally:
            self._sql.execute("COMMIT")

    def _at(self, position: Position) -> tuple[int, int, int]:
        return self._number[position.topic], position.partition, position.offset

    def _position(self, topic: int, partition: int, at: int) -> Position:
        return Position(self._topics[topic], partition, at)

    def _ended(self, found: Sequence[Any]) -> EventOutcome:
        topic, partition, at, asset, stamp, tombstone, row_stamp, row_partition, row_at, deleted, letter = found
        version = Version(stamp, partition, at)
        row = None if row_at is None else Version(row_stamp, row_partition, row_at)
        outcome = outcome_of(version, row, deleted=bool((deleted or 0) & 1), dead_letter=bool(letter))
        return EventOutcome(self._position(topic, partition, at), asset.hex(), version, outcome, bool(tombstone))

    def _standing(self, row: Sequence[Any]) -> AssetState:
        asset, topic, partition, at, stamp, deleted, *counts = row
        told = {collection: count for collection, count in zip(COLLECTIONS, counts, strict=True) if count}
        return AssetState(
            asset.hex(), self._position(topic, partition, at), stamp, bool(deleted & 1), told, deleted >> 1
        )

    def _held(self, part: Sequence[Any]) -> Held:
        asset, collection, number, id_, topic, partition, at = part
        return COLLECTIONS[collection], EntryKey(id_, asset.hex(), number, self._position(topic, partition, at))


def partition_of(position: Position) -> Partition:
    return Partition(position.topic, position.partition)
