"""Tests of the bounded thread pool."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from penstock.errors import OverloadedError, UnavailableError
from penstock.query.executor import BoundedExecutor


def executor(*, threads: int = 1, queue_size: int = 1) -> BoundedExecutor:
    return BoundedExecutor(
        threads=threads, queue_size=queue_size, clock=time.monotonic, calls="calls", retry_after_s=1.5
    )


def test_a_full_queue_rejects_immediately_with_a_time_to_wait() -> None:
    release = threading.Event()

    async def scenario() -> None:
        bounded = executor()
        deadline_s = time.monotonic() + 10
        calls = [asyncio.create_task(bounded.call(lambda _: release.wait(10), deadline_s=deadline_s)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="2 calls") as caught:
            await bounded.call(lambda _: True, deadline_s=deadline_s)
        assert caught.value.retry_after_s == 1.5
        release.set()
        assert await asyncio.gather(*calls) == [True, True]
        bounded.close()

    asyncio.run(scenario())


def test_a_call_whose_deadline_passes_in_the_queue_never_starts() -> None:
    release = threading.Event()
    started: list[str] = []

    async def scenario() -> None:
        bounded = executor()
        running = asyncio.create_task(bounded.call(lambda _: release.wait(10), deadline_s=time.monotonic() + 10))
        await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            await bounded.call(lambda _: started.append("late"), deadline_s=time.monotonic() + 0.05)
        release.set()
        await running
        assert await bounded.call(lambda _: "next", deadline_s=time.monotonic() + 10) == "next"
        bounded.close()

    asyncio.run(scenario())
    assert started == []


def test_a_call_that_was_given_up_keeps_its_thread_until_it_returns() -> None:
    release = threading.Event()

    async def scenario() -> None:
        bounded = executor(queue_size=0)
        with pytest.raises(UnavailableError, match=r"0\.05 s"):
            await bounded.run(lambda: release.wait(10), timeout_s=0.05)
        assert bounded.pending == 1
        with pytest.raises(OverloadedError):
            bounded.admit(1)
        release.set()
        async with asyncio.timeout(10):
            while bounded.pending:  # noqa: ASYNC110  (no event signals this count)
                await asyncio.sleep(0)
        bounded.close()

    asyncio.run(scenario())
