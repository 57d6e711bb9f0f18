"""Traces searches and questions."""

from __future__ import annotations

from collections.abc import Set

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from penstock.observability import tracing


class SearchTracing:
    """Middleware that traces every sampled search or question, from its request to the end of its answer.

    Args:
        app: the application behind it.
        paths: of searches and questions.
    """

    def __init__(self, app: ASGIApp, *, paths: Set[str]) -> None:
        self._app = app
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Calls the application in the span of the request, which ends with the last message of the response."""
        if scope["type"] != "http" or scope["path"] not in self._paths:
            await self._app(scope, receive, send)
            return
        with tracing.current().request(scope["path"], scope["headers"]) as span:
            status = 500  # the server's answer to an exception that leaves this middleware

            async def noted(message: Message) -> None:
                nonlocal status
                status = message.get("status", status)
                await send(message)
                if message["type"] == "http.response.body" and not message.get("more_body", False):
                    span.end(str(status), failed=status >= 500)

            await self._app(scope, receive, noted)
