"""Checks the memory budget and the keyed locks that threads share."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from penstock.concurrency import KeyedLocks, MemoryBudget

_PATIENCE_S = 10.0


class Holder:
    """Reserves an amount in a thread of its own and holds it until released."""

    def __init__(self, budget: MemoryBudget, amount: int, threads: ThreadPoolExecutor) -> None:
        self.admitted, self._released = threading.Event(), threading.Event()
        self._budget, self._amount = budget, amount
        self._done = threads.submit(self._hold)

    def _hold(self) -> None:
        with self._budget.reserve(self._amount):
            self.admitted.set()
            assert self._released.wait(_PATIENCE_S)

    def release(self) -> None:
        self._released.set()
        self._done.result(_PATIENCE_S)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as executor:
        yield executor


def admitted(budget: MemoryBudget, amount: int, threads: ThreadPoolExecutor) -> Holder:
    holder = Holder(budget, amount, threads)
    assert holder.admitted.wait(_PATIENCE_S)
    return holder


def waiting(budget: MemoryBudget, amount: int, threads: ThreadPoolExecutor) -> Holder:
    """Returns a holder whose request is queued behind the others and not admitted."""
    before = len(budget._waiting)
    holder = Holder(budget, amount, threads)
    while len(budget._waiting) == before:
        assert not holder.admitted.is_set()
    return holder


def test_amounts_that_fit_are_held_concurrently_and_the_next_waits(threads: ThreadPoolExecutor) -> None:
    budget = MemoryBudget(10)
    first, second = admitted(budget, 6, threads), admitted(budget, 4, threads)
    third = waiting(budget, 1, threads)
    second.release()
    assert third.admitted.wait(_PATIENCE_S)
    third.release()
    first.release()


def test_an_amount_above_the_budget_is_admitted_alone(threads: ThreadPoolExecutor) -> None:
    budget = MemoryBudget(10)
    small = admitted(budget, 1, threads)
    large = waiting(budget, 100, threads)
    small.release()
    assert large.admitted.wait(_PATIENCE_S)
    after = waiting(budget, 1, threads)
    large.release()
    assert after.admitted.wait(_PATIENCE_S)
    after.release()


def test_a_small_amount_does_not_overtake_a_large_one_that_waits(threads: ThreadPoolExecutor) -> None:
    budget = MemoryBudget(10)
    first = admitted(budget, 6, threads)
    large = waiting(budget, 10, threads)
    small = waiting(budget, 1, threads)
    nothing = admitted(budget, 0, threads)
    nothing.release()
    first.release()
    assert large.admitted.wait(_PATIENCE_S)
    assert not small.admitted.is_set()
    large.release()
    assert small.admitted.wait(_PATIENCE_S)
    small.release()


def test_a_block_that_fails_releases_its_amount() -> None:
    budget = MemoryBudget(1)
    with pytest.raises(KeyError), budget.reserve(1):
        raise KeyError
    with budget.reserve(1):
        pass


class NotedLocks(KeyedLocks):
    """Signals when a thread waits."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = threading.Event()

    def _wait(self) -> None:
        self.waits.set()
        super()._wait()


def test_requests_without_a_common_key_are_granted_concurrently() -> None:
    locks = KeyedLocks()
    with locks.hold(["a", "b"]), locks.hold(["c"]), locks.hold([]), locks.hold([]):
        pass


def test_a_request_waits_for_an_earlier_one_that_shares_a_key(threads: ThreadPoolExecutor) -> None:
    locks, keys = NotedLocks(), frozenset({"a"})  # the same object twice, to show that requests differ by identity
    held = locks.hold(keys)
    held.__enter__()
    granted = threading.Event()

    def wait_for_it() -> None:
        with locks.hold(keys):
            granted.set()

    second = threads.submit(wait_for_it)
    assert locks.waits.wait(_PATIENCE_S)
    assert not granted.is_set()
    held.__exit__(None, None, None)
    second.result(_PATIENCE_S)
    assert granted.is_set()


def test_a_request_that_waits_is_not_overtaken_by_a_later_one(threads: ThreadPoolExecutor) -> None:
    locks, order, held = NotedLocks(), list[str](), threading.Event()

    def work(name: str, *keys: str) -> None:
        with locks.hold(keys):
            order.append(name)

    def hold() -> None:
        with locks.hold(["a"]):
            held.set()
            assert locks.waits.wait(_PATIENCE_S)
            locks.waits.clear()
            late.append(threads.submit(work, "late", "b"))
            assert locks.waits.wait(_PATIENCE_S)

    late: list[Future[None]] = []
    first = threads.submit(hold)
    assert held.wait(_PATIENCE_S)
    early = threads.submit(work, "early", "a", "b")
    for future in (first, early):
        future.result(_PATIENCE_S)
    late[0].result(_PATIENCE_S)
    assert order == ["early", "late"]


def test_a_block_that_fails_releases_its_keys() -> None:
    locks = KeyedLocks()
    with pytest.raises(KeyError), locks.hold(["a"]):
        raise KeyError
    with locks.hold(["a"]):
        pass
