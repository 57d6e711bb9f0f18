"""Synchronisation of threads: a memory budget and locks on keys, both granted in arrival order."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile


class MemoryBudget:
    """A weighted semaphore that admits waiters in arrival order.

    Args:
        capacity: the whole budget, in any unit.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._reserved = 0
        self._changed = threading.Condition()
        self._waiting: deque[object] = deque()

    @contextmanager
    def reserve(self, amount: int) -> Iterator[None]:
        """Reserves `amount` for the duration of the block, and waits until it fits.

        Requests are admitted in arrival order: a small one does not overtake a large one that waits. A request above
        the whole budget is admitted alone; zero never waits.
        """
        if not amount:
            yield
            return
        ticket = object()
        with self._changed:
            self._waiting.append(ticket)
            try:
                while self._waiting[0] is not ticket or (self._reserved and self._reserved + amount > self._capacity):
                    self._changed.wait()
                self._reserved += amount
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._reserved -= amount
                self._changed.notify_all()


class KeyedLocks:
    """Locks on sets of keys, granted in arrival order.

    A thread requests all its keys in one call and holds none while it waits. It waits only for earlier requests that
    share a key with its own, whether these hold their keys yet or not. So threads cannot deadlock, and every request
    is granted in the end.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._requests: list[_LockRequest] = []  # granted and waiting ones, in arrival order

    @contextmanager
    def hold(self, keys: Iterable[str]) -> Iterator[None]:
        """Locks these keys for the duration of the block, and waits until no earlier request shares one of them."""
        request = _LockRequest(frozenset(keys))
        with self._changed:
            self._requests.append(request)
        try:
            with self._changed:
                while any(not earlier.keys.isdisjoint(request.keys) for earlier in self._before(request)):
                    self._wait()
            yield
        finally:
            with self._changed:
                self._requests.remove(request)
                self._changed.notify_all()

    def _before(self, request: _LockRequest) -> Iterator[_LockRequest]:
        return takewhile(lambda other: other is not request, self._requests)

    def _wait(self) -> None:
        self._changed.wait()


@dataclass(frozen=True, slots=True, eq=False)
class _LockRequest:
    keys: frozenset[str]
