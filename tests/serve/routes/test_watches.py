"""`/v1/watches`, over a registry on a broker in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from penstock.broker.memory.broker import MemoryBroker
from penstock.broker.memory.tail import MemoryTail
from penstock.query.watches.context import WatchContext
from penstock.query.watches.registry import WatchRegistry
from penstock.serve.plane import QueryPlane
from penstock.serve.use_cases.watches import WatchService
from tests.serve.conftest import caller
from tests.serve.sample_index import PROBLEM

TOPIC = "penstock.watches"


class Accepting:
    """Accepts every search; that of a watch needs a calibration, which null encoders do not have."""

    async def prepare(self, watch: Any, request: Any) -> WatchContext:
        return None  # type: ignore[return-value]


@pytest.fixture
def registry() -> Iterator[WatchRegistry]:
    broker = MemoryBroker()
    broker.create_topic(TOPIC)
    registry = WatchRegistry(MemoryTail(broker, TOPIC, from_start=True), TOPIC, broker.producer, max_watches=2)
    registry.start()
    assert registry.wait_until_ready(10)
    yield registry
    registry.close()


@pytest.fixture
def watched(plane: QueryPlane, registry: WatchRegistry) -> QueryPlane:
    service = WatchService(
        registry,
        Accepting(),  # type: ignore[arg-type]
        matches_topic="penstock.matches",
        wall_ms=lambda: 1_767_225_600_000,
    )
    return replace(plane, watches=service)


@pytest.fixture
def call(watched: QueryPlane) -> Callable[..., httpx.Response]:
    return caller(watched)


BODY = {"name": "herons", "text": "heron", "min_relevance": 0.6, "filter": {"mime": "image/png"}, "limit": 3}


def test_a_watch_is_created_listed_and_deleted(call: Callable[..., httpx.Response]) -> None:
    created = call("POST", "/v1/watches", json=BODY)
    assert created.status_code == 201
    watch = created.json()
    assert (watch["name"], watch["tenant"], watch["min_relevance"]) == ("herons", "default", 0.6)
    assert watch["created_at"] == "2026-01-01T00:00:00.000Z"
    assert watch["search"] == {key: value for key, value in BODY.items() if key != "name"}
    listed = call("GET", "/v1/watches").json()
    assert listed == {"watches": [watch], "matches_topic": "penstock.matches"}
    assert call("DELETE", f"/v1/watches/{watch['id']}").status_code == 204
    assert call("GET", "/v1/watches").json()["watches"] == []


def test_a_tenant_does_not_see_or_delete_the_watches_of_another(call: Callable[..., httpx.Response]) -> None:
    watch = call("POST", "/v1/watches", json=BODY | {"tenant": "acme"}).json()
    assert call("GET", "/v1/watches").json()["watches"] == []
    refused = call("DELETE", f"/v1/watches/{watch['id']}", params={"tenant": "globex"})
    absent = call("DELETE", f"/v1/watches/{'0' * 32}", params={"tenant": "globex"})
    assert refused.status_code == absent.status_code == 404
    assert refused.json()["detail"].replace(watch["id"], "") == absent.json()["detail"].replace("0" * 32, "")
    assert [own["id"] for own in call("GET", "/v1/watches?tenant=acme").json()["watches"]] == [watch["id"]]


@pytest.mark.parametrize(
    ("change", "status", "field"),
    [
        ({"min_relevance": None}, 400, "/min_relevance"),
        ({"cursor": "next"}, 400, "/cursor"),
        ({"like": ["0" * 32]}, 400, "/like"),
        ({"image": "AAAA"}, 400, "/image"),
        ({"filter": {"mood": 1}}, 400, "/filter/mood"),
        ({"filter": {"uri": {"gte": "s3://"}}}, 400, "/filter"),
        ({"name": ""}, 422, "/name"),
        ({"mood": "new"}, 422, "/mood"),
    ],
)
def test_a_watch_that_cannot_be_kept_points_at_the_fault(
    call: Callable[..., httpx.Response], change: dict[str, Any], status: int, field: str
) -> None:
    answer = call(
        "POST", "/v1/watches", json={key: value for key, value in (BODY | change).items() if value is not None}
    )
    assert (answer.status_code, answer.headers["content-type"]) == (status, PROBLEM)
    assert answer.json()["field"].startswith(field)


def test_a_tenant_has_no_more_watches_than_the_setting_allows(call: Callable[..., httpx.Response]) -> None:
    for _ in range(2):
        assert call("POST", "/v1/watches", json=BODY).status_code == 201
    assert call("POST", "/v1/watches", json=BODY).status_code == 409


def test_a_search_without_calibration_is_refused(plane: QueryPlane, registry: WatchRegistry) -> None:
    service = WatchService(registry, plane.watches._preparer, matches_topic="m", wall_ms=lambda: 0)
    answer = caller(replace(plane, watches=service))("POST", "/v1/watches", json=BODY)
    assert (answer.status_code, answer.json()["field"]) == (400, "/min_relevance")


def test_without_kafka_there_are_no_watches(plane: QueryPlane) -> None:
    answer = caller(plane)("GET", "/v1/watches")
    assert answer.status_code == 503
    assert "kafka.bootstrap_servers" in answer.json()["detail"]
