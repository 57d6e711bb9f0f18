"""Tests which backend a server's version stands for."""

from __future__ import annotations

import pytest

from penstock.store.milvus.dialect import detect_backend


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
    capabilities = detect_backend(version).capabilities
    assert (capabilities.lexical, capabilities.vector_fields) == (lexical, fields)
    assert capabilities.shards == capabilities.concurrent_writes == shards
    assert version in capabilities.product
