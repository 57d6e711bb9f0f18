"""Measures searches by HTTP status."""

from __future__ import annotations

import time
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from penstock.observability import metrics


class SearchMetrics:
    """Middleware that observes the duration of every search. It is the outermost, so that it sees every status.

    Args:
        app: the application behind it.
        path: of the searches.
        clock: seconds, monotonic.
    """

    def __init__(self, app: ASGIApp, *, path: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._app = app
        self._path = path
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Calls the application, and observes a search when its response is sent or it raised."""
        if scope["type"] != "http" or scope["path"] != self._path:
            await self._app(scope, receive, send)
            return
        started_s, status = self._clock(), 500  # the server's answer to an exception that leaves this middleware

        async def noted(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            metrics.QUERY.labels(status).observe(self._clock() - started_s)
