"""Tests what a request that waits for the lease or for the store shows of its cause."""

from __future__ import annotations

import pytest

from penstock.errors import NotReadyError, PenstockError, UnavailableError, UnconfirmedError
from penstock.ingest.holds import Why, lane_holds
from penstock.ingest.pipeline.types import StoppedError
from penstock.ingest.pipeline.waiting import Waiting
from penstock.retries import Backoff, Breaker

BACKOFF = Backoff(1.0, 4.0)


class Case:
    """A waiting request whose answers are given, and what was shown at each pause."""

    def __init__(self, *answers: PenstockError | str) -> None:
        self.now_s = 0.0
        self.shown: list[tuple[str, str]] = []
        self.answers = list(answers)
        breaker = Breaker("store", clock=lambda: self.now_s, backoff=BACKOFF)
        self.waiting = Waiting(backoff=BACKOFF, breaker=breaker, sleep=self._sleep)

    def run(self) -> str:
        return self.waiting.until_store_answers(
            self._answer, subject="a batch", retry_on=(NotReadyError, UnavailableError)
        )

    def _answer(self) -> str:
        answer = self.answers.pop(0)
        if isinstance(answer, PenstockError):
            raise answer
        return answer

    def _sleep(self, seconds: float) -> bool:
        self.now_s += seconds
        self.shown.append((self.waiting.lease_error, self.waiting.store_error))
        return not self.answers


def test_an_unconfirmed_lease_is_shown_as_such_and_never_as_the_store() -> None:
    case = Case(UnconfirmedError("no lease"), UnconfirmedError("no lease"), "written")
    assert case.run() == "written"
    assert case.shown == [("no lease", "")] * 2
    assert case.waiting.lease_error == ""


def test_a_store_that_fails_after_the_lease_came_back_is_shown_as_the_store() -> None:
    case = Case(UnconfirmedError("no lease"), UnavailableError("no store"), "written")
    case.run()
    assert case.shown[0] == ("no lease", "")
    assert case.shown[1] == ("", "no store")


def test_a_lane_that_stops_waits_for_no_lease() -> None:
    case = Case(UnconfirmedError("no lease"))
    with pytest.raises(StoppedError):
        case.run()
    assert case.waiting.lease_error == ""


@pytest.mark.parametrize(
    ("refusal", "lease", "expected"),
    [("", "of a writer", "of a writer"), ("of the lane", "of a writer", "of the lane"), ("", "", "")],
)
def test_a_lease_that_a_writer_misses_holds_its_lane(refusal: str, lease: str, expected: str) -> None:
    holds = lane_holds(refusals={Why.LEASE: refusal}, budget="", lease=lease, store="", broker="", halted={})
    assert holds[Why.LEASE, ""] == expected
