"""Tests that a sender behind the gate never brings the group's lag above the bound."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import UnavailableError
from penstock.produce.lag_gate import LagGate
from tests.clock import Clock


def pass_time(clock: Clock, seconds: float) -> None:
    clock.now_s += seconds


class Plane:
    """An ingest plane that settles a number of events in each wait."""

    def __init__(self, rates: list[int], clock: Clock) -> None:
        self.lag = 0
        self.highest = 0
        self._rates = rates
        self._clock = clock

    def sent(self) -> None:
        self.lag += 1
        self.highest = max(self.highest, self.lag)

    def sleep(self, seconds: float) -> None:
        self._clock.now_s += seconds
        rate = self._rates.pop(0) if self._rates else 1
        self.lag = max(0, self.lag - rate)


@given(st.integers(1, 20), st.lists(st.integers(0, 9), max_size=50), st.integers(1, 100))
def test_the_lag_never_exceeds_the_bound(max_lag: int, rates: list[int], events: int) -> None:
    clock = Clock()
    plane = Plane(rates, clock)
    gate = LagGate(lambda: plane.lag, max_lag, in_flight=lambda: 0, clock=clock, sleep=plane.sleep)
    for _ in range(events):
        gate.admit()
        plane.sent()
    assert plane.highest <= max_lag


def test_what_is_not_acknowledged_counts_as_lag() -> None:
    clock = Clock()
    open_messages = [3]

    def acknowledged(seconds: float) -> None:
        clock.now_s += seconds
        open_messages[0] -= 1

    gate = LagGate(lambda: 0, 2, in_flight=lambda: open_messages[0], clock=clock, sleep=acknowledged)
    gate.admit()
    assert open_messages == [1]
    assert gate.waited_s == pytest.approx(0.5)


def test_a_broker_that_is_away_for_a_while_is_waited_for() -> None:
    clock = Clock()
    answers: list[int | None] = [None, None, 0]

    def read() -> int:
        answer = answers.pop(0)
        if answer is None:
            raise UnavailableError("away")
        return answer

    LagGate(read, 1, in_flight=lambda: 0, clock=clock, sleep=lambda seconds: pass_time(clock, seconds)).admit()
    assert answers == []

    def never() -> int:
        raise UnavailableError("away")

    with pytest.raises(UnavailableError):
        LagGate(never, 1, in_flight=lambda: 0, clock=clock, sleep=lambda seconds: pass_time(clock, seconds)).admit()
