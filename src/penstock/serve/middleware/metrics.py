"""Measures requests by route and HTTP status, and searches on their own."""

from __future__ import annotations

import time
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from penstock.observability import metrics

_NO_ROUTE = "none"


class RequestMetrics:
    """Middleware that observes the duration of every request. It is the outermost, so that it sees every status.

    Args:
        app: the application behind it.
        search_path: the path of the searches.
        clock: seconds, monotonic.
    """

    def __init__(self, app: ASGIApp, *, search_path: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._app = app
        self._search_path = search_path
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Calls the application, and observes the request, up to the end of its response or to what it raised.

        What runs behind the response, as the links of a search's trace do, keeps no client waiting.
        """
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_s, status = self._clock(), 500  # the server's answer to an exception that leaves this middleware
        sent_s: float | None = None

        async def noted(message: Message) -> None:
            nonlocal status, sent_s
            status = message.get("status", status)
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                sent_s = self._clock()

        try:
            await self._app(scope, receive, noted)
        finally:
            seconds = (self._clock() if sent_s is None else sent_s) - started_s
            metrics.HTTP.labels(_route(scope), status).observe(seconds)
            if scope["path"] == self._search_path:
                metrics.QUERY.labels(status).observe(seconds)


def _route(scope: Scope) -> str:
    """Returns the path of the route, `/v1/media/{sha256}`: a path of its own for each medium would be too many values.

    A request that no route takes, or that is refused before one is found, has none.
    """
    route = scope.get("route")
    return str(getattr(route, "path", _NO_ROUTE))
