"""The scaling policy under an owned clock, and under loads that hypothesis makes up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.ingest.executor.scaling_policy import (
    CATCH_UP_S,
    SUSPEND_GROWTH_S,
    PoolSample,
    ScalingDecision,
    ScalingPolicy,
    ScalingRules,
)

RULES = ScalingRules(min_workers=1, max_workers=8, up_after_s=10.0, down_after_s=60.0)


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Pool:
    """A pool of ideal workers: so many that work can keep busy are, what is left over waits."""

    size: int
    clock: Clock
    scaler: ScalingPolicy

    def second(self, work: float, lag: int | None = None, *, blocked: bool = False) -> ScalingDecision:
        """One second with `work` workers' worth of it; then the pool has the size of the decision."""
        self.clock.now_s += 1.0
        busy = min(1.0, work / self.size)
        decision = self.scaler.observe(PoolSample(self.size, busy, max(0.0, work - self.size), lag, blocked))
        self.size = decision.size
        return decision

    def seconds(self, count: int, work: float, lag: Callable[[int], int | None] = lambda _: None) -> list[int]:
        return [self.second(work, lag(second)).size for second in range(count)]


def pool(size: int = 1, rules: ScalingRules = RULES) -> Pool:
    clock = Clock()
    return Pool(size, clock, ScalingPolicy(rules, clock))


def changes(sizes: list[int]) -> Iterator[tuple[int, int]]:
    return ((before, after) for before, after in pairwise(sizes) if before != after)


def test_a_pool_grows_once_it_has_been_overloaded_for_long_enough() -> None:
    sizes = pool().seconds(12, work=2.0)
    assert sizes[:10] == [1] * 10
    assert sizes[10:] == [2, 2]


def test_a_change_has_a_reason() -> None:
    grown = pool()
    grown.seconds(10, work=2.0)
    assert "utilization is 100%, 1.0 calls are queued, lag is 5,000 records" in grown.second(2.0, lag=5_000).reason


def test_a_moment_of_overload_is_no_reason_to_grow() -> None:
    sized = pool()
    assert {sized.second(4.0 if second % 5 == 0 else 0.2).size for second in range(300)} == {1}


def test_it_grows_by_as_many_as_wait_but_never_to_more_than_twice_its_size() -> None:
    sizes = pool().seconds(40, work=20.0)
    assert list(changes(sizes)) == [(1, 2), (2, 4), (4, 8)]


def test_busy_workers_without_queued_calls_suffice() -> None:
    assert set(pool(3).seconds(100, work=2.9)) == {3}


def test_a_lag_that_ends_soon_is_no_reason_to_grow() -> None:
    falling = 100
    start = int(falling * CATCH_UP_S)
    assert set(pool().seconds(25, work=3.0, lag=lambda second: start - falling * second)) == {1}


@pytest.mark.parametrize("per_s", [0, 50, -3], ids=["standing", "rising", "falling too slowly"])
def test_a_lag_that_stays_is(per_s: int) -> None:
    assert pool().seconds(12, work=3.0, lag=lambda second: 10_000 + per_s * second)[-1] > 1


def test_a_pool_shrinks_by_one_at_a_time_after_a_longer_time() -> None:
    sizes = pool(4).seconds(300, work=0.1)
    assert list(changes(sizes)) == [(4, 3), (3, 2), (2, 1)]
    assert sizes.index(3) == RULES.up_after_s + RULES.down_after_s


def test_it_does_not_shrink_while_the_store_is_unavailable() -> None:
    idle = pool(4)
    assert {idle.second(0.0, blocked=True).size for _ in range(300)} == {4}


def test_a_busy_moment_restarts_the_wait_for_shrinking() -> None:
    sized = pool(2)
    assert {sized.second(2.0 if second % 40 < 12 else 0.0).size for second in range(400)} == {2}


def test_without_room_no_worker_is_requested_until_later() -> None:
    sized = pool()
    sized.seconds(10, work=5.0)
    assert sized.second(5.0).size == 2
    sized.size = 1
    sized.scaler.suspend_growth()
    sizes = sized.seconds(int(SUSPEND_GROWTH_S) + 20, work=5.0)
    assert sizes.index(2) == pytest.approx(SUSPEND_GROWTH_S, abs=1)


@pytest.mark.parametrize(("size", "bounded"), [(0, 1), (9, 8)])
def test_a_size_outside_the_bounds_is_brought_inside(size: int, bounded: int) -> None:
    clock = Clock()
    assert ScalingPolicy(RULES, clock).observe(PoolSample(size, 0.5, 0.0)).size == bounded


loads = st.lists(st.floats(0.0, 20.0), min_size=1, max_size=40)


@given(loads, st.integers(1, 8))
def test_it_never_leaves_its_bounds_and_never_turns_about_quickly(works: list[float], size: int) -> None:
    """Whatever the load does, each change waits its time, and after growing it takes the long time to shrink."""
    sized = pool(size)
    sizes = [size, *(sized.second(work).size for work in works for _ in range(20))]
    assert all(RULES.min_workers <= size <= RULES.max_workers for size in sizes)
    changed_at = [second for second in range(1, len(sizes)) if sizes[second] != sizes[second - 1]]
    for before, at in pairwise([0, *changed_at]):
        shrank = sizes[at] < sizes[at - 1]
        assert at - before >= (RULES.down_after_s if shrank else RULES.up_after_s)
        assert sizes[at] >= sizes[at - 1] - 1


@given(st.floats(0.0, 12.0), st.integers(1, 8))
def test_a_constant_load_settles(work: float, size: int) -> None:
    sized = pool(size)
    sized.seconds(1_000, work)  # seven steps down of 70 s each
    assert len(set(sized.seconds(500, work))) == 1


@given(st.integers(1, 7), st.lists(st.floats(0.9, 1.1), min_size=10, max_size=60))
def test_a_load_that_swings_around_a_mark_changes_the_size_at_most_once(size: int, swings: list[float]) -> None:
    """Around the high mark the pool grows once and stays: 30 % less would be needed for the way back."""
    sized = pool(size)
    sizes = [size]
    for swing in swings:
        sizes += sized.seconds(15, work=(size + 0.6) * swing if size > 1 else 1.6 * swing)
    assert len(list(changes(sizes))) <= 1
