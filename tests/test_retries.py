"""Checks the backoff and the circuit breaker."""

from __future__ import annotations

import random

import pytest

from penstock.errors import BadInputError, Reason, UnavailableError, UnconfirmedError
from penstock.observability import metrics
from penstock.retries import Backoff, Breaker
from tests.clock import Clock
from tests.counted import counted


def test_waits_double_up_to_the_maximum() -> None:
    backoff = Backoff(1.0, 30.0)
    assert [backoff.wait_s(attempt) for attempt in range(1, 8)] == [1, 2, 4, 8, 16, 30, 30]
    assert backoff.wait_s(100_000) == 30


def test_jitter_stays_between_a_tenth_of_the_bound_and_the_bound() -> None:
    backoff = Backoff(1.0, 8.0, random.Random(0))
    for attempt, bound in [(1, 1.0), (3, 4.0), (9, 8.0)]:
        waits = [backoff.wait_s(attempt) for _ in range(200)]
        assert bound / 10 <= min(waits) < bound / 4
        assert bound * 3 / 4 < max(waits) <= bound


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker("a-store", clock=clock, backoff=Backoff(1.0, 4.0))


def fail(breaker: Breaker) -> None:
    with pytest.raises(UnavailableError), breaker.attempt():
        raise UnavailableError("no answer")


def test_failures_in_a_row_hold_calls_back_for_longer_and_longer(breaker: Breaker, clock: Clock) -> None:
    assert not breaker.is_open
    for expected_s in (1, 2, 4, 4):
        fail(breaker)
        assert (breaker.is_open, breaker.wait_s()) == (True, expected_s)
        clock.now_s += expected_s
        assert breaker.wait_s() == 0
    assert breaker.last_error == "no answer"


def test_one_success_closes_it(breaker: Breaker) -> None:
    fail(breaker)
    assert counted(metrics.BREAKER_OPEN, "", dependency="a-store") == 1
    with breaker.attempt():
        pass
    assert (breaker.is_open, breaker.wait_s()) == (False, 0)
    assert counted(metrics.BREAKER_OPEN, "", dependency="a-store") == 0


def test_a_refusal_of_the_item_proves_that_the_dependency_answers(breaker: Breaker) -> None:
    fail(breaker)
    with pytest.raises(BadInputError), breaker.attempt():
        raise BadInputError(Reason.REFUSED, "too long")
    assert not breaker.is_open


def test_while_one_call_probes_the_others_wait(breaker: Breaker, clock: Clock) -> None:
    fail(breaker)
    clock.now_s += 1
    assert breaker.wait_s() == 0
    with breaker.attempt():
        assert breaker.wait_s() == 1
    assert breaker.wait_s() == 0


def test_a_call_without_the_lease_says_nothing_about_the_dependency(breaker: Breaker, clock: Clock) -> None:
    with pytest.raises(UnconfirmedError), breaker.attempt():
        raise UnconfirmedError("no lease")
    assert not breaker.is_open
    fail(breaker)
    clock.now_s += 1
    with pytest.raises(UnconfirmedError), breaker.attempt():
        raise UnconfirmedError("no lease")
    assert (breaker.is_open, breaker.wait_s()) == (True, 0)
