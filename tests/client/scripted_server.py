"""An HTTP server that answers what a test has written down, to see what a client makes of it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Scripted:
    """A response.

    Attributes:
        status, headers, body: as they are sent.
        cut: whether the connection ends in the middle of the body, as when a server dies.
        silent: whether it falls silent there instead, until the test ends.
    """

    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False
    silent: bool = False


@dataclass(frozen=True)
class Received:
    """A request as the server received it."""

    method: str
    path: str
    headers: Mapping[str, str]
    json: Any


def problem(status: int, detail: str, **headers: str) -> Scripted:
    """Returns a problem document."""
    document = {"title": "t", "status": status, "detail": detail, "field": "/text"}
    return Scripted(status, json.dumps(document).encode(), {name.replace("_", "-"): v for name, v in headers.items()})


def events(*sent: tuple[str, object], first: int = 1, cut: bool = False) -> Scripted:
    """Returns server-sent events with numbers from `first` on, a comment before each."""
    blocks = [
        f": still here\n\nid: {number}\nevent: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"
        for number, (name, data) in enumerate(sent, first)
    ]
    return Scripted(200, "".join(blocks).encode(), {"Content-Type": "text/event-stream"}, cut=cut)


class ScriptedServer:
    """Answers requests in order, and keeps them. After the last response it sends 500."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.responses: list[Scripted] = []
        self.received: list[Received] = []
        self.ended = threading.Event()

    def answers(self, *responses: Scripted) -> None:
        self.responses += responses


@contextmanager
def scripted_server() -> Iterator[ScriptedServer]:
    """Gives a running server, and ends it."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            return

        def _respond(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            body = self.rfile.read(length)
            headers = {name.lower(): value for name, value in self.headers.items()}
            document = json.loads(body) if headers.get("content-type") == "application/json" else None
            server.received.append(Received(self.command, self.path, headers, document))
            response = server.responses.pop(0) if server.responses else problem(500, "the script has ended")
            self.send_response(response.status)
            for name, value in response.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(response.body) + 100 * (response.cut or response.silent)))
            self.end_headers()
            self.wfile.write(response.body)
            self.close_connection = response.cut or response.silent
            if response.silent:
                self.wfile.flush()
                server.ended.wait()

    for method in ("GET", "POST", "DELETE"):
        setattr(Handler, f"do_{method}", Handler._respond)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        server = ScriptedServer(f"http://127.0.0.1:{listener.server_address[1]}")
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.ended.set()
            listener.shutdown()
            thread.join(10)
