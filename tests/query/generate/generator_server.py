"""An HTTP server that answers chat completions as a test sets it: slow, cut, malformed, overloaded, endless."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
END = b"data: [DONE]\n\n"


def completion(text: str) -> bytes:
    """Returns the body of a chat completion that is not streamed."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return json.dumps({"choices": [choice], "usage": USAGE}).encode()


def chunk(text: str | None = None, *, finish: str | None = None, **delta: Any) -> bytes:
    """Returns one event of a streamed completion."""
    if text is not None:
        delta["content"] = text
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return event({"object": "chat.completion.chunk", "choices": [choice]})


def event(data: Any) -> bytes:
    """Returns an event with this document. Characters are not escaped, so that they can be split."""
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


def streamed(pieces: Iterable[str], *, usage: bool = True, end: bool = True) -> list[bytes]:
    """Returns the events of a whole answer."""
    events = [chunk(role="assistant"), *map(chunk, pieces), chunk(finish="stop")]
    events += [event({"choices": [], "usage": USAGE})] if usage else []
    return events + ([END] if end else [])


def split(events: Iterable[bytes], size: int) -> list[bytes]:
    """Returns the bytes of events in parts of this size, so that characters and lines are split."""
    body = b"".join(events)
    return [body[at : at + size] for at in range(0, len(body), size)]


@dataclass
class GeneratorDouble:
    """A raw server over asyncio's streams. It answers each request as the attributes say at that time.

    Attributes:
        url: its base URL, once it runs.
        body: of an answer that is not streamed.
        parts: of an answer that is, as they are written to the connection; None: `body` is sent although the client
            wants a stream.
        content_type: of an answer with parts.
        status, reply_headers: of its answers.
        failures: HTTP statuses of its first answers, one a request, whose bodies are empty; 0: it closes the connection
            without an answer.
        length: the Content-Length that it claims; None: the body's.
        silent: whether it answers nothing.
        hold_after: the number of parts after which it writes nothing until `resume` is set; None: it does not wait.
        part_s: seconds to wait before each part.
        cut_after: the number of parts after which it breaks the connection; None: it does not.
        endless: whether it repeats its body, or its last part, until the client leaves.
        echo: whether it answers with the last message of the prompt instead of its body or parts.
        refused: names of fields of the request for which it answers with HTTP 400.
        requests: the bodies that it received.
        headers: of these requests, in lower case.
        received: set when a request has arrived.
        left: set when a client has left before the answer was complete.
        left_at_s: by the clock of the event loop, when that was.
        resume: see `hold_after`.
    """

    url: str = ""
    body: bytes = b""
    parts: Sequence[bytes] | None = None
    content_type: str = "text/event-stream"
    status: int = 200
    reply_headers: dict[str, str] = field(default_factory=dict)
    failures: list[int] = field(default_factory=list)
    length: int | None = None
    silent: bool = False
    hold_after: int | None = None
    part_s: float = 0.0
    cut_after: int | None = None
    endless: bool = False
    echo: bool = False
    refused: frozenset[str] = frozenset()
    requests: list[Any] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    received: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    left_at_s: float | None = None
    resume: asyncio.Event = field(default_factory=asyncio.Event)
    connections: set[asyncio.Task[Any]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers one request, and closes the connection."""
        task = asyncio.current_task()
        assert task is not None
        self.connections.add(task)
        task.add_done_callback(self.connections.discard)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            lines = [line.partition(": ") for line in head.split("\r\n")[1:] if line]
            headers = {name.lower(): value for name, _, value in lines}
            request = json.loads(await reader.readexactly(int(headers["content-length"])))
            self.requests.append(request)
            self.headers.append(headers)
            self.received.set()
            await self._until_left(reader, self._answer(request, writer))
        except (asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # a connection without a request, or the end of the test
        finally:
            writer.close()

    async def _until_left(self, reader: asyncio.StreamReader, answer: Any) -> None:
        """Answers, unless the client closes the connection before."""
        answering = asyncio.ensure_future(answer)
        leaving = asyncio.ensure_future(reader.read())  # a client sends no more: it returns when the client has left
        try:
            done, _ = await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
            broke = answering in done and isinstance(answering.exception(), ConnectionError)
            if broke or answering not in done:
                self.left_at_s = asyncio.get_running_loop().time()
                self.left.set()
            elif answering.exception() is not None:
                answering.result()
        finally:
            for task in (answering, leaving):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                    await task

    async def _answer(self, request: Any, writer: asyncio.StreamWriter) -> None:
        if self.silent:
            await asyncio.Event().wait()  # until the client leaves
        if self.failures:
            await self._fail(self.failures.pop(0), writer)
        elif self.refused & set(request):
            await self._fail(400, writer)
        elif self.status == 200 and request.get("stream") and (self.echo or self.parts is not None):
            parts = streamed([request["messages"][-1]["content"]]) if self.echo else self.parts
            await self._stream(parts or (), writer)
        else:
            await self._send(completion(request["messages"][-1]["content"]) if self.echo else self.body, writer)

    async def _fail(self, status: int, writer: asyncio.StreamWriter) -> None:
        if status:
            headers = self._head(status, {"Content-Length": "0", **self.reply_headers})
            writer.write(headers)
            await writer.drain()

    async def _send(self, body: bytes, writer: asyncio.StreamWriter) -> None:
        length = len(body) if self.length is None else self.length
        claim = {} if self.endless else {"Content-Length": str(length)}
        writer.write(self._head(self.status, {**claim, **self.reply_headers}) + body)
        await writer.drain()
        while self.endless:
            writer.write(body * 100)
            await writer.drain()

    async def _stream(self, parts: Sequence[bytes], writer: asyncio.StreamWriter) -> None:
        head = {"Content-Type": self.content_type, "Transfer-Encoding": "chunked", **self.reply_headers}
        writer.write(self._head(200, head))
        for number, part in enumerate(parts):
            if number == self.hold_after:
                await writer.drain()
                await self.resume.wait()
            if number == self.cut_after:
                await writer.drain()
                return  # without the chunk that ends the body
            if self.part_s:
                await asyncio.sleep(self.part_s)
            writer.write(_framed(part))
            await writer.drain()
        while self.endless:
            writer.write(_framed(parts[-1]))
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    @staticmethod
    def _head(status: int, headers: dict[str, str]) -> bytes:
        lines = [f"HTTP/1.1 {status} X", "Connection: close", *(f"{name}: {value}" for name, value in headers.items())]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _framed(part: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(part), part)


@asynccontextmanager
async def running(double: GeneratorDouble) -> AsyncIterator[GeneratorDouble]:
    """Runs a double on a free port of this machine."""
    server = await asyncio.start_server(double.serve, "127.0.0.1", 0)
    double.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield double
    finally:
        server.close()
        for task in tuple(double.connections):
            task.cancel()
        await asyncio.gather(*double.connections, return_exceptions=True)
