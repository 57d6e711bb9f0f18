"""Tests the names of physical collections."""

from __future__ import annotations

import pytest

from penstock.errors import ConfigError
from penstock.records import Collection
from penstock.store.names import PhysicalCollection, asset_collection, entry_collection, parse_name


def test_a_name_is_parsed_into_the_parts_that_it_is_made_of() -> None:
    name = entry_collection(Collection.IMAGE, "vit_b_32", 12)
    assert str(name) == "image__vit_b_32__v12"
    assert parse_name(str(name)) == name
    assert str(asset_collection(1)) == "asset__v1"
    assert parse_name("asset__v1") == PhysicalCollection("asset", 1)


@pytest.mark.parametrize("name", ["image", "image__x__v0", "image__X__v1", "image__a__b__v1", "image__a_", "my_table"])
def test_a_name_that_is_not_penstocks_is_not_parsed(name: str) -> None:
    assert parse_name(name) is None


@pytest.mark.parametrize("slug", ["", "ViT", "a-b", "a__b", "_a", "a.b"])
def test_a_slug_that_would_not_parse_is_refused(slug: str) -> None:
    with pytest.raises(ConfigError, match="slug"):
        entry_collection(Collection.IMAGE, slug, 1)
