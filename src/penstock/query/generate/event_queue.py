"""Hands the events of an answer from the tasks that make them to the iterator that yields them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeVar

_T = TypeVar("_T")


async def events_of(work: Callable[[Callable[[_T], None]], Awaitable[None]]) -> AsyncGenerator[_T, None]:
    """Yields what a coroutine puts, while it runs; then raises what it raises.

    The coroutine does not wait for the reader: what it puts has to be bounded. Closing the iterator cancels it, and
    returns once it has ended.

    Args:
        work: called with the function that puts an event.
    """
    queue: asyncio.Queue[_T | None] = asyncio.Queue()

    async def run() -> None:
        try:
            await work(queue.put_nowait)
        finally:
            queue.put_nowait(None)

    running = asyncio.create_task(run())
    try:
        while (event := await queue.get()) is not None:
            yield event
        await running
    finally:
        running.cancel()
        await asyncio.wait([running])
