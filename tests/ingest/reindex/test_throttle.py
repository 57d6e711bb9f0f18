"""The pace of a fill: it grows while live events are settled as before, and yields when they are not."""

from __future__ import annotations

import pytest

from penstock.broker.base import Partition, PartitionLag
from penstock.ingest.reindex.throttle import FIRST_PER_S, LEAST_ALLOWED_S, LEAST_PER_S, Throttle, oldest_age_s

MEASURE_S = 3.0


class Machine:
    """A machine that settles live events in `normal_s`, and later the more the fill exceeds what it can do beside."""

    def __init__(self, *, normal_s: float, spare_per_s: float) -> None:
        self.now_s = 0.0
        self.normal_s = normal_s
        self.spare_per_s = spare_per_s

    def age_s(self, pace: float) -> float:
        return self.normal_s * max(1.0, pace / self.spare_per_s) ** 2


def run(machine: Machine, throttle: Throttle, seconds: float) -> list[tuple[float, float]]:
    """Returns the pace and the age after each measurement."""
    taken = []
    end_s = machine.now_s + seconds
    while machine.now_s < end_s:
        machine.now_s += MEASURE_S
        age_s = machine.age_s(throttle.pace)
        throttle.adjust(age_s)
        taken.append((throttle.pace, age_s))
    return taken


@pytest.mark.parametrize("spare_per_s", [5.0, 200.0, 3_000.0])
def test_live_events_are_settled_within_twice_the_time_and_the_spare_is_used(spare_per_s: float) -> None:
    machine = Machine(normal_s=2.0, spare_per_s=spare_per_s)
    throttle = Throttle(normal_s=2.0, max_per_s=None, clock=lambda: machine.now_s)
    run(machine, throttle, 300.0)
    settled = run(machine, throttle, 600.0)
    ages = sorted(age_s for _, age_s in settled)
    assert ages[len(ages) // 2] <= 4.0
    assert ages[-1] <= 4.0 * 1.25**2 + 1e-6  # one step of growth beyond
    assert sum(pace for pace, _ in settled) / len(settled) >= 0.6 * spare_per_s


def test_the_pace_never_exceeds_the_given_one_and_never_ends() -> None:
    machine = Machine(normal_s=1.0, spare_per_s=1e9)
    throttle = Throttle(normal_s=1.0, max_per_s=50.0, clock=lambda: machine.now_s)
    assert max(pace for pace, _ in run(machine, throttle, 300.0)) == 50.0
    machine.spare_per_s = 1e-9
    assert min(pace for pace, _ in run(machine, throttle, 600.0)) == LEAST_PER_S


def test_a_cut_waits_until_the_last_one_can_show() -> None:
    now_s = 0.0
    throttle = Throttle(normal_s=1.0, max_per_s=None, clock=lambda: now_s)
    assert throttle.adjust(100.0) == FIRST_PER_S / 2
    now_s = 3.0
    assert throttle.adjust(100.0) == FIRST_PER_S / 2
    now_s = 6.0
    assert throttle.adjust(100.0) == FIRST_PER_S / 4


def test_an_unknown_age_changes_nothing_and_a_small_one_is_normal() -> None:
    throttle = Throttle(normal_s=0.0, max_per_s=None, clock=lambda: 0.0)
    assert throttle.adjust(None) == FIRST_PER_S
    assert throttle.adjust(LEAST_ALLOWED_S) > FIRST_PER_S


def test_the_age_is_that_of_the_oldest_event_that_is_not_settled() -> None:
    lags = [
        PartitionLag(Partition("t", 0), 7, 0, 7),
        PartitionLag(Partition("t", 1), 3, 0, 9),
        PartitionLag(Partition("t", 2), None, 4, 9),
    ]
    requested = {}

    def times(offsets: dict[Partition, int]) -> dict[Partition, int]:
        requested.update(offsets)
        return {Partition("t", 1): 90_000, Partition("t", 2): 95_000}

    assert oldest_age_s(lags, times, now_s=100.0) == 10.0  # type: ignore[arg-type]
    assert requested == {Partition("t", 1): 3, Partition("t", 2): 4}
    assert oldest_age_s(lags[:1], times, now_s=100.0) == 0.0  # type: ignore[arg-type]
    assert oldest_age_s(lags, lambda _: {}, now_s=100.0) is None
