"""Media in ranges, from servers that shorten, ignore or break them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from penstock.errors import PenstockError, QueryError, UsageError
from tests.client.both import Both
from tests.client.scripted_server import Scripted, ScriptedServer, problem

NAME = "a" * 64
DATA = bytes(range(100))


def part(first: int, last: int, *, size: object = 100, sent: bytes | None = None, cut: bool = False) -> Scripted:
    """Returns the bytes from `first` to `last`, both included."""
    body = DATA[first : last + 1] if sent is None else sent
    return Scripted(206, body, {"Content-Range": f"bytes {first}-{last}/{size}"}, cut=cut)


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest, server: ScriptedServer) -> Callable[..., Any]:
    return Both(request.param, server.url)


def ranges(server: ScriptedServer) -> list[str]:
    return [request.headers["range"] for request in server.received]


@pytest.mark.parametrize("method", ["media", "media_pieces"])
def test_short_ranges_are_continued_to_the_end(method: str, call: Callable[..., Any], server: ScriptedServer) -> None:
    server.answers(part(0, 39), part(40, 79, sent=DATA[40:60], cut=True), part(60, 99))
    result = call(method, NAME)
    assert (result if method == "media" else b"".join(result)) == DATA
    assert ranges(server) == ["bytes=0-", "bytes=40-99", "bytes=60-99"]
    server.received.clear()
    server.answers(part(5, 9, size="*"), part(10, 19))
    result = call(method, f"/v1/media/{NAME}#t=1", start=5, end=20)
    assert (result if method == "media" else b"".join(result)) == DATA[5:20]
    assert ranges(server) == ["bytes=5-19", "bytes=10-19"]


def test_a_server_that_ignores_ranges_does_not_give_the_beginning_twice(
    call: Callable[..., Any], server: ScriptedServer
) -> None:
    server.answers(part(0, 39), Scripted(200, DATA))
    assert call("media", NAME) == DATA
    server.answers(Scripted(200, DATA), Scripted(200, DATA, cut=True), Scripted(200, DATA[:7]))
    assert call("media", NAME, start=3, end=9) == DATA[3:9]
    assert call("media", NAME, start=3, end=9) == DATA[3:9]
    assert call("media", NAME, start=9) == b""


def test_other_bytes_than_those_asked_for_are_refused(call: Callable[..., Any], server: ScriptedServer) -> None:
    for other in (part(50, 99), part(0, 9), Scripted(206, DATA), part(20, 99, sent=b"")):
        server.answers(other)
        with pytest.raises(PenstockError, match="bytes from 20 on"):
            call("media", NAME, start=20)
    server.answers(part(10, 99))  # begins earlier
    assert call("media", NAME, start=20) == DATA[20:]


def test_no_bytes_are_asked_for_where_there_are_none(call: Callable[..., Any], server: ScriptedServer) -> None:
    assert [call("media", NAME, start=5, end=5), call("media", NAME, end=0), call("media", NAME, start=5, end=2)] == [
        b""
    ] * 3
    assert server.received == []
    server.answers(problem(416, "none of 0 bytes"), problem(416, "begins at byte 7 of 5"))
    assert call("media", NAME) == b""
    with pytest.raises(QueryError, match="of 5"):
        call("media", NAME, start=7)
    with pytest.raises(UsageError, match="byte 0"):
        call("media", NAME, start=-1)


@pytest.mark.parametrize(
    "name",
    [
        "../v1/status",
        f"/v1/media/../../v1/status#{NAME}",
        f"/v1/media/{NAME}/../x",
        "x",
        "..",
        f"//host/{NAME}",
        f"//host/v1/media/{NAME}/captions.vtt",
    ],
)
def test_names_that_reach_other_routes_are_refused(name: str, call: Callable[..., Any], server: ScriptedServer) -> None:
    for method in ("media", "captions", "entries"):
        with pytest.raises(UsageError, match="no hash and no path of media"):
            call(method, name)
    assert server.received == []
