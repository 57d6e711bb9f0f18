"""The composition of the application."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np

from penstock.config import load_settings
from penstock.encoders.deferred import DeferredEncoder
from penstock.encoders.profiles import JOINT_IMAGE, load_profile
from penstock.records import EncoderInput
from penstock.serve.app import create_app, open_query_encoders, warm_up
from penstock.serve.plane import QueryPlane


def test_the_documentation_needs_no_external_server(call: Callable[..., httpx.Response]) -> None:
    page = call("GET", "/docs")
    assert page.status_code == 200
    assert "https://" not in page.text
    paths = call("GET", "/openapi.json").json()["paths"]
    assert {"/v1/search", "/v1/status", "/v1/media/{sha256}", "/healthz", "/readyz"} <= set(paths)


def test_the_events_of_a_stream_are_described(call: Callable[..., httpx.Response]) -> None:
    document = call("GET", "/openapi.json").json()
    schemas = document["components"]["schemas"]
    for path, method in (("/v1/ask", "post"), ("/v1/ask/{answer_id}", "get"), ("/v1/ask/{answer_id}", "post")):
        content = document["paths"][path][method]["responses"]["200"]["content"]
        events = content["text/event-stream"]["schema"]["oneOf"]
        assert [event["properties"]["event"]["const"] for event in events] == [
            *("search", "token", "sentence", "done", "error")
        ]
        named = [event["properties"]["data"]["contentSchema"]["$ref"].rpartition("/")[2] for event in events]
        assert set(named) <= set(schemas)
        assert set(schemas[named[3]]["properties"]) >= {"answer", "sentences", "sources"}
    chat = document["paths"]["/v1/chat/completions"]["post"]["responses"]["200"]["content"]
    chunk = chat["text/event-stream"]["schema"]["properties"]["data"]["contentSchema"]["$ref"].rpartition("/")[2]
    assert "choices" in schemas[chunk]["properties"]
    assert "application/json" in chat


def test_closing_the_application_closes_its_store(plane: QueryPlane) -> None:
    closed: list[bool] = []
    plane.store.close = lambda: closed.append(True)  # type: ignore[method-assign]

    async def start_and_stop() -> None:
        app = create_app(plane)
        async with app.router.lifespan_context(app):
            pass

    asyncio.run(start_and_stop())
    assert closed == [True]


def test_the_image_encoder_of_queries_is_loaded_by_the_first_query_where_it_is_not_preloaded(tmp_path: Path) -> None:
    profile = load_profile("null:8")
    lazy = load_settings(profile="null:8", data_dir=tmp_path, query={"preload": False})
    encoders = open_query_encoders(profile, lazy)
    image = encoders[JOINT_IMAGE]
    assert isinstance(image, DeferredEncoder)
    warm_up(encoders, profile)
    assert not image.model.is_loaded
    size = profile.image.size_px
    pixels = EncoderInput(JOINT_IMAGE, ("key",), pixels=np.zeros((1, size, size, 3), np.uint8))
    eager = open_query_encoders(profile, load_settings(profile="null:8", data_dir=tmp_path))[JOINT_IMAGE]
    assert not isinstance(eager, DeferredEncoder)
    np.testing.assert_array_equal(image.encode(pixels).vectors, eager.encode(pixels).vectors)
    assert image.model.is_loaded
