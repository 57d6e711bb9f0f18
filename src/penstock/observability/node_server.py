"""Serves over HTTP the metrics of a node, and the health of ingest planes whose driver runs there."""

from __future__ import annotations

import hmac
import json
import logging
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from penstock.config.addresses import is_loopback
from penstock.errors import ConfigError
from penstock.observability.health import answer

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

logger = logging.getLogger(__name__)

_PROBES = ("/livez", "/readyz")  # open to all that reach the port
_REQUEST_TIMEOUT_S = 30.0  # for a client that connects and sends nothing


class NodeServer:
    """A server that answers in threads of its own, from the moment it is made.

    Args:
        directory: the node's folder of metrics and health.
        registry: the metrics.
        host, port: the address that it listens on; port 0: a free one.
        tls: its certificate; None: it speaks plain HTTP.
        token: returns the bearer token that metrics and status need; empty: they need none.

    Attributes:
        port: the port that it listens on.

    Raises:
        OSError: the address is in use or not of this machine, or the certificate cannot be used.
    """

    def __init__(
        self,
        directory: Path,
        registry: CollectorRegistry,
        host: str,
        port: int,
        tls: TlsFiles | None = None,
        *,
        token: Callable[[], str] = str,
    ) -> None:
        certificate = None if tls is None else ReloadedCertificate(tls)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        server_class = type("_Server", (_TlsServer,), {"address_family": family, "certificate": certificate})
        app = _application(directory, make_wsgi_app(registry), token)
        if is_loopback(host):
            app = _for_own_names(app)
        self._server: WSGIServer = make_server(host, port, app, server_class, handler_class=_SilentHandler)
        self.port: int = self._server.server_port
        threading.Thread(target=self._server.serve_forever, name="node-server", daemon=True).start()

    def close(self) -> None:
        """Stops listening."""
        self._server.shutdown()
        self._server.server_close()


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The files of a server's certificate, in PEM.

    Attributes:
        cert: its certificate, and those above it.
        key: its key.
        client_ca: the CAs of the clients, which have to show a certificate; None: they need none.
    """

    cert: Path
    key: Path
    client_ca: Path | None = None


class ReloadedCertificate:
    """A server's side of TLS, which reads its files again when they change.

    Raises:
        OSError: the files cannot be used.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._state = self._changed_ns()
        self._context = self._load()

    def wrap(self, connection: socket.socket) -> ssl.SSLSocket:
        """Returns an accepted connection with TLS, whose handshake is made with its first read."""
        state = self._changed_ns()
        if state != self._state:
            try:
                self._context, self._state = self._load(), state
            except (OSError, ValueError) as exc:  # half of a change: the next connection looks again
                logger.warning("the metrics endpoint keeps its former certificate: %s", exc)
        return self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self._files.cert, self._files.key)
        if self._files.client_ca is not None:
            context.load_verify_locations(self._files.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _changed_ns(self) -> tuple[int, ...]:
        files = (self._files.cert, self._files.key, self._files.client_ca)
        try:
            return tuple(file.stat().st_mtime_ns for file in files if file is not None)
        except OSError:  # in the middle of a change
            return ()


class _TlsServer(ThreadingWSGIServer):
    """Answers each connection in a thread of its own, in which the handshake of TLS is made, too."""

    certificate: ReloadedCertificate | None = None

    def get_request(self) -> tuple[Any, Any]:
        connection, address = super().get_request()
        connection.settimeout(_REQUEST_TIMEOUT_S)
        return (connection if self.certificate is None else self.certificate.wrap(connection)), address

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Logs briefly: a client that ends a connection, or refuses the certificate, is no error of this process."""
        logger.info("a request of the metrics endpoint failed: %s", sys.exc_info()[1])


class _SilentHandler(WSGIRequestHandler):
    """Logs no requests."""

    def log_message(self, format: str, *args: object) -> None:
        """Does nothing."""


def _for_own_names(app: WSGIApplication) -> WSGIApplication:
    """Returns an application that refuses requests for other hosts than this machine: those of a page of another site.

    A browser sends them here once the page's name resolves to this address (DNS rebinding).
    """

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            host = urlsplit(f"//{environ.get('HTTP_HOST', '')}").hostname or ""
        except ValueError:  # such as a bracket that is not closed
            host = ""
        if is_loopback(host):
            return app(environ, start_response)
        start_response("421 Misdirected Request", [("Content-Type", "text/plain"), ("Content-Length", "0")])
        return [b""]

    return application


def _has_token(environ: WSGIEnvironment, token: Callable[[], str]) -> bool:
    """Returns whether a request may read everything. Without a readable token no request may."""
    try:
        expected = token()
    except ConfigError as exc:
        logger.error("the metrics endpoint refuses all requests: %s", exc)
        return False
    if not expected:
        return True
    scheme, _, given = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), expected.encode())


def _application(directory: Path, metrics: WSGIApplication, token: Callable[[], str]) -> WSGIApplication:
    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        knows_token = _has_token(environ, token)
        if not knows_token and path not in _PROBES:
            start_response("401 Unauthorized", [("WWW-Authenticate", "Bearer"), ("Content-Length", "0")])
            return [b""]
        if path in ("/", "/metrics"):
            return metrics(environ, start_response)
        group = parse_qs(environ.get("QUERY_STRING", "")).get("group", [""])[0]
        given = answer(path, directory, time.time_ns() // 1_000_000, group)
        code, document = given if given is not None else (404, {"reasons": [f"there is no {path} here"]})
        if not knows_token:
            document = {}  # the reasons are not for strangers
        body = json.dumps(document, ensure_ascii=False).encode() + b"\n"
        headers = [("Content-Type", "application/json; charset=utf-8"), ("Content-Length", str(len(body)))]
        start_response(f"{code} {HTTPStatus(code).phrase}", headers)
        return [body]

    return application
