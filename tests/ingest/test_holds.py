"""Tests when a hold begins and ends, and what is logged of it, by a clock of the test."""

from __future__ import annotations

import logging

import pytest

from penstock.ingest.holds import HoldLog, Holds, Why
from penstock.observability import metrics


class Case:
    """Holds and their log, on a clock that the test turns."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        metrics.HELD.clear()
        self.now_s = 100.0
        self.holds = Holds(lambda: self.now_s)
        self.log = HoldLog(lambda: self.now_s)
        self._caplog = caplog

    def after(self, seconds: float, why: Why | None = None, reason: str = "the reason", subject: str = "") -> None:
        self.now_s += seconds
        self.holds.update({} if why is None else {(why, subject): reason})
        self.log.update(self.holds.reasons, complete=True)

    def logged(self) -> list[str]:
        """Returns the messages since the last call."""
        messages = [record.getMessage() for record in self._caplog.records]
        self._caplog.clear()
        return messages


@pytest.fixture
def case(caplog: pytest.LogCaptureFixture) -> Case:
    caplog.set_level(logging.INFO)
    return Case(caplog)


def value(why: Why) -> float:
    (family,) = metrics.HELD.collect()
    return {sample.labels["why"]: sample.value for sample in family.samples}[why]


def test_a_hold_logs_one_line_at_its_begin_and_one_at_its_end(case: Case) -> None:
    for _ in range(3):
        case.after(1, Why.DISK, "5 bytes are free")
    assert value(Why.DISK) == 1
    assert case.holds.reasons == {"disk": "5 bytes are free"}
    assert case.logged() == ["ingest is held (disk): 5 bytes are free"]
    case.after(1)
    case.after(1)
    assert value(Why.DISK) == 0
    assert case.holds.reasons == {}
    assert case.logged() == ["ingest is no longer held (disk), after 3 s"]


def test_a_budget_that_is_full_for_moments_is_no_hold(case: Case) -> None:
    for _ in range(30):
        case.after(1, Why.BUDGET)
        case.after(1)
    assert (value(Why.BUDGET), case.logged()) == (0, [])
    for _ in range(12):
        case.after(1, Why.BUDGET)
    assert value(Why.BUDGET) == 1
    (line,) = case.logged()
    assert "add workers" in line


def test_a_lane_that_starts_is_not_held_while_its_lease_has_yet_to_be_confirmed(case: Case) -> None:
    for _ in range(3):
        case.after(1, Why.LEASE)
    assert case.holds.reasons == {}
    for _ in range(6):
        case.after(1, Why.LEASE)
    assert case.holds.reasons == {"lease": "the reason"}


def test_a_partition_that_halts_again_and_again_is_held_all_the_time(case: Case) -> None:
    for _ in range(4):
        for _ in range(30):
            case.after(1, Why.HALTED, subject="media.text[1]")
        case.after(0.5)  # it is tried again
        assert value(Why.HALTED) == 1
    assert case.logged() == ["ingest is held (halted media.text[1]): the reason; it is tried again every 30 s"]
    case.after(11)
    assert value(Why.HALTED) == 0
    assert case.logged() == ["ingest is no longer held (halted media.text[1]), after 132 s"]


def test_every_cause_has_a_value_from_the_start(case: Case) -> None:
    case.after(0)
    assert [value(why) for why in Why] == [0] * len(Why)


def test_an_empty_reason_holds_nothing(case: Case) -> None:
    case.after(1, Why.STORE, "")
    assert (value(Why.STORE), case.logged()) == (0, [])


def test_a_cause_that_stops_several_lanes_is_logged_one_time_until_the_last_goes_on(case: Case) -> None:
    first = {"store": "refused", "halted media.text[1]": "a dead letter is too large"}
    for reasons in (first, {"store": "timed out"}, {"store": "refused"}):
        case.log.update(reasons, complete=True)
    assert len(case.logged()) == 3  # two began, and the halt has ended
    case.log.update({}, complete=False)  # a lane that did not answer may still be held
    assert case.logged() == []
    case.log.update({}, complete=True)
    assert case.logged() == ["ingest is no longer held (store), after 0 s"]
