"""Serves over HTTP the metrics of a node, and the health of ingest planes whose driver runs there."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterable
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from penstock.observability.health import answer

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment


class NodeServer:
    """A server that answers in threads of its own, from the moment it is made.

    Args:
        directory: the node's folder of metrics and health.
        registry: the metrics.
        host, port: the address that it listens on; port 0: a free one.

    Attributes:
        port: the port that it listens on.

    Raises:
        OSError: the address is in use or not of this machine.
    """

    def __init__(self, directory: Path, registry: CollectorRegistry, host: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        server_class = type("_Server", (ThreadingWSGIServer,), {"address_family": family})
        app = _application(directory, make_wsgi_app(registry))
        self._server: WSGIServer = make_server(host, port, app, server_class, handler_class=_SilentHandler)
        self.port: int = self._server.server_port
        threading.Thread(target=self._server.serve_forever, name="node-server", daemon=True).start()

    def close(self) -> None:
        """Stops listening."""
        self._server.shutdown()
        self._server.server_close()


class _SilentHandler(WSGIRequestHandler):
    """Logs no requests."""

    def log_message(self, format: str, *args: object) -> None:
        """Does nothing."""


def _application(directory: Path, metrics: WSGIApplication) -> WSGIApplication:
    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path in ("/", "/metrics"):
            return metrics(environ, start_response)
        group = parse_qs(environ.get("QUERY_STRING", "")).get("group", [""])[0]
        given = answer(path, directory, time.time_ns() // 1_000_000, group)
        code, document = given if given is not None else (404, {"reasons": [f"there is no {path} here"]})
        body = json.dumps(document, ensure_ascii=False).encode() + b"\n"
        headers = [("Content-Type", "application/json; charset=utf-8"), ("Content-Length", str(len(body)))]
        start_response(f"{code} {HTTPStatus(code).phrase}", headers)
        return [body]

    return application
