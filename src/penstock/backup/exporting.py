"""Writes an index as Parquet for other programs: files of some thousand entries, with vectors, texts and attributes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

import fsspec
import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem

from penstock import __version__
from penstock.backup.parts import PART_BYTES
from penstock.backup.tables import entries_table, to_parquet
from penstock.config.secrets import refuse_userinfo
from penstock.errors import ConfigError, UnavailableError, UsageError
from penstock.records import Collection, Entry, Field
from penstock.store.base import EntryScan, IndexSpec
from penstock.store.provenance import EncoderInfo

StageListener: TypeAlias = Callable[[str, int, int | None], None]  # stage, items done, total

_PAGE = 1_000
_INDEX = "export.json"


@dataclass(frozen=True, slots=True)
class ExportReport:
    """The result of an export: entries by collection, files and their bytes."""

    entries: Mapping[str, int]
    files: int
    size: int


class ExportFolder:
    """The folder at a URL that an export is written to.

    Args:
        url: any fsspec URL; it has to be empty.

    Raises:
        ConfigError: the URL cannot be used.
        UsageError: something is there already, which readers of all files of a folder would take as part of it.
        UnavailableError: the place does not answer.
    """

    def __init__(self, url: str) -> None:
        try:
            refuse_userinfo(url, "give the credentials by the environment, or by the role of the machine")
            self._fs, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        except (ValueError, ImportError, TypeError) as exc:
            raise ConfigError(f"the URL of the export cannot be used: {exc}") from exc
        self._url = url
        self._root = str(root).rstrip("/")
        if self._has_files():
            raise UsageError(
                f"there are files at {url} already, perhaps of an export that was interrupted: remove them, or name "
                "another folder"
            )

    def write(self, path: str, data: bytes) -> None:
        """Writes a file below the folder."""
        full = f"{self._root}/{path}"
        try:
            if isinstance(self._fs, LocalFileSystem):
                Path(full).parent.mkdir(parents=True, exist_ok=True)
            self._fs.pipe_file(full, data)
        except Exception as exc:
            raise UnavailableError(f"could not write {path} to {self._url}: {type(exc).__name__}: {exc}") from exc

    def _has_files(self) -> bool:
        try:
            listed = self._fs.ls(self._root, detail=False)
            return any(str(name).strip("/") != self._root.strip("/") for name in listed)  # itself: the mark of a folder
        except FileNotFoundError:
            return False
        except Exception as exc:
            raise UnavailableError(f"could not look at {self._url}: {type(exc).__name__}: {exc}") from exc


def export(
    store: EntryScan,
    spec: IndexSpec,
    folder: ExportFolder,
    *,
    tenant: str | None = None,
    with_vectors: bool = True,
    on_progress: StageListener = lambda _stage, _done, _total: None,
    part_bytes: int = PART_BYTES,
) -> ExportReport:
    """Writes the entries of all collections, and last `export.json`, which names all files, encoders and spaces.

    Entries that change during the export are in it as they were read. It cannot be restored: that is what backups are
    for.

    Args:
        store: reads the version of `spec`.
        spec: the collections.
        folder: where to.
        tenant: only its entries; None: all.
        with_vectors: whether the vectors are written too.
        on_progress: called every now and then.
        part_bytes: size of a file in memory.

    Raises:
        UnavailableError: the store or the place does not answer.
    """
    exporting = _Exporting(folder, on_progress, part_bytes)
    for collection, vectors in spec.vectors.items():
        dims = {field: vector.space.dim for field, vector in vectors.items()} if with_vectors else {}
        exporting.write(collection, store, dims, tenant)
    document = {
        "penstock": __version__,
        "index_version": spec.version,
        "tenant": tenant,
        "entries": exporting.entries,
        "files": exporting.files,
        "vectors": {
            collection.value: {field.value: asdict(EncoderInfo.from_spec(vector)) for field, vector in vectors.items()}
            for collection, vectors in spec.vectors.items()
        },
    }
    folder.write(_INDEX, json.dumps(document, indent=2, sort_keys=True).encode() + b"\n")
    return ExportReport(exporting.entries, len(exporting.files), exporting.size)


class _Exporting:
    """One export.

    Attributes:
        entries: written so far, by collection.
        files: paths of those written so far, with the number of entries in each.
        size: bytes written so far.
    """

    def __init__(self, folder: ExportFolder, on_progress: StageListener, part_bytes: int) -> None:
        self._folder = folder
        self._on_progress = on_progress
        self._part_bytes = part_bytes
        self.entries: dict[str, int] = {}
        self.files: dict[str, int] = {}
        self.size = 0

    def write(self, collection: Collection, store: EntryScan, dims: Mapping[Field, int], tenant: str | None) -> None:
        """Writes the entries of a collection."""
        total, read, number = store.count(collection), 0, 0
        tables: list[pa.Table] = []
        self.entries[collection.value] = 0
        for page in store.scan_entries(collection, batch=_PAGE):
            read += len(page)
            self._on_progress(f"entries in {collection}", read, total)
            selected: Sequence[Entry] = [entry for entry in page if tenant in (None, entry.asset.tenant)]
            if selected:
                tables.append(entries_table(selected, dims))
                self.entries[collection.value] += len(selected)
            if sum(table.nbytes for table in tables) >= self._part_bytes:
                self._write(collection, number, tables)
                tables, number = [], number + 1
        if tables:
            self._write(collection, number, tables)

    def _write(self, collection: Collection, number: int, tables: Sequence[pa.Table]) -> None:
        table, path = pa.concat_tables(tables), f"{collection}/{number:05}.parquet"
        data = to_parquet(table)
        self._folder.write(path, data)
        self.files[path] = table.num_rows
        self.size += len(data)
