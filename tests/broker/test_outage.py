from __future__ import annotations

import logging

import pytest

from penstock.broker.outage import Outage
from penstock.retries import Backoff

OUTAGE = "penstock.broker.outage"  # the logger; other tests set the level of its parent, and their threads log, too


@pytest.fixture
def outage() -> Outage:
    return Outage("Kafka at here:1", Backoff(1.0, 4.0))


def test_a_longer_outage_and_its_end_are_logged_once(outage: Outage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger=OUTAGE)
    for now_s in range(10):
        outage.record(False, float(now_s))
    outage.record(True, 10.0)
    outage.record(True, 11.0)
    assert [(entry.levelname, entry.getMessage()) for entry in caplog.records if entry.name == OUTAGE] == [
        ("INFO", "Kafka at here:1 does not answer; retrying"),
        ("INFO", "Kafka at here:1 answers again"),
    ]


def test_a_short_silence_is_not_logged(outage: Outage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger=OUTAGE)
    outage.record(False, 0.0)
    outage.record(False, 2.0)
    outage.record(True, 2.5)
    assert [entry for entry in caplog.records if entry.name == OUTAGE] == []


def test_attempts_to_connect_are_spaced_out_until_one_succeeds(outage: Outage) -> None:
    assert outage.wait_s(0.0) == 0.0
    waits = []
    for now_s in (0.0, 10.0, 20.0, 30.0):
        outage.record_failure(now_s)
        waits.append(outage.wait_s(now_s))
    assert waits == [1.0, 2.0, 4.0, 4.0]
    outage.record(True, 40.0)
    outage.record_failure(50.0)
    assert outage.wait_s(50.0) == 1.0
