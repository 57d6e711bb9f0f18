"""Health, readiness and status."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from penstock.errors import UnavailableError
from penstock.serve.plane import QueryPlane
from penstock.serve.use_cases import status as status_module
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
