"""Reads ahead: runs the reads of the next items in threads, and returns their results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from penstock.config import MIB

T = TypeVar("T")
R = TypeVar("R")

# A read of a small object takes some 5 to 50 ms on S3, so that one after the other would be 20 to 200 a second.
_THREADS = 16
_MAX_BYTES = 256 * MIB


def read_ahead(
    items: Iterable[T],
    read: Callable[[T], R],
    *,
    size_of: Callable[[T], int],
    threads: int = _THREADS,
    max_bytes: int = _MAX_BYTES,
) -> Iterator[R]:
    """Yields the result of each item, in order; the first error of one ends the iteration when its turn comes.

    Args:
        items: what to read.
        read: reads one.
        size_of: the bytes that it takes.
        threads: reads that run concurrently.
        max_bytes: of results that wait, and of those that are being read. A larger one is read alone.
    """
    waiting: deque[tuple[Future[R], int]] = deque()
    held_bytes = 0
    with ThreadPoolExecutor(threads, thread_name_prefix="read-ahead") as pool:
        try:
            for item in items:
                size = size_of(item)
                while waiting and (len(waiting) >= 2 * threads or held_bytes + size > max_bytes):
                    future, freed = waiting.popleft()
                    yield future.result()
                    held_bytes -= freed
                waiting.append((pool.submit(read, item), size))
                held_bytes += size
            while waiting:
                yield waiting.popleft()[0].result()
        finally:
            for future, _ in waiting:
                future.cancel()
