"""Limits what clients can do to Ray Serve's proxy, which one process is for all of them.

Serve calls `middlewares` in the process of each proxy before it listens, where the variable
`RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH` names it: the embedded Ray, the chart and the compose file set it. Bodies
are bounded by a middleware. Headers are read by uvicorn before any middleware, without a limit of time or, with
httptools, of bytes: its protocol is replaced by one that has both.

Private parts of uvicorn that are used here: `uvicorn.protocols.http.auto.AutoHTTPProtocol` (replaced), and of its class
`HttpToolsProtocol` the callbacks of the parser. tests/serve/test_proxy.py fails without them.
"""

from __future__ import annotations

import asyncio
import logging

from starlette.middleware import Middleware
from uvicorn.protocols.http import auto
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from penstock.config import QuerySettings, load_settings
from penstock.errors import ConfigError
from penstock.serve.middleware.body_limit import body_limit
from penstock.serve.middleware.upload_limits import UploadGuard, UploadLimits

logger = logging.getLogger(__name__)

HEADERS_S = 10.0
MAX_HEADER_BYTES = 64 * 1024
MAX_CONNECTIONS = 4_096
# Where the settings of a plane do not reach the process of the proxy; its replicas have the exact limit.
_MIN_BODY_BYTES = 64 * 1024 * 1024


class BoundedProtocol(HttpToolsProtocol):
    """Reads HTTP as uvicorn does, and closes connections whose headers are too slow, too large, or too many."""

    _headers_due: asyncio.TimerHandle | None = None
    _header_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Closes the connection if there are too many, else waits for its headers."""
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
            return
        self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends the wait."""
        self._headers_are_read()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Waits for the headers of the first or another request of the connection."""
        super().on_message_begin()
        self._header_bytes = 0
        self._await_headers()

    def on_url(self, url: bytes) -> None:
        """Counts the bytes of the address."""
        self._count(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Counts the bytes of a header."""
        self._count(name, value)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Ends the wait."""
        self._headers_are_read()
        super().on_headers_complete()

    def _count(self, *parts: bytes) -> None:
        self._header_bytes += sum(map(len, parts))
        if self._header_bytes > MAX_HEADER_BYTES:
            self.transport.abort()

    def _await_headers(self) -> None:
        if self._headers_due is None:
            self._headers_due = self.loop.call_later(HEADERS_S, self.transport.abort)

    def _headers_are_read(self) -> None:
        if self._headers_due is not None:
            self._headers_due.cancel()
            self._headers_due = None


def middlewares() -> list[Middleware]:
    """Replaces uvicorn's protocol in this process, and returns the middlewares of the proxy."""
    auto.AutoHTTPProtocol = BoundedProtocol
    try:
        query = load_settings().query
    except ConfigError as exc:
        logger.warning("the proxy has the default limits of request bodies: %s", exc)
        query = QuerySettings()
    largest = max(body_limit(query), _MIN_BODY_BYTES)
    # A client alone may hold half of the bound: two of the largest bodies.
    return [Middleware(UploadGuard, limits=UploadLimits(largest, max_held_bytes=4 * largest))]
