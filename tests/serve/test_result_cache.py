"""The HTTP API answers from the cache of results, for each tenant and not beyond a change of its index."""

from __future__ import annotations

from collections.abc import Callable

import httpx

from penstock.records import IndexChange, Position
from penstock.serve.plane import QueryPlane


def test_an_answer_is_cached_until_the_index_of_its_tenant_changes(
    plane: QueryPlane, search: Callable[..., httpx.Response]
) -> None:
    plane.changes.set_available(True)
    first, again = search(text="harbour").json(), search(text="harbour").json()
    assert "cached" not in first["took_ms"]
    assert set(again["took_ms"]) == {"cached", "total"}
    assert again | {"took_ms": None} == first | {"took_ms": None}
    assert "cached" not in search(text="harbour", tenant="globex").json()["took_ms"]
    tenant = plane.settings.tenant
    plane.changes.receive([IndexChange(tenant, "media.text", "k", Position("media.text", 0, 0), False, {}, 0)])
    assert "cached" not in search(text="harbour").json()["took_ms"]


def test_nothing_is_cached_without_a_feed(search: Callable[..., httpx.Response]) -> None:
    for _ in range(2):
        assert "cached" not in search(text="harbour").json()["took_ms"]
