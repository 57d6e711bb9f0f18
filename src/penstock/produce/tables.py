"""Reads Parquet and CSV: one event for each row, by columns that are named as the fields of JSONL are."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, TextIO

from penstock.broker.base import Message
from penstock.config import MIB, Settings
from penstock.errors import UsageError
from penstock.produce import lines
from penstock.produce.base import item_of
from penstock.produce.compose import MessageComposer
from penstock.produce.file_systems import FileSystem, StoredObject
from penstock.produce.items import Cursor, JsonObject, ProduceItem, ProduceOptions, RefusedSource, SourceMark
from penstock.produce.rows import columns_of, message_of_row

if TYPE_CHECKING:
    from pyarrow import RecordBatch
    from pyarrow.parquet import ParquetFile

_BATCH_ROWS = 64  # of a table with images, some 10 MB
_BATCH_BYTES = 32 * MIB  # of tables with larger rows, by their mean in a group of rows; no fewer than one row
_MAX_CELL = lines.MAX_LINE  # a row has no more either
_SEPARATORS = {".tsv": "\t", ".tab": "\t"}


class ParquetSource:
    """The rows of Parquet files, of one or of a pattern. The cursor is a file and the rows of it that are done.

    Args:
        url: of a file, or a pattern of several.
        settings: topics, tenants and limits.
        options: what applies to all items.
    """

    unit = "rows"

    def __init__(self, url: str, settings: Settings, options: ProduceOptions) -> None:
        self.name = url
        self._files = FileSystem(url, settings)
        self._options = options
        self._composer = MessageComposer(settings, options)

    def items(self, after: Cursor | None) -> Iterator[ProduceItem]:
        """See `MediaSource.items`."""
        done = 0 if after is None else int(after["done"])
        for stored in self._files.files_of(self._files.path):
            if after is not None and stored.path < after["path"]:
                continue
            skip = int(after["row"]) if after is not None and stored.path == after["path"] else 0
            for item in self._rows(stored.path, skip, done):
                done += 1
                yield item

    def total(self) -> int | None:
        """See `MediaSource.total`."""
        return sum(self._rows_of(stored.path) for stored in self._files.files_of(self._files.path))

    def _rows_of(self, path: str) -> int:
        with self._files.open(path) as file:
            return int(_parquet(file, path).metadata.num_rows)

    def _rows(self, path: str, skip: int, done: int) -> Iterator[ProduceItem]:
        with self._files.open(path) as file:
            table = _parquet(file, path)
            columns = columns_of(self._options, frozenset(table.schema_arrow.names))
            read = sorted({*columns.values(), *self._options.attribute_columns})
            first, groups = _groups_behind(table, skip)
            row = first
            for batch in _batches(table, groups, read):
                for read_row in _rows_of_batch(batch):
                    row += 1
                    if row <= skip:
                        continue
                    done += 1
                    mark = SourceMark(self.name, {"path": path, "row": row, "done": done}, done)
                    key = f"{PurePosixPath(path).name}/{row}"
                    label = f"{self._files.url_of(path)}:{row}"
                    yield item_of(label, partial(self._message, read_row, columns, key), mark)

    def _message(self, read_row: Callable[[], JsonObject], columns: Mapping[str, str], key: str) -> Message:
        return message_of_row(read_row(), columns, self._composer, default_key=key)


def _parquet(file: Any, path: str) -> ParquetFile:
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        return ParquetFile(file)
    except pyarrow.ArrowInvalid as exc:
        raise UsageError(f"{path} is not Parquet: {exc}") from exc


def _batches(table: ParquetFile, groups: Sequence[int], columns: Sequence[str]) -> Iterator[RecordBatch]:
    """Yields the rows of some groups in batches of `_BATCH_ROWS`, or of fewer if rows of the group are large."""
    for number in groups:
        group = table.metadata.row_group(number)
        chunks = [group.column(place) for place in range(group.num_columns)]
        size = sum(chunk.total_uncompressed_size for chunk in chunks if _is_of(chunk.path_in_schema, columns))
        rows = max(1, min(_BATCH_ROWS, _BATCH_BYTES * group.num_rows // max(1, size)))
        yield from table.iter_batches(batch_size=rows, row_groups=[number], columns=columns)


def _is_of(path: str, columns: Sequence[str]) -> bool:
    """Returns whether a path such as `image.bytes` is of one of the columns."""
    return any(path == column or path.startswith(f"{column}.") for column in columns)


def _rows_of_batch(batch: RecordBatch) -> Iterator[Callable[[], JsonObject]]:
    """Yields a function for each row that returns it, and raises where a value of this row has no form in Python."""
    try:
        rows = batch.to_pylist()
    except Exception:  # such as a time after the year 9999; the other rows of the batch are sent
        yield from (partial(_row_of_batch, batch, number) for number in range(batch.num_rows))
    else:
        yield from (partial(dict, row) for row in rows)


def _row_of_batch(batch: RecordBatch, number: int) -> JsonObject:
    row: JsonObject = batch.slice(number, 1).to_pylist()[0]
    return row


def _groups_behind(table: ParquetFile, skip: int) -> tuple[int, list[int]]:
    """Returns the rows before the first group that has one behind `skip`, and the numbers of the groups from there."""
    before = 0
    for number in range(table.metadata.num_row_groups):
        rows = table.metadata.row_group(number).num_rows
        if before + rows > skip:
            return before, list(range(number, table.metadata.num_row_groups))
        before += rows
    return before, []


class CsvSource:
    """The rows of a CSV file with a first line of names; `.tsv` is separated by tabs. The cursor is a number of rows.

    All values are texts; an empty one is absent.

    Args:
        url: of the file, which may be packed (`.csv.gz`).
        settings: topics, tenants and limits.
        options: what applies to all items.
    """

    unit = "bytes"

    def __init__(self, url: str, settings: Settings, options: ProduceOptions) -> None:
        self.name = url
        self._files = FileSystem(url, settings)
        self._options = options
        self._composer = MessageComposer(settings, options)

    def items(self, after: Cursor | None) -> Iterator[ProduceItem]:
        """See `MediaSource.items`."""
        skip = 0 if after is None else int(after["row"])
        stored = self._files.only_file(self._files.path)
        csv.field_size_limit(_MAX_CELL)
        with self._files.open(stored.path) as raw, _unpacked(raw, stored.path) as unpacked:
            text = io.TextIOWrapper(unpacked, encoding="utf-8-sig", errors="surrogateescape", newline="")
            separator = _SEPARATORS.get(_suffix(stored.path), ",")
            bounded = _RowLines(text)
            rows = csv.DictReader(bounded, delimiter=separator, restkey="", strict=True)
            try:
                columns = columns_of(self._options, frozenset(rows.fieldnames or ()))
            except csv.Error as exc:
                raise UsageError(f"{self.name} has no first line of names that can be read: {exc}") from exc
            yield from self._rows(rows, bounded, columns, raw, stored, skip)

    def total(self) -> int | None:
        """See `MediaSource.total`."""
        return self._files.only_file(self._files.path).size

    def _rows(  # noqa: PLR0917
        self,
        rows: csv.DictReader[str],
        bounded: _RowLines,
        columns: Mapping[str, str],
        raw: Any,
        stored: StoredObject,
        skip: int,
    ) -> Iterator[ProduceItem]:
        label, row = self._files.url_of(stored.path), 0
        try:
            for row, values in enumerate(rows, start=1):
                bounded.end_row()
                if row <= skip:
                    continue
                mark = SourceMark(self.name, {"row": row}, min(raw.tell(), stored.size))
                if "" in values or None in values.values():
                    yield RefusedSource(f"{label}:{row}", "has more or fewer cells than the first line", mark)
                    continue
                present = {name: value for name, value in values.items() if value}
                make = partial(message_of_row, present, columns, self._composer, default_key=f"{stored.name}/{row}")
                yield item_of(f"{label}:{row}", make, mark)
        except csv.Error as exc:  # where the next row begins is not known
            yield RefusedSource(f"{label}:{row + 1}", f"cannot be read, and neither can the rest: {exc}")


class _RowLines:
    """The lines of a CSV file, of which those of one row have `MAX_LINE` characters together at most.

    Raises:
        csv.Error: a row has more.
    """

    def __init__(self, text: TextIO) -> None:
        self._text = text
        self._left = lines.MAX_LINE

    def __iter__(self) -> _RowLines:
        return self

    def __next__(self) -> str:
        line = self._text.readline(self._left + 1)
        if not line:
            raise StopIteration
        self._left -= len(line)
        if self._left < 0:
            raise csv.Error(f"a row is longer than {lines.MAX_LINE:,} characters")
        return line

    def end_row(self) -> None:
        """Begins to count again: the last line was the end of a row."""
        self._left = lines.MAX_LINE


def _suffix(path: str) -> str:
    plain = PurePosixPath(path)
    return plain.with_suffix("").suffix if plain.suffix == ".gz" else plain.suffix


def _unpacked(raw: Any, path: str) -> Any:
    import gzip

    return gzip.GzipFile(fileobj=raw) if path.endswith(".gz") else raw
