"""Rows: what fits, what is cut, how they are split."""

from __future__ import annotations

import pytest

from penstock.errors import PermanentError
from penstock.records import Field
from penstock.store.rows import dense_columns, entry_row, ordered_by_part, parse_entry
from tests.store.builders import DIM, asset, entry, vector


def test_nulls_in_attributes_are_left_out() -> None:
    row = entry_row(entry(asset(), attributes='{"a": null, "b": {"c": null, "d": [null]}}'))
    assert row["attributes"] == {"b": {"d": [None]}}


def test_a_missing_vector_is_zeros_in_the_row_and_missing_again_in_the_entry() -> None:
    written = entry(asset(), joint=vector(1, 1))
    columns = dense_columns(written, {Field.JOINT: DIM, Field.PASSAGE: DIM})
    assert not columns["passage"].any()
    found = parse_entry(written.collection, {**entry_row(written), **columns}, (Field.JOINT, Field.PASSAGE))
    assert set(found.vectors) == {Field.JOINT}


def test_parts_are_written_in_order_and_once() -> None:
    of = asset()
    assert [each.part for each in ordered_by_part([entry(of, 2), entry(of, 0), entry(of, 1)])] == [0, 1, 2]
    with pytest.raises(PermanentError, match="same id"):
        ordered_by_part([entry(of), entry(of)])
