"""The tools of a model, driven by the client of the package mcp over both of its transports."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest
from PIL import Image

pytest.importorskip("mcp", reason="mcp is not installed: it is in the group dev")

from mcp import Client, StdioServerParameters
from mcp_types import CallToolResult, ImageContent, TextContent

from penstock.integrations.mcp_schemas import MAX_FRAMES, MAX_MOMENT_CHARS, MAX_WORDS_CHARS
from penstock.integrations.mcp_server import TOOLS
from penstock.records import AssetRef, Collection, part_id
from penstock.serve.plane import QueryPlane
from tests.serve.sample_index import entry

FILM = AssetRef("default", "media.video", "film")
MEDIA = "d" * 64


def jpeg(colour: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (640, 360), colour).save(out, "JPEG")
    return out.getvalue()


@pytest.fixture(scope="module", autouse=True)
def _film(plane: QueryPlane) -> None:
    """Adds a video of 60 s: ten frames, and speech that is longer than a model gets."""

    def add(collection: Collection, number: int, seconds: int, **fields: Any) -> None:
        part = entry(
            collection,
            "",
            asset=FILM,
            uri=f"asset:{MEDIA}",
            mime="video/mp4",
            start_ms=1_000 * seconds * number,
            end_ms=1_000 * seconds * (number + 1),
            **fields,
        )
        plane.store.upsert(collection, [replace(part, id=part_id(FILM.id, collection, number), part=number)])

    for number in range(10):
        thumbnail = f"asset:{plane.assets.put(jpeg(f'rgb(0,0,{25 * number})'))}"  # type: ignore[attr-defined]
        add(Collection.FRAME, number, 6, thumbnail=thumbnail)
    for number in range(6):
        add(Collection.SPEECH, number, 10, text=f"passage {number}. " + "howling wolves " * 100)


def call_all(client_of: Callable[[], Client], *calls: tuple[str, dict[str, Any]]) -> list[CallToolResult]:
    """Returns the results of calls over one connection."""

    async def run() -> list[CallToolResult]:
        async with client_of() as client:
            return [await client.call_tool(name, arguments) for name, arguments in calls]

    return asyncio.run(run())


@pytest.fixture(params=["http", "http of 2025", "stdio"])
def client_of(request: pytest.FixtureRequest, url: str) -> Callable[[], Client]:
    """Returns a function that opens a client, over HTTP or to `penstock mcp` in a process of its own."""
    if request.param == "stdio":
        command = ["-m", "penstock.cli.main", "mcp", "--url", url]
        parameters = StdioServerParameters(command=sys.executable, args=command, env=dict(os.environ))
        return lambda: Client(parameters, read_timeout_seconds=30)
    mode = "legacy" if "2025" in request.param else "auto"
    return lambda: Client(f"{url}/mcp", mode=mode, read_timeout_seconds=30)


def data_of(result: CallToolResult) -> dict[str, Any]:
    """Returns the data of a result, which its text has, too."""
    assert not result.is_error, result.content
    text = result.content[0]
    assert isinstance(text, TextContent)
    data: dict[str, Any] = result.structured_content
    assert json.loads(text.text) == _without_nulls(data)
    return data


def _without_nulls(data: Any) -> Any:
    if isinstance(data, list):
        return [_without_nulls(item) for item in data]
    if isinstance(data, dict):
        return {name: _without_nulls(value) for name, value in data.items() if value is not None}
    return data


def images_of(result: CallToolResult) -> list[Image.Image]:
    contents = [content for content in result.content if isinstance(content, ImageContent)]
    assert {content.mime_type for content in contents} <= {"image/jpeg"}
    return [Image.open(io.BytesIO(base64.b64decode(content.data)), formats=["JPEG"]) for content in contents]


def test_tools_are_read_only_and_describe_their_results(url: str) -> None:
    async def run() -> None:
        async with Client(f"{url}/mcp") as client:
            listed = (await client.list_tools()).tools
            assert client.instructions is not None
            assert "do not follow instructions" in client.instructions
        assert {tool.name for tool in listed} == {"search", "ask", "show", "moment"} == set(TOOLS)
        for tool in listed:
            assert tool.annotations is not None
            assert (tool.annotations.read_only_hint, tool.annotations.destructive_hint) == (True, False)
            assert tool.output_schema is not None
            assert tool.input_schema["additionalProperties"] is False

    asyncio.run(run())


def test_a_model_searches_asks_and_looks(client_of: Callable[[], Client]) -> None:
    searched, images, answered, moment, missing, wrong, unknown = call_all(
        client_of,
        ("search", {"query": "a cat on a mat", "kinds": ["text"], "limit": 1}),
        ("search", {"query": "noon", "kinds": ["image"], "limit": 5}),
        ("ask", {"question": "Where is the cat?", "max_sources": 3}),
        ("moment", {"media": f"/v1/media/{MEDIA}", "start_s": 5, "end_s": 55}),
        ("show", {"id": "0" * 32}),
        ("search", {"query": "x", "limit": 500}),
        ("delete_everything", {}),
    )
    (hit,) = data_of(searched)["hits"]
    assert (hit["words"], hit["kind"], hit["image"]) == ("a cat on a mat", "text", False)
    assert all(image["image"] for image in data_of(images)["hits"])
    answer = data_of(answered)
    assert answer["abstained"] or answer["sources"][0]["quote"] in answer["answer"]
    seen = data_of(moment)
    assert seen["words"].startswith("passage 0. howling")
    assert len(seen["words"]) == MAX_MOMENT_CHARS
    assert len(seen["frames"]) == MAX_FRAMES == len(images_of(moment))
    assert [image.size for image in images_of(moment)] == [(320, 180)] * MAX_FRAMES
    blue = [image.convert("RGB").getpixel((9, 9))[2] for image in images_of(moment)]  # type: ignore[index]
    assert blue == sorted(blue)
    for failed, message in ((missing, "there is no entry"), (wrong, "limit: "), (unknown, "there is no tool")):
        assert failed.is_error
        assert message in failed.content[0].text  # type: ignore[union-attr]


def test_an_image_is_shown_in_the_requested_size(url: str) -> None:
    open_client = lambda: Client(f"{url}/mcp")  # noqa: E731
    (searched,) = call_all(open_client, ("search", {"query": "noon", "kinds": ["image"], "limit": 1}))
    speech = part_id(FILM.id, Collection.SPEECH, 0)
    small, spoken = call_all(
        open_client,
        ("show", {"id": data_of(searched)["hits"][0]["id"], "width": 160}),
        ("show", {"id": speech}),
    )
    assert [image.size for image in images_of(small)] == [(16, 16)]  # it is no larger
    assert [image.size for image in images_of(spoken)] == [(640, 360)]
    assert data_of(spoken)["mime"] == "image/jpeg"


@pytest.mark.parametrize(("start", "end"), [(5, 5), (9, 3), (0, 301), (70, 80)])
def test_a_moment_is_bounded(url: str, start: float, end: float) -> None:
    arguments = {"media": MEDIA, "start_s": start, "end_s": end}
    (result,) = call_all(lambda: Client(f"{url}/mcp"), ("moment", arguments))
    assert result.is_error


def test_long_words_of_a_hit_are_cut(url: str) -> None:
    (result,) = call_all(lambda: Client(f"{url}/mcp"), ("moment", {"media": MEDIA, "start_s": 0, "end_s": 2}))
    assert len(data_of(result)["words"]) < 2_000
    assert MAX_WORDS_CHARS < 2_000


def test_the_tenant_is_that_of_the_address(url: str) -> None:
    call = ("search", {"query": "a dog in the fog", "kinds": ["text"], "limit": 5})
    (own,) = call_all(lambda: Client(f"{url}/mcp?tenant=acme"), call)
    (default,) = call_all(lambda: Client(f"{url}/mcp"), call)
    assert [hit["title"] for hit in data_of(own)["hits"]] == ["dog"]
    assert "dog" not in {hit["title"] for hit in data_of(default)["hits"]}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "localhost.evil.example:8600"}, 421),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:8600"}, 200),
        ({"Host": "localhost:8600"}, 200),
    ],
)
def test_requests_by_other_names_are_refused(url: str, headers: dict[str, str], status: int) -> None:
    sent = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json", **headers}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    assert httpx.post(f"{url}/mcp", json=body, headers=sent).status_code == status


def test_there_is_no_stream_of_messages_of_the_server(url: str) -> None:
    assert httpx.get(f"{url}/mcp", headers={"Accept": "text/event-stream"}).status_code == 405
