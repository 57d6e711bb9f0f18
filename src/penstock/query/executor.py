"""Work that blocks, in threads: of which there is a bounded number, with a bounded line of calls that wait.

A call whose time is over before a thread is free never starts; and when the line is full a request is refused at once,
with `OverloadedError`, rather than made to wait for an answer that would come too late.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from penstock.errors import OverloadedError

_T = TypeVar("_T")


class BoundedExecutor:
    """Calls in a bounded number of threads, with a bounded line in front of them.

    Args:
        threads: calls under way at once.
        backlog: calls that may wait beyond these.
        clock: seconds, monotonic.
        calls: what they are, in words: "searches of the store".
        retry_after_s: how long a line takes to clear.
    """

    def __init__(
        self, *, threads: int, backlog: int, clock: Callable[[], float], calls: str, retry_after_s: float
    ) -> None:
        self.clock = clock
        self._calls = calls
        self._retry_after_s = retry_after_s
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=calls)
        self._capacity = threads + backlog
        self._held = 0
        self._lock = threading.Lock()

    @property
    def pending(self) -> int:
        """Calls that wait or are under way, also those whose caller has given up."""
        return self._held

    def admit(self, calls: int) -> None:
        """Raises OverloadedError unless so many more calls fit."""
        if self._held + calls > self._capacity:
            raise OverloadedError(
                f"{self._held} {self._calls} are under way or waiting, which is all that this replica takes on",
                retry_after_s=self._retry_after_s,
            )

    async def call(self, work: Callable[[float], _T], *, deadline_s: float) -> _T:
        """Runs `work(timeout_s)` in a thread, with the time that is left when it gets one.

        Raises:
            TimeoutError: the deadline passed. The thread, if it had one, comes free when `work` returns.
            OverloadedError: the line is full.
        """
        self.admit(1)

        def within_deadline() -> _T:
            timeout_s = deadline_s - self.clock()
            if timeout_s <= 0:
                raise TimeoutError
            return work(timeout_s)

        with self._lock:
            self._held += 1
        submitted = self._executor.submit(within_deadline)
        submitted.add_done_callback(self._release)
        async with asyncio.timeout(deadline_s - self.clock()):
            return await asyncio.wrap_future(submitted)

    def _release(self, _: Future[_T]) -> None:
        with self._lock:
            self._held -= 1

    def close(self) -> None:
        """Takes no more calls and drops those that wait; those under way end at their deadlines."""
        self._executor.shutdown(wait=False, cancel_futures=True)
