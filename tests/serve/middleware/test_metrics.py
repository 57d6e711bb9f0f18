"""Requests are counted by the path of their route and by status."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from penstock.observability import metrics


@pytest.fixture(autouse=True)
def _at_zero() -> None:
    for metric in (metrics.HTTP, metrics.QUERY):
        metric.clear()


def counts() -> dict[tuple[str, str], float]:
    (family,) = metrics.HTTP.collect()
    return {
        (sample.labels["route"], sample.labels["status"]): sample.value
        for sample in family.samples
        if sample.name.endswith("_count")
    }


def test_every_route_is_counted_by_its_path_and_status(call: Callable[..., httpx.Response]) -> None:
    for sha256 in ("0" * 64, "1" * 64):
        assert call("GET", f"/v1/media/{sha256}").status_code == 404
    assert call("POST", "/v1/search", json={"text": "a harbour"}).status_code == 200
    assert call("GET", "/healthz").status_code == 200
    assert call("GET", "/no/such/path").status_code == 404
    assert counts() == {
        ("/v1/media/{sha256}", "404"): 2,
        ("/v1/search", "200"): 1,
        ("/healthz", "200"): 1,
        ("none", "404"): 1,
    }
    (family,) = metrics.QUERY.collect()
    assert [sample.value for sample in family.samples if sample.name.endswith("_count")] == [1]


def test_a_body_that_is_refused_before_its_route_is_known_is_counted(call: Callable[..., httpx.Response]) -> None:
    json_header = {"content-type": "application/json"}
    assert call("POST", "/v1/search", content=b" " * 1_000_000, headers=json_header).status_code == 413
    assert counts() == {("none", "413"): 1}
