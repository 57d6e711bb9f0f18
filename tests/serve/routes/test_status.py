"""Health, readiness and status."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from penstock.errors import UnavailableError
from penstock.serve.plane import QueryPlane
from penstock.serve.use_cases import status as status_module
from tests.clock import Clock
from tests.serve.sample_index import IMAGES, raising


def test_health_readiness_and_status(call: Callable[..., httpx.Response], search: Callable[..., Any]) -> None:
    assert call("GET", "/healthz").json() == {"status": "ok"}
    ready = call("GET", "/readyz")
    assert (ready.status_code, ready.json()) == (
        200,
        {"ready": True, "checks": {"store": "ok", "encoders": "ok", "disk": "ok"}},
    )
    search(text="cat")
    status = call("GET", "/v1/status").json()
    assert status["entries"]["image"] == len(IMAGES)
    assert status["searches"] == 1
    assert "text.lexical" in status["channels"]


def test_many_requests_for_readiness_are_one_call_of_the_store(plane: QueryPlane) -> None:
    clock, calls = Clock(), []
    service, ping = plane.status, plane.store.ping

    def counted() -> None:
        calls.append(None)
        ping()

    async def check() -> None:
        for expected in (1, 1, 2):
            await asyncio.gather(*(service.checks() for _ in range(50)))
            assert len(calls) == expected
            clock.now_s += 0.6 * status_module.SHARED_S

    plane.store.ping = counted  # type: ignore[method-assign]
    service._clock = clock
    asyncio.run(check())


def test_a_plane_that_is_not_ready_names_the_failed_checks(
    plane: QueryPlane,
    call: Callable[..., httpx.Response],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plane.store, "ping", raising(UnavailableError("Milvus does not answer")))
    monkeypatch.setattr(status_module, "free_bytes", lambda _: -1)
    ready = call("GET", "/readyz")
    assert ready.status_code == 503
    assert ready.json()["ready"] is False
    assert ready.json()["checks"]["store"] == "Milvus does not answer"
    assert "min_free_disk_bytes" in ready.json()["checks"]["disk"]
    assert call("GET", "/v1/status").json()["store"] is None
