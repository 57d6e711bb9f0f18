"""Tests when an ingest plane is ready, and what its driver publishes of it."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from penstock.broker.base import Partition
from penstock.config import Settings, load_settings
from penstock.errors import UnavailableError
from penstock.ingest.health import Publisher, StoreProbe, publish_health, publish_standby, unready_reasons
from penstock.ingest.plane import IngestPlane
from penstock.ingest.status import PlaneState, PlaneStatus, read_status
from penstock.observability import metrics
from penstock.observability.health import LIVE_FOR_MS, read_health
from tests.e2e.stack import eventually

BOTH = {Partition("media.text", 0), Partition("media.text", 1)}


def status(**fields: Any) -> PlaneStatus:
    given: dict[str, Any] = {
        "state": PlaneState.RUNNING,
        "lanes": 2,
        "assignments": {"lane-0": ["media.text[0]"], "lane-1": ["media.text[1]"]},
    }
    return PlaneStatus(**{"pid": 1, "updated_ms": 7_000, "profile": "null", "workers": {}, **given, **fields})


def reasons(plane: PlaneStatus, *, partitions: set[Partition] | None = BOTH) -> list[str]:
    return list(unready_reasons(plane, expected_lanes=2, partitions=partitions))


def test_a_plane_whose_partitions_are_assigned_and_that_nothing_holds_is_ready() -> None:
    assert reasons(status()) == []
    assert reasons(status(), partitions=None) == []


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"state": PlaneState.STARTING}, "the ingest plane is starting"),
        ({"state": PlaneState.DRAINING}, "the ingest plane is draining"),
        ({"lanes": 1}, "1 of 2 lanes do not answer"),
        (
            {"assignments": {"lane-0": ["media.text[0]"]}},
            "1 partitions are assigned to no lane, media.text[1] among them",
        ),
        ({"held": {"disk": "5 bytes are free"}}, "disk: 5 bytes are free"),
        ({"held": {"store": "refused"}, "store_error": "refused"}, "store: refused"),
        ({"held": {"halted media.text[1]": "too large"}}, "halted media.text[1]: too large"),
    ],
)
def test_each_cause_makes_it_unready_and_is_named(fields: dict[str, Any], expected: str) -> None:
    assert reasons(status(**fields)) == [expected]


def test_a_plane_without_any_partition_is_unready_also_while_the_broker_is_away() -> None:
    assert reasons(status(assignments={}), partitions=None) == ["no partition is assigned to a lane"]


def test_a_plane_is_live_for_a_minute_after_its_status_and_not_once_it_stopped(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    live_until_ms = {}
    for state in (PlaneState.STARTING, PlaneState.RUNNING, PlaneState.STOPPED):
        publish_health(settings, status(state=state), ["a reason"])
        health = read_health(settings.metrics_dir, settings.kafka.group)
        assert health is not None
        assert (health.state, health.reasons, health.status["lanes"]) == (state, ["a reason"], 2)
        live_until_ms[state] = health.live_until_ms
    assert live_until_ms[PlaneState.STARTING] == 7_000 + LIVE_FOR_MS
    assert live_until_ms[PlaneState.RUNNING] == 7_000 + LIVE_FOR_MS
    assert live_until_ms[PlaneState.STOPPED] == 7_000


def test_the_health_of_a_plane_that_starts_is_renewed_until_it_has_started(tmp_path: Path) -> None:
    publisher = Publisher(Settings(data_dir=tmp_path))
    updates_ms: set[int] = set()

    def renewed(times: int) -> bool:
        health = read_health(tmp_path / "metrics", "penstock")
        assert health is not None
        assert (health.state, health.reasons) == (PlaneState.STARTING, ["it starts"])
        assert health.live_until_ms == health.updated_ms + LIVE_FOR_MS
        updates_ms.add(health.updated_ms)
        return len(updates_ms) > times

    with publisher.repeating(status(state=PlaneState.STARTING), ["it starts"], every_s=0.01):
        eventually(lambda: renewed(3), "the health is renewed", 20)
    assert not [thread for thread in threading.enumerate() if thread.name == "repeated-health"]
    assert max(updates_ms) <= time.time_ns() // 1_000_000


def test_a_store_that_stops_is_an_error_until_it_answers_again() -> None:
    metrics.HELD.clear()
    answers: list[Exception | None] = [None, UnavailableError("refused"), ValueError("odd"), None]
    now_s = iter(range(100))

    def ping() -> None:
        if (failure := answers.pop(0)) is not None:
            raise failure

    probe = StoreProbe(ping, threading.Event(), clock=lambda: next(now_s))
    errors = []
    for _ in range(4):
        probe.probe()
        errors.append(probe.error)
        assert probe.held == ({"store": probe.error} if probe.error else {})
    assert errors == ["", "refused", "unexpected ValueError: odd", ""]


def test_a_store_that_hangs_is_an_error_before_its_ping_ends() -> None:
    now_s = 100.0
    during: list[str] = []

    def ping() -> None:
        nonlocal now_s
        for _ in range(3):
            during.append(probe.error)
            now_s += 2.5

    probe = StoreProbe(ping, threading.Event(), clock=lambda: now_s)
    probe.probe()
    assert during == ["", "", "the store has not answered a ping for 4 s"]
    assert probe.error == ""  # it answered in the end


def test_a_standby_is_live_and_unready_and_does_not_hide_a_driver_that_lives(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    publish_health(settings, status(pid=1), [])
    publish_standby(settings, status(pid=2, state=PlaneState.STARTING, updated_ms=7_001))
    health = read_health(settings.metrics_dir, settings.kafka.group)
    assert health is not None
    assert (health.state, health.status["pid"]) == (PlaneState.RUNNING, 1)
    for later_ms in (7_000 + LIVE_FOR_MS + 1, 7_000 + LIVE_FOR_MS + 500):
        publish_standby(settings, status(pid=2, state=PlaneState.STARTING, updated_ms=later_ms))
        health = read_health(settings.metrics_dir, settings.kafka.group)
        assert health is not None
        assert (health.state, health.updated_ms, health.live_until_ms) == ("standby", later_ms, later_ms + LIVE_FOR_MS)
        assert health.reasons == ["another driver ingests for this consumer group, and this one stands by"]


def test_a_folder_that_refuses_the_files_is_a_warning_once_a_state(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "data"
    folder.write_text("a file, in which no folder can be made")
    publisher = Publisher(Settings(data_dir=folder))
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            publisher.stand_by(status(state=PlaneState.STARTING))
        for state in (PlaneState.RUNNING, PlaneState.RUNNING, PlaneState.STOPPED):
            publisher.publish(status(state=state), [])
    warned = [record.getMessage().split(":")[0] for record in caplog.records]
    assert warned == [
        f"status and health of the {state} ingest plane cannot be written"
        for state in ("standby", "running", "stopped")
    ]
    folder.unlink()
    publisher.publish(status(state=PlaneState.STOPPED), [])
    health = read_health(folder / "metrics", "penstock")
    assert health is not None
    assert health.state == PlaneState.STOPPED
    assert read_status(folder, "penstock") == status(state=PlaneState.STOPPED)


def test_a_plane_goes_on_while_its_files_cannot_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.write_text("a file, in which no folder can be made")
    plane = IngestPlane(load_settings(profile="null:8", data_dir=tmp_path, store={"uri": "http://127.0.0.1:1"}))
    plane._publisher = Publisher(Settings(data_dir=folder))
    plane._publish_status()
    plane._stand_by(threading.Event(), 0.0)
    assert folder.is_file()
