"""Adds headers to every answer by which browsers keep it from being embedded, sniffed, or run as a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS: Final[Mapping[str, str]] = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
NOTHING_RUNS: Final = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
# The description of the API: its page has a script in the markup, and loads the rest from this server.
_DESCRIPTION: Final = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_DESCRIPTION_PATH = "/docs"
_ONE_YEAR_S = 31_536_000


class SecurityHeaders:
    """Middleware that adds the headers which an answer does not have of its own.

    Args:
        app: the application behind it.
        has_tls: browsers are to come back by https only.
    """

    def __init__(self, app: ASGIApp, *, has_tls: bool) -> None:
        self._app = app
        self._headers = dict(HEADERS)
        if has_tls:
            self._headers["Strict-Transport-Security"] = f"max-age={_ONE_YEAR_S}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Calls the application, and completes the headers of its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        policy = _DESCRIPTION if scope["path"].startswith(_DESCRIPTION_PATH) else NOTHING_RUNS

        async def completed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
                headers.setdefault("Content-Security-Policy", policy)
            await send(message)

        await self._app(scope, receive, completed)
