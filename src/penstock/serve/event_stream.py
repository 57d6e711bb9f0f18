"""Sends server-sent events, and notices within moments that their client has gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

MEDIA_TYPE = "text/event-stream"
# Proxies give up a connection without data after 30 s and more.
COMMENT_EVERY_S = 10.0
# Neither caches nor proxies, such as nginx, may hold events back.
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}

Sleep: TypeAlias = Callable[[float], Awaitable[None]]
_T = TypeVar("_T")


class ClientGoneError(Exception):
    """The client has closed its connection. Never leaves the routes: there is no reader for an answer."""


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """An event of a stream.

    Attributes:
        data: one document as JSON.
        name: of the event; None: the stream has events of one kind only.
        number: from 1; None: a client cannot resume the stream.
    """

    data: str
    name: str | None = None
    number: int | None = None

    def encode(self) -> bytes:
        """Returns its bytes in the stream."""
        number = None if self.number is None else str(self.number)
        return format_sse_event(data_str=self.data, event=self.name, id=number)


class EventStream(Response):
    """A response of server-sent events, which closes its source once the last event is sent or the client has gone.

    A client that goes is noticed by the message that the server sends then, and by the cancellation of the request, as
    Ray Serve does it. Starlette's own streams wait for the former only, or for a failure to send.

    Args:
        chunks: the bytes of the events; closed at the end.
        ended: called at the end, also where the client had gone before the first event.
        headers: further ones.
    """

    media_type = MEDIA_TYPE

    def __init__(
        self,
        chunks: AsyncGenerator[bytes, None],
        *,
        ended: Callable[[], Awaitable[None]] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(headers={**HEADERS, **(headers or {})})
        del self.headers["content-length"]
        self._chunks = chunks
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the chunks as they come."""
        try:
            with suppress(ClientGoneError):
                await until_gone(receive, self._send(send))
        finally:
            await self._chunks.aclose()
            if self._ended is not None:
                await self._ended()
        if self.background is not None:
            await self.background()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for chunk in self._chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def with_comments(
    chunks: AsyncIterator[bytes], *, every_s: float = COMMENT_EVERY_S, sleep: Sleep = asyncio.sleep
) -> AsyncGenerator[bytes, None]:
    """Yields the chunks of a stream, and a comment after each pause, so that no proxy ends it."""
    waiting: asyncio.Future[bytes] | None = None
    try:
        while True:
            waiting = waiting or asyncio.ensure_future(anext(chunks))
            quiet = asyncio.ensure_future(sleep(every_s))
            try:
                await asyncio.wait((waiting, quiet), return_when=asyncio.FIRST_COMPLETED)
            finally:
                quiet.cancel()
            if not waiting.done():
                yield KEEPALIVE_COMMENT
                continue
            done, waiting = waiting, None
            try:
                chunk = done.result()
            except StopAsyncIteration:
                return
            yield chunk
    finally:
        if waiting is not None:
            await _end(waiting)
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()


async def until_gone(
    client: Request | Receive, work: Awaitable[_T], *, discard: Callable[[_T], Awaitable[None]] | None = None
) -> _T:
    """Returns what a coroutine returns, or cancels it when the client goes. The body of the request has been read.

    Args:
        client: the request, or the `receive` of its scope.
        work: owned by this call. It has ended when this returns or raises.
        discard: releases a result that no caller gets, as the request was cancelled in the moment in which it came.

    Raises:
        ClientGoneError: the client has gone.
    """
    running = asyncio.ensure_future(work)
    departure = asyncio.ensure_future(gone(client.receive if isinstance(client, Request) else client))
    returned = False
    try:
        await asyncio.wait((running, departure), return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            raise ClientGoneError
        result = running.result()
        returned = True
        return result
    finally:
        for task in (departure, running):
            await _end(task)
        if not returned and discard is not None and not running.cancelled() and running.exception() is None:
            await discard(running.result())


async def gone(receive: Receive) -> None:
    """Waits until the client has gone, or has its whole answer. The body of the request has been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _end(task: asyncio.Future[Any]) -> None:
    """Cancels a task and waits until it has ended, whatever it raises."""
    task.cancel()
    await asyncio.wait((task,))
    if not task.cancelled():
        task.exception()  # marks it as retrieved
