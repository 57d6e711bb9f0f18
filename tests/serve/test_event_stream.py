"""The bytes of server-sent events, the comments between them, and clients that go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from starlette.types import Message

from penstock.serve.event_stream import ClientGoneError, EventStream, ServerEvent, until_gone, with_comments
from tests.serve.exchange import Exchange, SentEvent, parse_event


def test_an_event_is_read_as_it_was_written() -> None:
    event = ServerEvent('{"text":"à  \\n日本"}', "token", 7)
    assert event.encode() == 'event: token\ndata: {"text":"à  \\n日本"}\nid: 7\n\n'.encode()
    assert parse_event(event.encode().decode().strip()) == SentEvent("token", {"text": "à  \n日本"}, 7)
    assert ServerEvent("[DONE]").encode() == b"data: [DONE]\n\n"


def test_a_comment_is_sent_whenever_nothing_came_for_ten_seconds() -> None:
    async def scenario() -> None:
        chunks: asyncio.Queue[bytes] = asyncio.Queue()
        alarms: asyncio.Queue[asyncio.Future[None]] = asyncio.Queue()
        waits: list[float] = []

        async def sleep(seconds: float) -> None:
            waits.append(seconds)
            alarm = asyncio.get_running_loop().create_future()
            alarms.put_nowait(alarm)
            await alarm

        async def source() -> AsyncIterator[bytes]:
            while chunk := await chunks.get():
                yield chunk

        stream = with_comments(source(), sleep=sleep)
        for expected in (b": ping\n\n", b"first", b": ping\n\n", b": ping\n\n", b"second"):
            step = asyncio.ensure_future(anext(stream))  # type: ignore[arg-type]
            alarm = await alarms.get()
            if expected.startswith(b":"):
                alarm.set_result(None)
            else:
                chunks.put_nowait(expected)
            assert await step == expected
        chunks.put_nowait(b"")
        assert [chunk async for chunk in stream] == []
        assert set(waits) == {10.0}

    asyncio.run(scenario())


def test_a_stream_that_is_closed_closes_its_source() -> None:
    async def scenario() -> None:
        closed: list[str] = []

        async def source() -> AsyncIterator[bytes]:
            try:
                yield b"first"
                await asyncio.get_running_loop().create_future()
            finally:
                closed.append("source")

        async def ended() -> None:
            closed.append("stream")

        response = EventStream(with_comments(source()), ended=ended)
        exchange = Exchange(response, "GET", "/")
        assert await exchange.chunk() == b"first"
        exchange.go()
        await exchange.finished()
        assert closed == ["source", "stream"]

    asyncio.run(scenario())


def test_a_client_that_has_gone_before_the_stream_begins_is_noticed() -> None:
    async def scenario() -> None:
        closed: list[str] = []

        async def source() -> AsyncIterator[bytes]:
            await asyncio.get_running_loop().create_future()
            yield b""

        async def ended() -> None:
            closed.append("stream")

        exchange = Exchange(EventStream(with_comments(source()), ended=ended), "GET", "/")
        exchange.go()
        await exchange.finished()
        assert closed == ["stream"]

    asyncio.run(scenario())


def test_work_that_ends_before_its_client_goes_returns_or_raises() -> None:
    async def scenario() -> None:
        async def never() -> Message:
            return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

        async def gone() -> Message:
            return {"type": "http.disconnect"}

        async def fails() -> int:
            raise KeyError("key")

        async def works() -> int:
            return 3

        async def waits() -> int:
            await asyncio.get_running_loop().create_future()
            return 3

        assert await until_gone(never, works()) == 3
        with pytest.raises(KeyError):
            await until_gone(never, fails())
        with pytest.raises(ClientGoneError):
            await until_gone(gone, waits())

    asyncio.run(scenario())


def test_a_result_that_no_caller_gets_is_released() -> None:
    released: list[int] = []

    async def scenario() -> None:
        ends = asyncio.Event()

        async def never() -> Message:
            return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

        async def works() -> int:
            await ends.wait()
            return 3

        async def release(result: int) -> None:
            released.append(result)

        request = asyncio.create_task(until_gone(never, works(), discard=release))
        await asyncio.sleep(0)
        ends.set()
        await asyncio.sleep(0)
        request.cancel()  # in the turn in which the work ends
        with pytest.raises(asyncio.CancelledError):
            await request

    asyncio.run(scenario())
    assert released == [3]
