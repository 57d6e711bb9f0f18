"""Holds what an audit scanned in a SQLite file, so that millions of events are sorted and joined on disk.

    events            settled and in-flight events by position and asset; a malformed record has no asset
    letters           the first dead letter of each event
    asset_rows        asset rows
    entries           entries, as they were scanned
    missing           settled events without an outcome
    flagged           assets that did not fit, to be checked again
    flagged_entries   the ids of their entries

Asset and entry ids are kept as bytes, topics and collections by number. The file is scratch: nothing is synced.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from penstock.audit.checks import StoredEntry
from penstock.audit.ledger_rows import (
    COLLECTIONS,
    AssetEntries,
    EventOutcome,
    LedgerEvent,
    LedgerRows,
    ScannedEvent,
)
from penstock.records import Collection, Outcome, Position, Version
from penstock.store.base import AssetState, EntryKey

NO_ASSET = b""
_CACHE_KIB = 64 * 1024
_COUNTS = [f"n_{collection.value}" for collection in COLLECTIONS]
_SCHEMA = f"""
CREATE TABLE events(topic INT, partition INT, at INT, asset BLOB, stamp INT, tombstone INT, settled INT, in_flight INT,
    PRIMARY KEY(topic, partition, at, asset)) WITHOUT ROWID;
CREATE INDEX in_flight ON events(asset) WHERE in_flight;
CREATE TABLE letters(topic INT, partition INT, at INT, position TEXT, PRIMARY KEY(topic, partition, at)) WITHOUT ROWID;
CREATE TABLE asset_rows(asset BLOB PRIMARY KEY, topic INT, partition INT, at INT, stamp INT, deleted INT,
    {", ".join(f"{name} INT" for name in _COUNTS)}) WITHOUT ROWID;
CREATE TABLE entries(asset BLOB, collection INT, part INT, id TEXT, topic INT, partition INT, at INT);
CREATE TABLE missing(asset BLOB, topic INT, partition INT, at INT, stamp INT,
    PRIMARY KEY(asset, topic, partition, at)) WITHOUT ROWID;
CREATE TABLE flagged(asset BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE flagged_entries(asset BLOB, collection INT, id TEXT, PRIMARY KEY(asset, collection, id)) WITHOUT ROWID;
"""


class Ledger:
    """The scanned events, dead letters, asset rows and entries of one audit. For one thread.

    Args:
        file: the file to create.
        topics: the audited topics.
    """

    def __init__(self, file: Path, topics: Sequence[str]) -> None:
        self._rows = LedgerRows(topics)
        self._sql = sqlite3.connect(file, isolation_level=None)
        for pragma in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{_CACHE_KIB}", "locking_mode=EXCLUSIVE"):
            self._sql.execute(f"PRAGMA {pragma}")
        self._sql.executescript(_SCHEMA)

    def close(self) -> None:
        """Closes the file."""
        self._sql.close()

    # --- filling -----------------------------------------------------------------------------------------------------

    def add_events(self, events: Iterable[ScannedEvent]) -> None:
        """Adds events. One with several records is settled if one of them is, and in flight if one is."""
        self._fill(
            "INSERT INTO events VALUES(?,?,?,?,?,?,?,?) ON CONFLICT DO UPDATE SET"
            " settled = max(settled, excluded.settled), in_flight = max(in_flight, excluded.in_flight)",
            (
                (*self._rows.columns(event.origin), bytes.fromhex(event.asset_id), event.timestamp_ms, event.tombstone,
                 event.settled, not event.settled)
                for event in events
            ),
        )  # fmt: skip

    def add_letters(self, letters: Iterable[tuple[Position, Position]]) -> int:
        """Adds dead letters by origin and own position, keeps the first of an event, and returns how many are new."""
        return self._fill(
            "INSERT OR IGNORE INTO letters VALUES(?,?,?,?)",
            ((*self._rows.columns(origin), str(position)) for origin, position in letters),
        )

    def add_rows(self, rows: Iterable[AssetState]) -> None:
        """Adds asset rows; a later one of an asset replaces an earlier one."""
        marks = ",".join("?" * (6 + len(COLLECTIONS)))
        self._fill(f"INSERT OR REPLACE INTO asset_rows VALUES({marks})", map(self._rows.asset_columns, rows))

    def add_entries(self, collection: Collection, keys: Iterable[EntryKey]) -> None:
        """Adds entries of a collection."""
        number = COLLECTIONS.index(collection)
        self._fill(
            "INSERT INTO entries VALUES(?,?,?,?,?,?,?)",
            ((bytes.fromhex(key.asset_id), number, key.part, key.id, *self._rows.columns(key.origin)) for key in keys),
        )

    def flag(self, asset_id: str, entries: Iterable[StoredEntry] = ()) -> None:
        """Flags an asset to be checked again, with the entries that were scanned of it."""
        asset = bytes.fromhex(asset_id)
        self._sql.execute("INSERT OR IGNORE INTO flagged VALUES(?)", (asset,))
        ids = [(asset, COLLECTIONS.index(collection), key.id) for collection, key in entries]
        self._sql.executemany("INSERT OR IGNORE INTO flagged_entries VALUES(?,?,?)", ids)

    def record_missing(self, event: EventOutcome) -> None:
        """Records a settled event without an outcome, and flags its asset."""
        columns = (*self._rows.columns(event.origin), event.version.timestamp_ms)
        self._sql.execute("INSERT INTO missing VALUES(?,?,?,?,?)", (bytes.fromhex(event.asset_id), *columns))
        self.flag(event.asset_id)

    # --- all events, rows and entries --------------------------------------------------------------------------------

    def event_outcomes(self) -> Iterator[EventOutcome]:
        """Yields every settled event with its outcome, by topic, partition and offset.

        If several assets claim one position, which takes a forged replay, the best outcome counts.
        """
        joined = self._sql.execute(
            "SELECT e.topic, e.partition, e.at, e.asset, e.stamp, e.tombstone, r.stamp, r.partition, r.at, r.deleted,"
            " l.at IS NOT NULL FROM events e LEFT JOIN asset_rows r ON r.asset = e.asset LEFT JOIN letters l"
            " ON l.topic = e.topic AND l.partition = e.partition AND l.at = e.at"
            " WHERE e.settled ORDER BY e.topic, e.partition, e.at"
        )
        order = [*Outcome, None]
        for _, group in groupby(joined, key=itemgetter(0, 1, 2)):
            yield min(map(self._rows.event_outcome, group), key=lambda event: order.index(event.outcome))

    def assets(self) -> Iterator[AssetEntries]:
        """Yields every asset that has a row or an entry, with both, by id."""
        rows = self._sql.execute("SELECT * FROM asset_rows ORDER BY asset")
        entries = self._sql.execute("SELECT * FROM entries ORDER BY asset, collection, part, id")
        row = next(rows, None)
        for asset, group in groupby(entries, key=itemgetter(0)):
            while row is not None and row[0] < asset:
                yield AssetEntries(row[0].hex(), self._rows.asset_state(row), [])
                row = next(rows, None)
            stored = [self._rows.entry(columns) for columns in group]
            if row is not None and row[0] == asset:
                yield AssetEntries(row[0].hex(), self._rows.asset_state(row), stored)
                row = next(rows, None)
            else:
                yield AssetEntries(asset.hex(), None, stored)
        while row is not None:
            yield AssetEntries(row[0].hex(), self._rows.asset_state(row), [])
            row = next(rows, None)

    def rows_without_event(self) -> Iterator[tuple[str, Position]]:
        """Yields asset rows, by asset id and origin, for whose version no record was read."""
        for asset, *origin in self._sql.execute(
            "SELECT asset, topic, partition, at FROM asset_rows r WHERE NOT EXISTS (SELECT 1 FROM events e"
            " WHERE e.topic = r.topic AND e.partition = r.partition AND e.at = r.at AND e.asset = r.asset"
            " AND e.stamp = r.stamp)"
        ):
            yield asset.hex(), self._rows.position(*origin)

    def letters_without_event(self) -> Iterator[tuple[str, Position]]:
        """Yields dead letters, by their own position and their origin, for which no record was read."""
        for position, *origin in self._sql.execute(
            "SELECT position, topic, partition, at FROM letters l WHERE NOT EXISTS (SELECT 1 FROM events e"
            " WHERE e.topic = l.topic AND e.partition = l.partition AND e.at = l.at)"
        ):
            yield position, self._rows.position(*origin)

    def asset_ids(self) -> Iterator[str]:
        """Yields the assets of all events, each once, by id."""
        rows = self._sql.execute("SELECT DISTINCT asset FROM events WHERE asset <> ? ORDER BY asset", (NO_ASSET,))
        return (asset.hex() for (asset,) in rows)

    # --- one asset ---------------------------------------------------------------------------------------------------

    def flagged(self, after: str, limit: int) -> list[str]:
        """Returns the next flagged assets, by id."""
        sql = "SELECT asset FROM flagged WHERE asset > ? ORDER BY asset LIMIT ?"
        return [asset.hex() for (asset,) in self._sql.execute(sql, (bytes.fromhex(after), limit))]

    def count_flagged(self) -> int:
        """Returns the number of flagged assets."""
        return int(self._sql.execute("SELECT count(*) FROM flagged").fetchone()[0])

    def scanned_ids(self, asset_id: str, collection: Collection) -> list[str]:
        """Returns the ids of the entries that were scanned of a flagged asset."""
        sql = "SELECT id FROM flagged_entries WHERE asset = ? AND collection = ?"
        rows = self._sql.execute(sql, (bytes.fromhex(asset_id), COLLECTIONS.index(collection)))
        return [id_ for (id_,) in rows]

    def missing(self, asset_id: str) -> Iterator[tuple[Position, Version]]:
        """Yields the events of a flagged asset that were recorded as missing."""
        sql = "SELECT topic, partition, at, stamp FROM missing WHERE asset = ?"
        for topic, partition, at, stamp in self._sql.execute(sql, (bytes.fromhex(asset_id),)):
            yield self._rows.position(topic, partition, at), Version(stamp, partition, at)

    def event(self, asset_id: str, origin: Position) -> LedgerEvent | None:
        """Returns the asset's event with this origin; None if no record contained it."""
        row = self._sql.execute(
            "SELECT stamp, tombstone, settled, in_flight FROM events"
            " WHERE topic = ? AND partition = ? AND at = ? AND asset = ?",
            (*self._rows.columns(origin), bytes.fromhex(asset_id)),
        ).fetchone()
        if row is None:
            return None
        stamp, *flags = row
        return LedgerEvent(Version(stamp, origin.partition, origin.offset), *map(bool, flags))

    def in_flight(self, asset_id: str) -> Iterator[Version]:
        """Yields the versions of this asset's events that are in flight."""
        sql = "SELECT stamp, partition, at FROM events WHERE asset = ? AND in_flight"
        return (Version(*row) for row in self._sql.execute(sql, (bytes.fromhex(asset_id),)))

    def _fill(self, sql: str, values: Iterable[tuple[Any, ...]]) -> int:
        """Runs a statement for each row in one transaction, without holding them, and returns the changed rows."""
        self._sql.execute("BEGIN")
        try:
            return self._sql.executemany(sql, values).rowcount
        finally:
            self._sql.execute("COMMIT")
