"""Requests are counted by the path of their route and by status."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import httpx
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from penstock.observability import metrics
from penstock.serve.app import create_app
from penstock.serve.middleware.metrics import RequestMetrics
from penstock.serve.plane import QueryPlane
from tests.serve.exchange import Exchange


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


def seconds(status: int) -> float:
    (family,) = metrics.QUERY.collect()
    return sum(
        sample.value
        for sample in family.samples
        if sample.name.endswith("_sum") and sample.labels["status"] == str(status)
    )


def test_what_runs_behind_the_response_is_no_part_of_its_duration() -> None:
    now_s = 100.0

    def passes(duration_s: float) -> None:
        nonlocal now_s
        now_s += duration_s

    async def answer() -> AsyncIterator[str]:
        for part in ("first", "second"):
            passes(1)
            yield part

    async def search(request: Request) -> StreamingResponse:
        return StreamingResponse(answer(), background=BackgroundTask(passes, 30))

    async def failing(request: Request) -> StreamingResponse:
        passes(5)
        raise ValueError("unexpected")

    for endpoint in (search, failing):
        app = RequestMetrics(
            Starlette(routes=[Route("/v1/search", endpoint)]), search_path="/v1/search", clock=lambda: now_s
        )

        async def request(app: RequestMetrics = app) -> None:
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://penstock") as client:
                await client.get("/v1/search")

        asyncio.run(request())
    assert now_s == 137
    assert (seconds(200), seconds(500)) == (2, 5)


def test_a_body_that_is_refused_before_its_route_is_known_is_counted(call: Callable[..., httpx.Response]) -> None:
    json_header = {"content-type": "application/json"}
    assert call("POST", "/v1/search", content=b" " * 8_000_000, headers=json_header).status_code == 413
    assert counts() == {("none", "413"): 1}


def test_a_stream_is_counted_when_it_ends_or_its_client_goes(plane: QueryPlane) -> None:
    async def scenario() -> None:
        app = create_app(plane)
        question = {"question": "a cat", "stream": True}
        whole = Exchange(app, "POST", "/v1/ask", question)
        await whole.events()
        await whole.finished()
        assert counts() == {("/v1/ask", "200"): 1}
        broken = Exchange(app, "POST", "/v1/ask", question)
        await broken.event()
        broken.go()
        await broken.finished()
        assert counts() == {("/v1/ask", "200"): 2}

    asyncio.run(scenario())
