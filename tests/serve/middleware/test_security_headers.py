"""Checks the headers that keep browsers from embedding, sniffing or running an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from penstock.serve.middleware.security_headers import HEADERS, NOTHING_RUNS, SecurityHeaders


async def _plain(request: Request) -> Response:
    return Response("{}", media_type="application/json")


async def _own(request: Request) -> Response:
    own = {"Content-Security-Policy": "sandbox", "Referrer-Policy": "origin", "Cache-Control": "no-store"}
    return Response("", headers=own)


def headers_of(path: str, *, has_tls: bool = False) -> Mapping[str, str]:
    app = SecurityHeaders(Starlette(routes=[Route("/v1/x", _plain), Route("/own", _own)]), has_tls=has_tls)

    async def get() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://penstock") as client:
            return await client.get(path)

    return asyncio.run(get()).headers


@pytest.mark.parametrize("path", ["/v1/x", "/absent"])
def test_every_answer_has_them(path: str) -> None:
    headers = headers_of(path)
    assert {name: headers[name] for name in HEADERS} == HEADERS
    assert headers["content-security-policy"] == NOTHING_RUNS
    assert "strict-transport-security" not in headers


def test_an_answer_keeps_its_own() -> None:
    headers = headers_of("/own")
    assert headers["content-security-policy"] == "sandbox"
    assert headers["referrer-policy"] == "origin"
    assert headers["x-content-type-options"] == "nosniff"


def test_with_tls_browsers_come_back_by_https_only() -> None:
    assert headers_of("/v1/x", has_tls=True)["strict-transport-security"] == "max-age=31536000"


def test_the_description_of_the_api_may_run_its_own_script() -> None:
    assert "script-src 'self' 'unsafe-inline'" in headers_of("/docs")["content-security-policy"]
