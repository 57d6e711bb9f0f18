"""Reads the response of an ASGI application while it is sent, as a client of server-sent events does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message

_PATIENCE_S = 10.0


class ServerEvent(NamedTuple):
    """A server-sent event; a comment has no name and no id."""

    name: str
    id: str
    data: Any


class AsgiStream:
    """A response that is being received."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self.began = asyncio.Event()
        self.disconnected = asyncio.Event()
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        self._text = ""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            self.began.set()
        await self._messages.put(message)

    async def event(self) -> ServerEvent:
        """Returns the next event or comment."""
        while "\n\n" not in self._text:
            async with asyncio.timeout(_PATIENCE_S):
                message = await self._messages.get()
            self._text += message.get("body", b"").decode()
        block, _, self._text = self._text.partition("\n\n")
        fields = dict(line.partition(": ")[::2] for line in block.splitlines())
        data = json.loads(fields["data"]) if "data" in fields else None
        return ServerEvent(fields.get("event", ""), fields.get("id", ""), data)

    async def ended(self) -> None:
        """Returns once the whole response is sent; what was not read of it is dropped."""
        async with asyncio.timeout(_PATIENCE_S):
            while (await self._messages.get()).get("more_body", False):
                pass

    async def named(self, name: str) -> ServerEvent:
        """Returns the next event of a name; others are skipped."""
        while (event := await self.event()).name != name:
            pass
        return event


@asynccontextmanager
async def open_stream(
    app: ASGIApp, url: str, headers: Mapping[str, str] | None = None, *, method: str = "GET", body: bytes = b""
) -> AsyncIterator[AsgiStream]:
    """Sends a request, and gives its response as soon as that has begun. Leaving it closes the connection."""
    path, query = urlsplit(url).path, urlsplit(url).query
    stream, requested = AsgiStream(), False

    async def receive() -> Message:
        nonlocal requested
        if not requested:
            requested = True
            return {"type": "http.request", "body": body, "more_body": False}
        await stream.disconnected.wait()
        return {"type": "http.disconnect"}

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [
            (name.lower().encode(), value.encode())
            for name, value in ({"Host": "penstock"} | dict(headers or {})).items()
        ],
        "client": ("127.0.0.1", 1),
        "server": ("penstock", 80),
    }
    task = asyncio.create_task(app(scope, receive, stream.send))  # type: ignore[arg-type]
    try:
        began = asyncio.create_task(stream.began.wait())
        await asyncio.wait({task, began}, timeout=_PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
        began.cancel()
        yield stream
    finally:
        stream.disconnected.set()
        async with asyncio.timeout(_PATIENCE_S):
            await task
