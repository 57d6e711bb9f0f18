"""Bounds connections before any middleware, in a real server."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp
from uvicorn.protocols.http import auto

from penstock.serve import proxy
from penstock.serve.middleware.upload_limits import UploadGuard
from tests.serve.loopback import served


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a server as Serve starts its proxy's."""
    monkeypatch.setattr(auto, "AutoHTTPProtocol", auto.AutoHTTPProtocol)
    monkeypatch.setattr(proxy, "HEADERS_S", 0.3)
    (middleware,) = proxy.middlewares()
    arguments: Any = middleware.kwargs
    app: ASGIApp = UploadGuard(PlainTextResponse("here"), **arguments)
    assert auto.AutoHTTPProtocol is proxy.BoundedProtocol
    with served(app) as address:
        yield address


def connected(url: str) -> socket.socket:
    host, port = urlsplit(url).hostname, urlsplit(url).port
    return socket.create_connection((host or "", port or 0), timeout=20)


def received(connection: socket.socket) -> bytes:
    """Returns what comes until the server closes the connection."""
    pieces = []
    try:
        while piece := connection.recv(65_536):
            pieces.append(piece)
    except ConnectionResetError:
        pass
    return b"".join(pieces)


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nX-Slow: "])
def test_a_connection_without_complete_headers_is_closed(url: str, sent: bytes) -> None:
    with connected(url) as connection:
        connection.sendall(sent)
        assert received(connection) == b""


def test_headers_without_an_end_are_cut(url: str) -> None:
    with connected(url) as connection:
        try:
            connection.sendall(b"GET / HTTP/1.1\r\n" + b"X-Long: x\r\n" * 50_000)
        except (ConnectionResetError, BrokenPipeError):
            return
        assert received(connection) == b""


def test_connections_beyond_the_limit_are_closed(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "MAX_CONNECTIONS", 0)
    with connected(url) as connection:
        assert received(connection) == b""


def test_requests_are_answered_on_one_connection_whatever_is_between_them(url: str) -> None:
    with httpx.Client(base_url=url) as client:
        for body in (b"", b"x" * 200_000):
            assert client.post("/", content=body).text == "here"
