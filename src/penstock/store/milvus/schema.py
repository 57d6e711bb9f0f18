"""Defines the columns, vector fields and indexes of the physical collections.

The `IndexParams` of pymilvus come from `pymilvus.milvus_client.index`, which it does not export.
"""

from __future__ import annotations

from collections.abc import Mapping

from pymilvus import CollectionSchema, DataType, Function, FunctionType, MilvusClient
from pymilvus.milvus_client.index import IndexParams

from penstock.config import VectorIndexSettings
from penstock.records import MAX_LABEL_CHARS, MAX_LABELS, Field
from penstock.store import rows, vector_index
from penstock.store.access import ACL
from penstock.store.base import VectorSpec
from penstock.store.lexical import MAX_TERMS_BYTES
from penstock.store.milvus.dialect import Backend

# The vector field that Milvus demands of the asset rows, which have no vectors: always these two numbers.
PLACEHOLDER = "placeholder"
PLACEHOLDER_VALUE = [1.0, 0.0]

# The terms by which BM25 finds an entry (`store.lexical`). Never read: it is in no list of columns to return.
TERMS = "terms"

# BM25's usual values (Robertson and Zaragoza, 2009), and Milvus's own; Lite has 1.5 for k1.
# Nested: pymilvus sends these as one JSON object, which every Milvus reads; beside `index_type` Lite would ignore them.
_BM25 = {"params": {"bm25_k1": 1.2, "bm25_b": 0.75}}


def entries_schema(
    fields: tuple[Field, ...], vectors: Mapping[Field, VectorSpec], backend: Backend
) -> CollectionSchema:
    """Returns the columns of a collection of entries with these vector fields."""
    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
    for name in rows.ENTRY_STRINGS:
        _add_string(schema, name, backend)
    for name in rows.ENTRY_INTEGERS:
        schema.add_field(name, DataType.INT64)
    schema.add_field("attributes", DataType.JSON)
    _add_labels(schema, backend)
    for field in fields:
        if field is Field.LEXICAL:
            schema.add_field(
                TERMS,
                DataType.VARCHAR,
                max_length=MAX_TERMS_BYTES,
                enable_analyzer=True,
                analyzer_params={"tokenizer": backend.tokenizer},
            )
            schema.add_field(field.value, DataType.SPARSE_FLOAT_VECTOR)
            schema.add_function(Function("bm25", FunctionType.BM25, [TERMS], [field.value]))
        else:
            schema.add_field(field.value, DataType.FLOAT_VECTOR, dim=vectors[field].space.dim)
    return schema


def entries_indexes(
    fields: tuple[Field, ...], vectors: Mapping[Field, VectorSpec], backend: Backend, settings: VectorIndexSettings
) -> IndexParams:
    """Returns the indexes of a collection of entries with these vector fields.

    Raises:
        ConfigError: the backend has no index of the type that is set.
    """
    capabilities = backend.capabilities
    kind = vector_index.index_type(settings, capabilities.dense_index, backend.index_types, capabilities.product)
    indexes = MilvusClient.prepare_index_params()
    for field in fields:
        if field is Field.LEXICAL:
            indexes.add_index(field.value, index_type="SPARSE_INVERTED_INDEX", metric_type="BM25", params=_BM25)
        else:
            params = dict(vector_index.build_params(settings, kind, vectors[field].space.dim))
            indexes.add_index(field.value, index_type=kind, metric_type="COSINE", params=params)
    if backend.scalar_index:
        for name in ("asset", "tenant"):
            indexes.add_index(name, index_type=backend.scalar_index)
    return indexes


def assets_schema(backend: Backend) -> CollectionSchema:
    """Returns the columns of the collection of asset rows and checkpoints."""
    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
    for name in rows.ASSET_STRINGS:
        _add_string(schema, name, backend)
    for name in rows.ASSET_INTEGERS:
        schema.add_field(name, DataType.INT64)
    schema.add_field("counts", DataType.JSON)
    _add_labels(schema, backend)
    schema.add_field(PLACEHOLDER, DataType.FLOAT_VECTOR, dim=len(PLACEHOLDER_VALUE))
    return schema


def assets_indexes() -> IndexParams:
    """Returns the index of the collection of asset rows, on its placeholder vector."""
    indexes = MilvusClient.prepare_index_params()
    indexes.add_index(PLACEHOLDER, index_type="FLAT", metric_type="COSINE")
    return indexes


def _add_labels(schema: CollectionSchema, backend: Backend) -> None:
    if backend.label_arrays:
        schema.add_field(
            ACL,
            DataType.ARRAY,
            element_type=DataType.VARCHAR,
            max_capacity=MAX_LABELS,
            max_length=MAX_LABEL_CHARS,
        )
    else:
        schema.add_field(ACL, DataType.VARCHAR, max_length=MAX_LABELS * (MAX_LABEL_CHARS + 1) + 1)


def _add_string(schema: CollectionSchema, name: str, backend: Backend) -> None:
    schema.add_field(
        name,
        DataType.VARCHAR,
        max_length=rows.MAX_BYTES[name],
        is_primary=name == "id",
        is_partition_key=name == "tenant" and backend.partition_key,
    )
