"""Writes tables of one kind as the parts of a backup, and reads them again, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from penstock.backup.folder import BackupFolder
from penstock.backup.manifest import Manifest, Part
from penstock.backup.tables import from_parquet, to_parquet

# 3,000 entries of 1,280 dimensions: few enough requests for an object store, and little to hold twice in memory.
PART_BYTES = 16 * 1024 * 1024


class PartWriter:
    """Collects tables of one kind until they fill a part. For one thread.

    Args:
        folder: receives the parts.
        id_: of the backup.
        kind: of the parts, and the name of their folder.
        part_bytes: size in memory from which a part is written.
    """

    def __init__(self, folder: BackupFolder, id_: str, kind: str, *, part_bytes: int = PART_BYTES) -> None:
        self._folder = folder
        self._id = id_
        self._kind = kind
        self._part_bytes = part_bytes
        self._tables: list[pa.Table] = []
        self._bytes = 0
        self._rows = 0
        self._parts: list[Part] = []

    @property
    def rows(self) -> int:
        """The number of rows so far."""
        return self._rows

    def add(self, table: pa.Table) -> None:
        """Adds a table, and writes a part once there is enough for one."""
        if table.num_rows:
            self._tables.append(table)
            self._bytes += table.nbytes
            self._rows += table.num_rows
        if self._bytes >= self._part_bytes:
            self._flush()

    def close(self) -> Sequence[Part]:
        """Writes what is left, and returns all parts."""
        if self._tables:
            self._flush()
        return tuple(self._parts)

    def _flush(self) -> None:
        table = pa.concat_tables(self._tables)
        path = f"{self._kind}/{len(self._parts):05}.parquet"
        self._parts.append(self._folder.put_part(self._id, path, to_parquet(table), table.num_rows))
        self._tables, self._bytes = [], 0


def read_tables(folder: BackupFolder, manifest: Manifest, kind: str) -> Iterator[pa.Table]:
    """Yields the parts of a kind, one at a time.

    Raises:
        DamagedBackupError: a part is missing, or not what the manifest says.
    """
    for part in manifest.parts.get(kind, ()):
        yield from_parquet(folder.read_part(manifest.id, part))
