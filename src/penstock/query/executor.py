"""Runs blocking calls in a bounded thread pool with a bounded queue; a full queue rejects immediately.

A call whose deadline passes before a thread is free never starts. When the queue is full the caller gets an
`OverloadedError` rather than an answer that would come too late.

anyio's `CapacityLimiter` does not bound this: it admits the next call as soon as a caller gives up, although the thread
of the call that was given up is still busy. A store that hangs would be given ever more threads.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from penstock.errors import OverloadedError, UnavailableError

_T = TypeVar("_T")


class BoundedExecutor:
    """A thread pool with a bounded queue.

    Args:
        threads: calls that run concurrently.
        queue_size: calls that may wait for a thread.
        clock: seconds, monotonic.
        calls: a noun for the calls, such as "searches of the store"; for messages and thread names.
        retry_after_s: seconds that a full queue takes to clear.
    """

    def __init__(
        self, *, threads: int, queue_size: int, clock: Callable[[], float], calls: str, retry_after_s: float
    ) -> None:
        self.clock = clock
        self._calls = calls
        self._retry_after_s = retry_after_s
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=calls)
        self._capacity = threads + queue_size
        self._pending = 0
        self._lock = threading.Lock()

    @property
    def pending(self) -> int:
        """The number of calls that wait or run, including those whose caller has given up."""
        return self._pending

    @property
    def taken(self) -> float:
        """The share of its threads and its queue that is taken, 0 to 1."""
        return self._pending / self._capacity

    def admit(self, calls: int) -> None:
        """Raises OverloadedError unless this number of further calls fits."""
        if self._pending + calls > self._capacity:
            raise OverloadedError(
                f"{self._pending} {self._calls} are running or waiting, which is the limit of this replica",
                retry_after_s=self._retry_after_s,
            )

    async def call(self, work: Callable[[float], _T], *, deadline_s: float) -> _T:
        """Runs `work(timeout_s)` in a thread, with the time that is left when it starts.

        Raises:
            TimeoutError: the deadline passed. A thread that runs the call is free again when `work` returns.
            OverloadedError: the queue is full.
        """
        self.admit(1)

        def within_deadline() -> _T:
            timeout_s = deadline_s - self.clock()
            if timeout_s <= 0:
                raise TimeoutError
            return work(timeout_s)

        with self._lock:
            self._pending += 1
        submitted = self._executor.submit(within_deadline)
        submitted.add_done_callback(self._release)
        async with asyncio.timeout(deadline_s - self.clock()):
            return await asyncio.wrap_future(submitted)

    async def run(self, work: Callable[[], _T], *, timeout_s: float) -> _T:
        """Runs `work()` in a thread, for calls that have no timeout of their own.

        Raises:
            UnavailableError: it did not return in time.
            OverloadedError: the queue is full.
        """
        try:
            return await self.call(lambda _: work(), deadline_s=self.clock() + timeout_s)
        except TimeoutError as exc:
            raise UnavailableError(f"no answer within {timeout_s:g} s") from exc

    def _release(self, _: Future[_T]) -> None:
        with self._lock:
            self._pending -= 1

    def close(self) -> None:
        """Takes no more calls and drops those that wait. Running calls end at their deadlines."""
        self._executor.shutdown(wait=False, cancel_futures=True)
