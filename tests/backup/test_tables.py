from __future__ import annotations

from dataclasses import replace

import numpy as np

from penstock.backup.tables import (
    assets_of,
    assets_table,
    entries_of,
    entries_table,
    from_parquet,
    letters_of,
    letters_table,
    pieces,
    to_parquet,
)
from penstock.records import Collection, Entry, Field, Outcome, Position, Record
from tests.store.builders import DIM, asset, asset_row, entry, vector

DIMS = {Field.PASSAGE: DIM, Field.JOINT: DIM}


def written(count: int) -> list[Entry]:
    return [
        replace(
            entry(
                asset("tenant-ä", f"key {number}", "media.text"),
                number % 3,
                collection=Collection.TEXT,
                passage=vector(1, number),
                text=f"Ein Satz über Nummer {number} 🐈",
                attributes='{"price": 12.5, "tags": ["a", "ü"]}',
            ),
            acl=("group:a_b", "tenant") if number % 2 else (),
        )
        for number in range(count)
    ]


def test_entries_come_back_as_they_were() -> None:
    entries = written(7)
    table = from_parquet(to_parquet(entries_table(entries, DIMS)))
    back = [
        read for piece in pieces(table, 3) for read in entries_of(Collection.TEXT, piece, (Field.PASSAGE, Field.JOINT))
    ]
    assert [replace(read, vectors={}) for read in back] == [replace(entry_, vectors={}) for entry_ in entries]
    for read, written_ in zip(back, entries, strict=True):
        assert read.vectors.keys() == written_.vectors.keys()
        for field in written_.vectors:
            assert read.vectors[field].dtype == np.float32
            np.testing.assert_array_equal(read.vectors[field], written_.vectors[field])


def test_entries_of_a_backup_before_documents_have_no_page() -> None:
    entries = written(2)
    table = entries_table(entries, DIMS).drop_columns(["page", "page_label", "figure"])
    back = entries_of(Collection.TEXT, from_parquet(to_parquet(table)), (Field.PASSAGE, Field.JOINT))
    assert [replace(read, vectors={}) for read in back] == [replace(entry_, vectors={}) for entry_ in entries]


def test_the_page_of_an_entry_comes_back() -> None:
    (first,) = written(1)
    first = replace(first, page=7, page_label="vii – é", figure=2)
    (back,) = entries_of(Collection.TEXT, from_parquet(to_parquet(entries_table([first], DIMS))), (Field.PASSAGE,))
    assert (back.page, back.page_label, back.figure) == (7, "vii – é", 2)


def test_a_vector_that_an_entry_lacks_stays_absent() -> None:
    first, second = written(2)
    first = replace(first, vectors={Field.JOINT: vector(3)})
    table = from_parquet(to_parquet(entries_table([first, second], DIMS)))
    assert table.column("passage").null_count == 1
    back = entries_of(Collection.TEXT, table, (Field.PASSAGE, Field.JOINT))
    assert [set(read.vectors) for read in back] == [{Field.JOINT}, {Field.JOINT, Field.PASSAGE}]
    np.testing.assert_array_equal(back[1].vectors[Field.PASSAGE], second.vectors[Field.PASSAGE])


def test_asset_rows_come_back_with_slot_trace_and_labels() -> None:
    rows = [
        replace(asset_row(asset(key="a")), slot=1, traceparent="00-1-2-01", acl=("x",), content_hash="c0ffee"),
        asset_row(asset(key="b"), outcome=Outcome.DELETED, entries=0),
    ]
    assert assets_of(from_parquet(to_parquet(assets_table(rows)))) == rows


def test_letters_come_back_with_binary_headers_and_nulls() -> None:
    records = [
        Record(Position("media.dlq", 1, 7), b"\xff key", b"\x00\x01" * 10, (("name", b"\xfe"), ("name", b"")), 12),
        Record(Position("media.dlq", 0, 8), b"k", None, (), 13),
        Record(Position("media.dlq", 0, 9), None, b"", (), 14),
    ]
    assert letters_of(from_parquet(to_parquet(letters_table(records)))) == records


def test_no_rows_are_a_table_too() -> None:
    assert entries_of(Collection.TEXT, from_parquet(to_parquet(entries_table([], DIMS))), (Field.PASSAGE,)) == []
    assert letters_of(from_parquet(to_parquet(letters_table([])))) == []
