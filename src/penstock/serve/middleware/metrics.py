"""Counts requests and measures them, whatever they end in."""

from __future__ import annotations

from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from penstock.observability import metrics


class SearchMetrics:
    """Middleware: the seconds that a search takes here, by status. The outermost, so that it sees every one.

    Args:
        app: what it stands before.
        path: of the searches.
        clock: seconds, monotonic.
    """

    def __init__(self, app: ASGIApp, *, path: str, clock: Callable[[], float]) -> None:
        self._app = app
        self._path = path
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != self._path:
            await self._app(scope, receive, send)
            return
        started_s, status = self._clock(), 500  # what the server makes of an exception that comes out here

        async def noted(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            metrics.QUERY.labels(status).observe(self._clock() - started_s)
