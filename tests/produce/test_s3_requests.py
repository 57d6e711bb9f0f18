"""Tests how many requests a read of an object takes, at a server that counts them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from penstock.config import Settings
from penstock.produce.file_systems import FileSystem

BODY = b"The heron came back."


class CountingS3(ThreadingHTTPServer):
    """Answers each GET with the same object, or the range of it, and notes the requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        return

    def do_GET(self) -> None:
        self._respond(BODY)

    def do_HEAD(self) -> None:
        self._respond(b"")

    def _respond(self, body: bytes) -> None:
        assert isinstance(self.server, CountingS3)
        self.server.requests.append(f"{self.command} {self.path}")
        span = self.headers.get("range", "").removeprefix("bytes=")
        if span:
            first, _, last = span.partition("-")
            body = body[int(first) : int(last) + 1]
        self.send_response(206 if span else 200)
        self.send_header("Content-Length", str(len(body) if self.command == "GET" else len(BODY)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[CountingS3]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    with CountingS3() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_an_object_is_read_with_one_request(server: CountingS3) -> None:
    files = FileSystem("s3://lake/texts", Settings(fetch={"s3_endpoint": server.url}))  # type: ignore[arg-type]
    assert files.read("lake/texts/1 a.txt") == BODY
    assert files.read("lake/texts/2.txt", end=3) == BODY[:3]
    assert server.requests == ["GET /lake/texts/1%20a.txt", "GET /lake/texts/2.txt"]
