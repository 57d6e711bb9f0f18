"""Tests upsert requests against those that pymilvus builds from the same rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pymilvus import CollectionSchema
from pymilvus.client.prepare import Prepare

from penstock.config import StoreSettings
from penstock.encoders.load import profile_fingerprints
from penstock.encoders.profiles import load_profile
from penstock.errors import PermanentError
from penstock.records import AssetRef, AssetRow, Collection, Field, Outcome, Version
from penstock.store import rows
from penstock.store.milvus import schema
from penstock.store.milvus.dialect import detect_backend
from penstock.store.milvus.upsert_codec import upsert_request, upsert_requests
from penstock.store.spec import index_spec
from tests.store.builders import asset, entry

SERVER = detect_backend("v2.5.4")
DIM = 96
LABELS = ("group:a", "tenant")


def entry_rows(count: int) -> list[rows.Row]:
    random = np.random.default_rng(0)
    encoded = []
    for number in range(count):
        vector = random.standard_normal(DIM).astype(np.float32)
        written = entry(asset(), number, text=f"Größe {number} 🦩", attributes='{"river": {"name": "Isär", "km": 7}}')
        written = replace(written, acl=LABELS[: number % 3])
        encoded.append({**rows.entry_row(written), Field.JOINT.value: vector})
    return encoded


def asset_rows(count: int) -> list[rows.Row]:
    written = [
        AssetRow(
            AssetRef("t", "topic", f"key {number}"),
            Version(-1, 2, 2**62),
            Outcome.INDEXED,
            {},
            "",
            number,
            acl=LABELS[:number],
        )
        for number in range(count)
    ]
    return [{**rows.asset_row(row), schema.PLACEHOLDER: schema.PLACEHOLDER_VALUE} for row in written]


def same_as_pymilvus(name: str, written: list[rows.Row], columns: CollectionSchema) -> None:
    theirs = Prepare.row_upsert_param(
        name, written, "", fields_info=columns.to_dict()["fields"], struct_fields_info=[], enable_dynamic=False
    )
    ours = upsert_request(name, written)
    assert {column.field_name: column for column in ours.fields_data} == {
        column.field_name: column for column in theirs.fields_data
    }
    del ours.fields_data[:], theirs.fields_data[:]  # pymilvus has them in an order of its own
    assert ours == theirs


@pytest.mark.parametrize("count", [1, 2, 40])
def test_a_request_equals_that_of_pymilvus_for_the_same_entries(count: int) -> None:
    profile = load_profile(f"null:{DIM}")
    spec = index_spec(profile, profile_fingerprints(profile), StoreSettings())
    columns = schema.entries_schema((Field.JOINT,), spec.vectors[Collection.IMAGE], SERVER)
    same_as_pymilvus("image", entry_rows(count), columns)


def test_a_request_equals_that_of_pymilvus_for_the_same_asset_rows() -> None:
    same_as_pymilvus("asset", asset_rows(3), schema.assets_schema(SERVER))


def test_a_value_that_no_column_can_hold_is_refused_permanently() -> None:
    written = asset_rows(2)
    written[1]["offset"] = 2**63
    with pytest.raises(PermanentError, match="offset"):
        upsert_request("asset", written)


def test_vectors_of_different_lengths_are_refused_permanently() -> None:
    written = entry_rows(2)
    written[1][Field.JOINT.value] = np.zeros(DIM + 1, np.float32)
    with pytest.raises(PermanentError, match="joint"):
        upsert_request("image", written)


def test_rows_are_split_by_bytes_in_order() -> None:
    written = [{"id": str(n), "v": np.zeros(250, dtype=np.float32)} for n in range(10)]  # 1,001 bytes each, and headers
    requests = list(upsert_requests("image", written, 3_200))
    assert all(request.ByteSize() <= 3_200 for request in requests)
    ids = [id_ for request in requests for id_ in request.fields_data[0].scalars.string_data.data]
    assert ids == [row["id"] for row in written]
    assert len(requests) == 4


def test_a_row_above_the_limit_has_a_request_of_its_own() -> None:
    written = [{"id": "a", "text": ""}, {"id": "b", "text": "x" * 500}, {"id": "c", "text": ""}]
    assert [request.num_rows for request in upsert_requests("text", written, 150)] == [1, 1, 1]
