"""One HTTP request to an ASGI application, message by message, whose client may go at any time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message

PATIENCE_S = 10.0


@dataclass(frozen=True)
class SentEvent:
    """A server-sent event as a client reads it; `data` is parsed unless it is no JSON."""

    name: str | None
    data: Any
    number: int | None


class Exchange:
    """A request that runs, and the response so far."""

    def __init__(
        self,
        app: ASGIApp,
        method: str,
        path: str,
        body: object = None,
        *,
        query: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        content = b"" if body is None else json.dumps(body).encode()
        named = {"host": "penstock", "content-type": "application/json", **(headers or {})}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "scheme": "http",
            "headers": [(name.lower().encode(), value.encode()) for name, value in named.items()],
            "client": ("127.0.0.1", 1),
            "server": ("penstock", 80),
        }
        self._requests: asyncio.Queue[Message] = asyncio.Queue()
        self._responses: asyncio.Queue[Message] = asyncio.Queue()
        self._requests.put_nowait({"type": "http.request", "body": content, "more_body": False})
        self._text = ""
        self.status = 0
        self.headers: dict[str, str] = {}
        self.ended = False
        self.task = asyncio.create_task(app(scope, self._requests.get, self._responses.put))  # type: ignore[arg-type]

    def go(self) -> None:
        """Closes the connection of the client, as a server reports it to the application."""
        self._requests.put_nowait({"type": "http.disconnect"})

    async def finished(self) -> None:
        """Waits until the application has returned."""
        await asyncio.wait_for(asyncio.shield(self.task), PATIENCE_S)

    async def chunk(self) -> bytes:
        """Returns the next part of the body; empty at its end."""
        while True:
            message = await asyncio.wait_for(self._responses.get(), PATIENCE_S)
            if message["type"] == "http.response.start":
                self.status = message["status"]
                self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
                continue
            self.ended = not message.get("more_body", False)
            if message["body"] or self.ended:
                return bytes(message["body"])

    async def body(self) -> bytes:
        """Returns the rest of the body."""
        parts = []
        while not self.ended:
            parts.append(await self.chunk())
        return b"".join(parts)

    async def json(self) -> Any:
        """Returns the body as JSON."""
        return json.loads(await self.body())

    async def event(self) -> SentEvent | None:
        """Returns the next event, without comments; None at the end of the stream."""
        while "\n\n" not in self._text:
            if self.ended:
                return None
            self._text += (await self.chunk()).decode()
        block, _, self._text = self._text.partition("\n\n")
        event = parse_event(block)
        return await self.event() if event is None else event

    async def events(self) -> list[SentEvent]:
        """Returns the rest of the events."""
        events = []
        while (event := await self.event()) is not None:
            events.append(event)
        return events


def parse_event(block: str) -> SentEvent | None:
    """Returns the event of a block of lines; None for a comment."""
    fields: dict[str, list[str]] = {}
    for line in block.splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name, []).append(value.removeprefix(" "))
    if "data" not in fields:
        return None
    data = "\n".join(fields["data"])
    number = fields.get("id")
    try:
        parsed = json.loads(data)
    except ValueError:
        parsed = data
    return SentEvent(fields.get("event", [None])[0], parsed, None if number is None else int(number[0]))
