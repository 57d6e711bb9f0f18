"""Tests that each request leaves its line in the audit log, also what is refused, fails or ends early."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from penstock.auth import Permission, Principal
from penstock.config import AuditLogSettings
from penstock.observability.audit_log import AuditLog
from penstock.serve.app import create_app
from penstock.serve.middleware.audit_log import ACTIONS, RequestAudit, request_id_of
from penstock.serve.plane import QueryPlane
from tests.serve.conftest import caller

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PRINCIPAL = Principal("key:k1", frozenset({"acme"}), frozenset({Permission.SEARCH}), frozenset({"tenant"}), "k1")


class Authentication:
    """Stands for the authentication: it knows one credential, and refuses others."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if dict(scope["headers"]).get(b"authorization") != b"Bearer right":
            await PlainTextResponse("no", 401)(scope, receive, send)
            return
        scope["state"]["principal"] = PRINCIPAL
        await self._app(scope, receive, send)


async def answers(request: Request) -> Response:
    return PlainTextResponse("yes")


async def fails(request: Request) -> Response:
    raise RuntimeError("unexpected")


async def breaks_off(request: Request) -> Response:
    async def body() -> Any:
        yield b"a"
        raise ConnectionResetError

    return StreamingResponse(body())


def audited(lines: list[bytes]) -> ASGIApp:
    routes = [
        Route("/v1/search", answers),
        Route("/v1/media/{sha256}", answers),
        Route("/v1/status", fails),
        Route("/v1/live", breaks_off),
        Route("/readyz", answers),
    ]
    inner = Authentication(Starlette(routes=routes))
    return RequestAudit(inner, log=AuditLog(lines.append, with_text=False))


def call(path: str, *, key: str = "right", **headers: str) -> tuple[httpx.Response, list[dict[str, Any]]]:
    """Returns the answer to one request, and the lines that it left."""
    lines: list[bytes] = []

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(audited(lines), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://penstock") as client:
            return await client.get(path, headers={"Authorization": f"Bearer {key}", **headers})

    response = asyncio.run(send())
    return response, [json.loads(line) for line in lines]


def test_a_request_is_recorded_with_its_principal_and_the_id_of_its_trace() -> None:
    response, (line,) = call("/v1/media/ab12", traceparent=f"00-{TRACE}-00f067aa0ba902b7-01")
    assert (line["action"], line["outcome"], line["status"]) == ("media", "ok", 200)
    assert (line["subject"], line["key_id"], line["target"]) == ("key:k1", "k1", {"sha256": "ab12"})
    assert line["request_id"] == response.headers["x-request-id"] == TRACE


def test_refused_credentials_are_recorded_without_them_even_at_a_probe() -> None:
    _, (line,) = call("/v1/search", key="pk_wrong_secret")
    assert (line["action"], line["outcome"], line["status"]) == ("search", "refused", 401)
    assert "subject" not in line
    assert "secret" not in json.dumps(line)
    assert call("/readyz", key="wrong")[1]
    assert call("/readyz")[1] == []


@pytest.mark.parametrize(
    ("path", "outcome", "status"),
    [("/v1/status", "failed", 500), ("/v1/live", "cut", 200), ("/nowhere", "invalid", 404)],
)
def test_what_fails_or_ends_early_is_recorded(path: str, outcome: str, status: int) -> None:
    _, (line,) = call(path)
    assert (line["outcome"], line["status"]) == (outcome, status)


@pytest.mark.parametrize("named", ["", "a b", "x" * 65, "line\\nfeed", "ä"])
def test_an_id_that_is_no_plain_name_is_replaced(named: str) -> None:
    scope = {"headers": [(b"x-request-id", named.encode()), (b"traceparent", b"00-no")]}
    assert len(request_id_of(scope)) == 32
    assert request_id_of({"headers": [(b"x-request-id", b"job-7.a_b")]}) == "job-7.a_b"


def test_every_route_has_an_action_or_is_left_out_by_name(plane: QueryPlane) -> None:
    paths = {path for route in create_app(plane).routes if (path := getattr(route, "path", ""))}
    offline_docs = {path for path in paths if path.startswith(("/docs", "/static", "/openapi"))}
    assert paths - offline_docs - set(ACTIONS) == set()


def test_a_search_leaves_tenant_hits_and_the_hash_of_its_text(plane: QueryPlane, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    settings = plane.settings.model_copy(update={"audit_log": AuditLogSettings(output="file", file=log)})
    plane = _with_settings(plane, settings)
    search: Callable[..., httpx.Response] = caller(plane)
    hits = search("POST", "/v1/search", json={"text": "a secret question", "tenant": "acme"}).json()["hits"]
    line = json.loads(log.read_text())
    assert (line["action"], line["tenant"], line["hits"]) == ("search", "acme", len(hits))
    assert "text_sha256" in line
    assert "secret" not in log.read_text()


def _with_settings(plane: QueryPlane, settings: Any) -> QueryPlane:
    from dataclasses import replace

    return replace(plane, settings=settings)
