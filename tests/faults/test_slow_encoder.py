from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.faults.check import check
from tests.faults.faults import Case, times_fenced
from tests.faults.process import eventually

pytestmark = [pytest.mark.services, pytest.mark.exhaustive]

_INTERVAL_MS = 6_000


def test_an_encoder_slower_than_the_poll_interval_costs_no_rebalance(own: Callable[..., Case]) -> None:
    case = own(kafka={"max_poll_interval_ms": _INTERVAL_MS}, ingest={"drain_timeout_s": 3.0})
    plane = case.plane
    plane.start()
    plane.await_balance(2)
    plane.switches.hold("encode")
    case.stream.send(500)
    eventually(lambda: plane.switches.waiting("encode"), "an encoder is at work")
    began_s = time.monotonic()
    eventually(lambda: time.monotonic() - began_s > 3 * _INTERVAL_MS / 1000, "three poll intervals pass")
    plane.switches.release("encode")
    plane.settle()
    assert [times_fenced(plane.log_of(lane)) for lane in ("lane-0", "lane-1")] == [0, 0]
    check(case.stream)
