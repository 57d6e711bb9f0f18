"""Converts entries, asset rows, dead letters and hashes to tables of Arrow, and back.

The columns are those of the store (`store.rows`), with JSON as text and each vector as a list of fixed length, float32;
a vector that an entry lacks is null.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from penstock.records import AssetRow, Collection, Entry, Field, Float32, Position, Record
from penstock.store import rows
from penstock.store.access import ACL

_LABELS = pa.list_(pa.string())
ASSET_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in rows.ASSET_STRINGS),
        *((name, pa.int64()) for name in rows.ASSET_INTEGERS),
        ("counts", pa.string()),
        (ACL, _LABELS),
    ]
)
LETTER_SCHEMA = pa.schema(
    [
        ("topic", pa.string()),
        ("partition", pa.int64()),
        ("offset", pa.int64()),
        ("timestamp_ms", pa.int64()),
        ("key", pa.binary()),
        ("value", pa.large_binary()),
        ("headers", pa.list_(pa.struct([("name", pa.string()), ("value", pa.binary())]))),
    ]
)
MEDIA_SCHEMA = pa.schema([("sha256", pa.string()), ("size", pa.int64())])
LEFT_OUT_SCHEMA = pa.schema([("asset", pa.string()), ("entry", pa.string())])


def entries_table(entries: Sequence[Entry], dims: Mapping[Field, int]) -> pa.Table:
    """Returns entries of one collection; `dims` are the dimensions of its dense fields."""
    stored = [rows.entry_row(entry) for entry in entries]
    columns: dict[str, pa.Array] = {
        name: pa.array([row[name] for row in stored], pa.string()) for name in rows.ENTRY_STRINGS
    }
    columns |= {name: pa.array([row[name] for row in stored], pa.int64()) for name in rows.ENTRY_INTEGERS}
    columns["attributes"] = pa.array([json.dumps(row["attributes"], ensure_ascii=False) for row in stored], pa.string())
    columns[ACL] = pa.array([row[ACL] for row in stored], _LABELS)
    for field, dim in dims.items():
        columns[field.value] = _vectors([entry.vectors.get(field) for entry in entries], dim)
    return pa.table(columns)


def entries_of(collection: Collection, table: pa.Table, fields: Sequence[Field]) -> list[Entry]:
    """Returns the entries of a table, with the vectors of these fields."""
    plain = table.select([name for name in rows.ENTRY_COLUMNS if name in table.column_names]).to_pylist()
    vectors = {field: _matrix(table.column(field.value)) for field in fields}
    return [
        rows.parse_entry(collection, row | {field.value: vectors[field][number] for field in fields}, fields)
        for number, row in enumerate(plain)
    ]


def assets_table(asset_rows: Sequence[AssetRow]) -> pa.Table:
    """Returns asset rows."""
    stored = [rows.asset_row(row) for row in asset_rows]
    return pa.Table.from_pylist(
        [row | {"counts": json.dumps(row["counts"], ensure_ascii=False)} for row in stored], ASSET_SCHEMA
    )


def assets_of(table: pa.Table) -> list[AssetRow]:
    """Returns the asset rows of a table."""
    return [rows.parse_asset_row(row | {"counts": json.loads(row["counts"])}) for row in table.to_pylist()]


def letters_table(records: Sequence[Record]) -> pa.Table:
    """Returns records of the dead-letter topic."""
    stored = [
        {
            "topic": record.position.topic,
            "partition": record.position.partition,
            "offset": record.position.offset,
            "timestamp_ms": record.timestamp_ms,
            "key": record.key,
            "value": record.value,
            "headers": [{"name": name, "value": value} for name, value in record.headers],
        }
        for record in records
    ]
    return pa.Table.from_pylist(stored, LETTER_SCHEMA)


def letters_of(table: pa.Table) -> list[Record]:
    """Returns the records of a table."""
    return [
        Record(
            Position(row["topic"], row["partition"], row["offset"]),
            row["key"],
            row["value"],
            tuple((header["name"], header["value"]) for header in row["headers"]),
            row["timestamp_ms"],
        )
        for row in table.to_pylist()
    ]


def to_parquet(table: pa.Table) -> bytes:
    """Returns a table as a file."""
    buffer = io.BytesIO()
    # Without dictionaries: ids, texts and vectors rarely repeat, and zstd takes care of names that do.
    pq.write_table(table, buffer, compression="zstd", use_dictionary=False)
    return buffer.getvalue()


def from_parquet(data: bytes) -> pa.Table:
    """Returns the table of a file."""
    return pq.read_table(io.BytesIO(data))


def pieces(table: pa.Table, size: int) -> Iterator[pa.Table]:
    """Yields a table in pieces of at most `size` rows."""
    return (table.slice(start, size) for start in range(0, table.num_rows, size))


def _vectors(vectors: Sequence[Float32 | None], dim: int) -> pa.Array:
    absent = np.array([vector is None for vector in vectors], dtype=bool)
    matrix = np.zeros((len(vectors), dim), dtype=np.float32)  # float32[entries, dim], L2-normalised, or zeros
    for number, vector in enumerate(vectors):
        if vector is not None:
            matrix[number] = vector
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), dim, mask=pa.array(absent))


def _matrix(column: pa.ChunkedArray) -> Float32:
    """Returns float32[entries, dim]; an absent vector is zeros, which the store leaves out."""
    array = column.combine_chunks()
    dim = array.type.list_size
    matrix = np.zeros((len(array), dim), dtype=np.float32)
    present = ~array.is_null().to_numpy(zero_copy_only=False)
    matrix[present] = array.flatten().to_numpy(zero_copy_only=False).reshape(-1, dim)
    return matrix
