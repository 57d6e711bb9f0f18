"""Finds the assets that changed while a backup read them: their entries are not those that their rows count.

Rows are read first and entries after them, so an asset that a writer changed in between shows as entries of another
event than its row's, or too few of that. Its newest event is not below the offsets of the backup, and a replay writes
it again. SQLite keeps what was read: about 150 bytes an entry, on disk.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from penstock.records import AssetRow, Entry, part_id

_CACHE_KIB = 32 * 1024
_SCHEMA = """
CREATE TABLE assets(asset BLOB PRIMARY KEY, partition INT, at INT, slot INT, total INT) WITHOUT ROWID;
CREATE TABLE entries(asset BLOB, id BLOB, partition INT, at INT, slot INT);
"""
_SAME = "e.asset = a.asset AND e.partition = a.partition AND e.at = a.at AND e.slot = a.slot"


class UnfitAsset(NamedTuple):
    """An asset whose entries are not those that its row counts.

    Attributes:
        asset_id: `AssetRef.id`.
        partition, offset: of the event that its row stands for.
        has_newer: whether there are entries of a later event.
    """

    asset_id: str
    partition: int
    offset: int
    has_newer: bool


class Coherence:
    """The rows and entries that one backup read. For one thread; close it.

    Args:
        file: the file to create.
    """

    def __init__(self, file: Path) -> None:
        self._sql = sqlite3.connect(file, isolation_level=None)
        for pragma in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{_CACHE_KIB}", "locking_mode=EXCLUSIVE"):
            self._sql.execute(f"PRAGMA {pragma}")
        self._sql.executescript(_SCHEMA)

    def close(self) -> None:
        """Closes the file."""
        self._sql.close()

    def add_rows(self, rows: Iterable[AssetRow]) -> None:
        """Adds asset rows."""
        self._fill(
            "INSERT OR REPLACE INTO assets VALUES(?,?,?,?,?)",
            (
                (_key(row.asset.id), row.version.partition, row.version.offset, row.slot, sum(row.counts.values()))
                for row in rows
            ),
        )

    def add_entries(self, entries: Iterable[Entry]) -> None:
        """Adds entries."""
        self._fill(
            "INSERT INTO entries VALUES(?,?,?,?,?)",
            (
                (_key(entry.asset.id), _key(entry.id), entry.origin.partition, entry.origin.offset, _slot(entry))
                for entry in entries
            ),
        )

    def complete(self) -> None:
        """Prepares the look-ups, once everything was added."""
        self._sql.execute("CREATE INDEX by_asset ON entries(asset)")

    def unfit(self) -> Iterator[UnfitAsset]:
        """Yields the assets of which another number of entries was read than their row counts, by id."""
        rows = self._sql.execute(
            f"SELECT a.asset, a.partition, a.at, EXISTS (SELECT 1 FROM entries n WHERE n.asset = a.asset"
            " AND (n.partition <> a.partition OR n.at > a.at))"
            f" FROM assets a LEFT JOIN entries e ON {_SAME} GROUP BY a.asset HAVING count(e.id) <> a.total"
        )
        return (UnfitAsset(asset.hex(), partition, at, bool(newer)) for asset, partition, at, newer in rows)

    def strangers(self) -> Iterator[str]:
        """Yields the ids of entries that no row counts: of an event in progress, or left over."""
        rows = self._sql.execute(
            f"SELECT e.id FROM entries e LEFT JOIN assets a ON {_SAME} WHERE a.asset IS NULL ORDER BY e.id"
        )
        return (id_.hex() for (id_,) in rows)

    def _fill(self, sql: str, values: Iterable[tuple[bytes | int, ...]]) -> None:
        self._sql.execute("BEGIN")
        try:
            self._sql.executemany(sql, values)
        finally:
            self._sql.execute("COMMIT")


def _key(id_: str) -> bytes:
    return bytes.fromhex(id_)


def _slot(entry: Entry) -> int:
    return int(entry.id != part_id(entry.asset.id, entry.collection, entry.part))
