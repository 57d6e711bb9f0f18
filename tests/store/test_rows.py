"""Tests rows: nulls, missing vectors, the order of parts, and the JSON that existing deployments hold."""

from __future__ import annotations

from dataclasses import replace

import pytest

from penstock.errors import PermanentError
from penstock.records import AssetRef, Checkpoint, Collection, Field, MediaPosition, part_id
from penstock.store import rows
from penstock.store.rows import dense_columns, entry_row, ordered_by_part, parse_entry
from tests.store.builders import DIM, asset, asset_row, entry, vector


def test_nulls_in_attributes_are_left_out() -> None:
    row = entry_row(entry(asset(), attributes='{"a": null, "b": {"c": null, "d": [null]}}'))
    assert row["attributes"] == {"b": {"d": [None]}}


def test_a_missing_vector_is_zeros_in_the_row_and_missing_again_in_the_entry() -> None:
    written = entry(asset(), joint=vector(1, 1))
    columns = dense_columns(written, {Field.JOINT: DIM, Field.PASSAGE: DIM})
    assert not columns["passage"].any()
    parsed = parse_entry(written.collection, {**entry_row(written), **columns}, (Field.JOINT, Field.PASSAGE))
    assert set(parsed.vectors) == {Field.JOINT}


def test_parts_are_written_in_order_and_once() -> None:
    of = asset()
    assert [ordered.part for ordered in ordered_by_part([entry(of, 2), entry(of, 0), entry(of, 1)])] == [0, 1, 2]
    with pytest.raises(PermanentError, match="same id"):
        ordered_by_part([entry(of), entry(of)])


def test_the_json_of_asset_rows_and_checkpoints_is_pinned() -> None:
    ref = asset()
    row = replace(asset_row(ref), slot=1)
    assert rows.asset_row(row)["counts"] == {"image": 1, "space": 1}
    assert rows.asset_row(asset_row(ref))["counts"] == {"image": 1}
    traced = replace(asset_row(ref), traceparent="00-a-b-01")
    assert rows.asset_row(traced)["counts"] == {"image": 1, "trace": "00-a-b-01"}
    assert rows.parse_asset_row(rows.asset_row(traced)) == traced
    checkpoint = Checkpoint(
        ref, row.version, MediaPosition(5, 4, 6), {Collection.IMAGE: 3}, "hash", "asset:ff", "sha", slot=1
    )
    stored = rows.checkpoint_row(checkpoint)
    assert stored["outcome"] == "unfinished"
    assert stored["counts"] == {"image": 3, "space": 1, "place": [5, 4, 6, 0, 0], "settings": "hash", "media": "sha"}
    assert rows.parse_checkpoint(stored) == checkpoint
    of_document = replace(checkpoint, position=MediaPosition(page=20, char=4_711), figures=("0a", "ff"))
    of_document_row = rows.checkpoint_row(of_document)["counts"]
    assert (of_document_row["place"], of_document_row["figures"]) == ([0, 0, 0, 20, 4_711], ["0a", "ff"])
    assert rows.parse_checkpoint(rows.checkpoint_row(of_document)) == of_document


def test_the_ids_of_rows_are_pinned() -> None:
    ref = AssetRef("default", "media.image", "k")
    assert ref.id == "7aecf401aea05f74f60365d61af7419b"
    assert part_id(ref.id, Collection.IMAGE, 0) == "304191e644019e22b9d560734d2f0cd4"
    assert part_id(ref.id, Collection.IMAGE, 0, 1) == "633d6810d6f68eb9d7d467bca1f9c10c"
    assert rows.checkpoint_id(ref.id) == "614ee2724b792d756910f3b090c7676c"
