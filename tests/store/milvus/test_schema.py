"""Pins the columns and indexes of the collections: existing deployments hold them, so they change only on purpose."""

from __future__ import annotations

import json

import pytest
from pymilvus import CollectionSchema, DataType
from pymilvus.milvus_client.index import IndexParams

from penstock.config import VectorIndexSettings
from penstock.errors import ConfigError
from penstock.records import Collection, Field
from penstock.store import provenance
from penstock.store.base import IndexSpec
from penstock.store.milvus import schema
from penstock.store.milvus.dialect import Backend, detect_backend
from tests.store.builders import spec

VECTORS = spec().vectors[Collection.IMAGE]
LITE, SERVER = detect_backend("milvus_lite-3.2.2"), detect_backend("v2.6.1")
ENTRY_COLUMNS = {
    "id": 32, "tenant": 512, "asset": 32, "topic": 512, "key": 65_535, "title": 4_096, "text": 65_535, "uri": 65_535,
    "mime": 512, "thumbnail": 128, "page_label": 1_200,
    "part": DataType.INT64, "start_ms": DataType.INT64, "end_ms": DataType.INT64, "start_char": DataType.INT64,
    "end_char": DataType.INT64, "event_time": DataType.INT64, "indexed_at": DataType.INT64,
    "partition": DataType.INT64, "offset": DataType.INT64, "page": DataType.INT64, "figure": DataType.INT64,
    "attributes": DataType.JSON, "acl": DataType.ARRAY,
}  # fmt: skip
ASSET_COLUMNS = {
    "id": 32, "tenant": 512, "topic": 512, "key": 65_535, "outcome": 32, "uri": 65_535,
    "timestamp_ms": DataType.INT64, "partition": DataType.INT64, "offset": DataType.INT64,
    "indexed_at": DataType.INT64, "counts": DataType.JSON, "placeholder": DataType.FLOAT_VECTOR,
    "acl": 8_257,
}  # fmt: skip


def columns(built: CollectionSchema) -> dict[str, int | DataType]:
    """Returns the maximum length of each string column, and the type of each other one."""
    return {
        column.name: column.params["max_length"] if column.dtype is DataType.VARCHAR else column.dtype
        for column in built.fields
    }


def indexes(built: IndexParams) -> dict[str, tuple[str, str | None]]:
    """Returns the type and metric of each index by column."""
    described = {index.field_name: index.to_dict() for index in built}
    return {name: (index["index_type"], index.get("metric_type")) for name, index in described.items()}


def test_the_columns_of_entries() -> None:
    index_spec: IndexSpec = spec()
    fields = (Field.PASSAGE, Field.JOINT, Field.LEXICAL)
    built = schema.entries_schema(fields, index_spec.vectors[Collection.TEXT], SERVER)
    vectors = {
        "passage": DataType.FLOAT_VECTOR,
        "joint": DataType.FLOAT_VECTOR,
        "lexical": DataType.SPARSE_FLOAT_VECTOR,
    }
    assert columns(built) == {**ENTRY_COLUMNS, "terms": 65_535, **vectors}
    assert built.primary_field.name == "id"
    assert [column.name for column in built.fields if column.is_partition_key] == ["tenant"]
    assert [(function.input_field_names, function.output_field_names) for function in built.functions] == [
        (["terms"], ["lexical"])
    ]


@pytest.mark.parametrize(("backend", "tokenizer"), [(LITE, "standard"), (SERVER, "whitespace")])
def test_terms_are_taken_apart_by_a_tokenizer_that_the_backend_has(backend: Backend, tokenizer: str) -> None:
    built = schema.entries_schema((Field.LEXICAL,), {}, backend)
    (terms,) = (column for column in built.fields if column.name == "terms")
    assert json.loads(terms.params["analyzer_params"]) == {"tokenizer": tokenizer}
    assert terms.params["enable_analyzer"] is True


def test_the_parameters_of_bm25_are_those_of_the_double() -> None:
    (index,) = schema.entries_indexes((Field.LEXICAL,), {}, LITE, VectorIndexSettings())
    assert index.to_dict()["params"] == {"bm25_k1": 1.2, "bm25_b": 0.75}


def test_the_columns_of_asset_rows() -> None:
    built = schema.assets_schema(LITE)
    assert columns(built) == ASSET_COLUMNS
    assert built.primary_field.name == "id"
    assert not [column.name for column in built.fields if column.is_partition_key]


def test_labels_are_an_array_on_servers() -> None:
    (labels,) = (column for column in schema.assets_schema(SERVER).fields if column.name == "acl")
    assert (labels.dtype, labels.element_type) == (DataType.ARRAY, DataType.VARCHAR)
    assert labels.params == {"max_capacity": 64, "max_length": 128}


def test_the_indexes_of_a_server_and_of_lite() -> None:
    fields = (Field.JOINT, Field.LEXICAL)
    assert indexes(schema.entries_indexes(fields, VECTORS, SERVER, VectorIndexSettings())) == {
        "joint": ("HNSW", "COSINE"),
        "lexical": ("SPARSE_INVERTED_INDEX", "BM25"),
        "asset": ("INVERTED", None),
        "tenant": ("INVERTED", None),
    }
    assert indexes(schema.entries_indexes((Field.JOINT,), VECTORS, LITE, VectorIndexSettings())) == {
        "joint": ("FLAT", "COSINE")
    }
    assert indexes(schema.assets_indexes()) == {"placeholder": ("FLAT", "COSINE")}


def test_the_index_of_the_settings_is_built_with_its_parameters() -> None:
    chosen = VectorIndexSettings(type="HNSW_SQ", m=32)
    (built,) = schema.entries_indexes((Field.JOINT,), VECTORS, LITE, chosen)
    assert built.to_dict()["index_type"] == "HNSW_SQ"
    assert built.to_dict()["M"] == 32


def test_an_index_that_the_server_lacks_is_refused() -> None:
    older = detect_backend("v2.3.5")
    with pytest.raises(ConfigError, match=r"store\.index\.type=IVF_RABITQ: milvus v2\.3\.5 has no such index"):
        schema.entries_indexes((Field.JOINT,), VECTORS, older, VectorIndexSettings(type="IVF_RABITQ"))


def test_the_property_that_records_the_encoders() -> None:
    vectors = spec().vectors[Collection.IMAGE]
    recorded = provenance.to_property(provenance.encoders_of((Field.JOINT, Field.LEXICAL), vectors))
    assert provenance.VECTORS_PROPERTY == "penstock.vectors"
    assert recorded == (
        '{"joint": {"dim": 8, "model": "clip-a", "preprocessing": "pppp", "space": "clip-a", "weights": "aaaa"}}'
    )


def test_the_property_that_records_the_analyzer() -> None:
    vectors = spec().vectors[Collection.IMAGE]
    assert provenance.properties_of((Field.JOINT, Field.LEXICAL), vectors)["penstock.analyzer"] == "words-1"
    assert "penstock.analyzer" not in provenance.properties_of((Field.JOINT,), vectors)
