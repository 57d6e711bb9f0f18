"""The composition of the application."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx

from penstock.serve.app import create_app
from penstock.serve.plane import QueryPlane


def test_the_documentation_needs_no_external_server(call: Callable[..., httpx.Response]) -> None:
    page = call("GET", "/docs")
    assert page.status_code == 200
    assert "https://" not in page.text
    paths = call("GET", "/openapi.json").json()["paths"]
    assert {"/v1/search", "/v1/status", "/v1/media/{sha256}", "/healthz", "/readyz"} <= set(paths)


def test_closing_the_application_closes_its_store(plane: QueryPlane) -> None:
    closed: list[bool] = []
    plane.store.close = lambda: closed.append(True)  # type: ignore[method-assign]

    async def start_and_stop() -> None:
        app = create_app(plane)
        async with app.router.lifespan_context(app):
            pass

    asyncio.run(start_and_stop())
    assert closed == [True]
