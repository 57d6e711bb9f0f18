"""The HTTP API over the ASGI application, with a store in memory and null encoders."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from penstock.config import Settings
from penstock.serve.app import build_query_plane, create_app
from penstock.serve.plane import QueryPlane
from penstock.store.memory import MemoryStore
from tests.serve.sample_index import PROFILE, fill


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[QueryPlane]:
    settings = Settings(
        profile=PROFILE.name,
        data_dir=tmp_path,
        query={"max_image_bytes": 4096, "max_audio_bytes": 100_000, "max_limit": 50},  # type: ignore[arg-type]
        ingest={"min_free_disk_bytes": 0},  # type: ignore[arg-type]
        store={"consistency": "Strong"},  # type: ignore[arg-type]
    )
    plane = build_query_plane(settings, store=MemoryStore())
    fill(plane)
    yield plane
    plane.close()


@pytest.fixture
def call(plane: QueryPlane) -> Callable[..., httpx.Response]:
    """Returns `call(method, path, **options)`, which sends one request to the application."""
    return caller(plane)


def caller(plane: QueryPlane, app: FastAPI | None = None) -> Callable[..., httpx.Response]:
    """Returns `call` over any query plane, by an application of it or a new one for each request."""

    def request(method: str, path: str, **options: Any) -> httpx.Response:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(app or create_app(plane), raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://penstock") as client:
                return await client.request(method, path, **options)

        return asyncio.run(send())

    return request


@pytest.fixture
def search(call: Callable[..., httpx.Response]) -> Callable[..., httpx.Response]:
    return lambda **body: call("POST", "/v1/search", json=body)
