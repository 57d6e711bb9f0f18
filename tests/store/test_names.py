"""Names of physical collections, and what a server's version stands for."""

from __future__ import annotations

import pytest

from penstock.errors import ConfigError
from penstock.records import Collection
from penstock.store.milvus.dialect import detect_backend
from penstock.store.names import PhysicalCollection, asset_collection, entry_collection, parse_name


def test_names_are_taken_apart_as_they_are_put_together() -> None:
    name = entry_collection(Collection.IMAGE, "vit_b_32", 12)
    assert str(name) == "image__vit_b_32__v12"
    assert parse_name(str(name)) == name
    assert str(asset_collection(1)) == "asset__v1"
    assert parse_name("asset__v1") == PhysicalCollection("asset", 1)


@pytest.mark.parametrize("name", ["image", "image__x__v0", "image__X__v1", "image__a__b__v1", "image__a_", "my_table"])
def test_what_is_not_ours_is_not_parsed(name: str) -> None:
    assert parse_name(name) is None


@pytest.mark.parametrize("slug", ["", "ViT", "a-b", "a__b", "_a", "a.b"])
def test_a_slug_that_would_not_parse_is_refused(slug: str) -> None:
    with pytest.raises(ConfigError, match="slug"):
        entry_collection(Collection.IMAGE, slug, 1)


@pytest.mark.parametrize(
    ("version", "lexical", "fields", "shards"),
    [
        ("milvus_lite-3.2.2", True, 4, False),
        ("v2.3.5-lite", False, 1, True),
        ("2.4.1", False, 4, True),
        ("v2.5.0", True, 4, True),
        ("2.10.3-dev", True, 4, True),
        ("of our own", True, 4, True),
    ],
)
def test_capabilities_follow_the_version(version: str, lexical: bool, fields: int, shards: bool) -> None:
    able = detect_backend(version).capabilities
    assert (able.lexical, able.vector_fields, able.shards, able.concurrent_writes) == (lexical, fields, shards, shards)
    assert version in able.product
