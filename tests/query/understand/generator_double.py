"""An HTTP server that answers chat completions as a test sets it: slow, cut, malformed, overloaded, endless."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any


def completion(text: str) -> bytes:
    """Returns the body of a chat completion."""
    message = {"role": "assistant", "content": text}
    return json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()


@dataclass
class GeneratorDouble:
    """A raw server over asyncio's streams.

    Attributes:
        url: its base URL, once it runs.
        body, status: of its answers.
        length: the Content-Length that it claims; None: the body's.
        silent: whether it answers nothing.
        endless: whether it repeats its body until the client leaves.
        echo: whether it answers with the last message of the prompt instead of its body.
        requests: the bodies that it received.
        headers: of these requests, in lower case.
        left: set when a client has left before the answer was complete.
    """

    url: str = ""
    body: bytes = b""
    status: int = 200
    length: int | None = None
    silent: bool = False
    endless: bool = False
    echo: bool = False
    requests: list[Any] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers one request, and closes the connection."""
        try:
            await self._answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.left.set()
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lines = [line.partition(": ") for line in head.split("\r\n")[1:] if line]
        headers = {name.lower(): value for name, _, value in lines}
        request = json.loads(await reader.readexactly(int(headers["content-length"])))
        self.requests.append(request)
        self.headers.append(headers)
        if self.silent:
            await reader.read()  # until the client leaves
            self.left.set()
            return
        body = completion(request["messages"][-1]["content"]) if self.echo else self.body
        length = len(body) if self.length is None else self.length
        claim = "" if self.endless else f"Content-Length: {length}\r\n"
        writer.write(f"HTTP/1.1 {self.status} X\r\nConnection: close\r\n{claim}\r\n".encode() + body)
        await writer.drain()
        while self.endless:
            writer.write(body * 100)
            await writer.drain()


@asynccontextmanager
async def running(double: GeneratorDouble) -> AsyncIterator[GeneratorDouble]:
    """Runs a double on a free port of this machine."""
    server = await asyncio.start_server(double.serve, "127.0.0.1", 0)
    double.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield double
    finally:
        server.close()
