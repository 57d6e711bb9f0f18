"""Names the version of the index in every answer, and reads the version that a request demands."""

from __future__ import annotations

from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER: Final = "Penstock-Index-Version"
# A resumed answer is of the version that was served when it began, which its first event names.
_RESUMED = "/v1/ask/"


class IndexVersion:
    """Middleware that adds the header `Penstock-Index-Version` to every answer but that of a resumed stream.

    Args:
        app: the application behind it, which answers from one version.
        version: its number.
    """

    def __init__(self, app: ASGIApp, *, version: int) -> None:
        self._app = app
        self._version = str(version)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Calls the application, and completes the headers of its answer."""
        if scope["type"] != "http" or scope["path"].startswith(_RESUMED):
            await self._app(scope, receive, send)
            return

        async def completed(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[HEADER] = self._version
            await send(message)

        await self._app(scope, receive, completed)


def demanded_version(scope: Scope) -> str | None:
    """Returns the version that a request demands by the same header, as it was sent; None: whichever is served."""
    if scope["type"] != "http":
        return None
    return Headers(scope=scope).get(HEADER)
