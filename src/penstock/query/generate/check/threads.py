"""Runs the work on the words of answers in two threads, while an event loop serves other requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

_T = TypeVar("_T")
# They share one interpreter, so that more would not be faster. What waits is bounded by the number of answers and of
# checks, each of which has at most one piece of work here at a time.
_THREADS = 2


async def in_thread(work: Callable[[], _T]) -> _T:
    """Returns the result of `work()`, which runs in one of two threads. Cancelling the call does not end it."""
    return await asyncio.get_running_loop().run_in_executor(_threads(), work)


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_THREADS, thread_name_prefix="check")
