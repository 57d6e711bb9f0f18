"""Tests the hosts of embedded servers and planes."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from penstock.embedded import services
from penstock.embedded.services import (
    EmbeddedServer,
    PlaneProcess,
    RestartBackoff,
    ServiceHost,
    ServiceStatus,
    StartInterruptedError,
)
from penstock.errors import ConfigError, LeaseHeldError, PenstockError, UnavailableError


class Reports:
    """Collects reports, and lets a test wait for one."""

    def __init__(self) -> None:
        self.all: list[ServiceStatus] = []
        self._changed = threading.Condition()

    def __call__(self, progress: ServiceStatus) -> None:
        with self._changed:
            self.all.append(progress)
            self._changed.notify_all()

    def wait_for(self, state: str, times: int = 1) -> None:
        with self._changed:
            reached = self._changed.wait_for(
                lambda: [status.state for status in self.all].count(state) >= times, timeout=20
            )
        assert reached, [status.state for status in self.all]


class Scripted:
    """A server that the test starts and stops."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.starts = 0
        self.alive = False

    def start(self) -> str:
        self.starts += 1
        if self.starts <= self.failures:
            raise UnavailableError("not yet")
        self.alive = True
        return "127.0.0.1:1"

    def stop(self) -> None:
        self.alive = False

    def server(self) -> EmbeddedServer:
        return EmbeddedServer(self.start, self.stop, lambda: self.alive)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "_POLL_S", 0.01)


def test_waits_double_up_to_a_limit_and_start_over_after_a_long_life() -> None:
    now = 0.0
    backoff = RestartBackoff(lambda: now)
    assert [backoff.record_death() for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    backoff.record_start()
    now += 3600
    assert backoff.record_death() == 1


def test_a_server_that_dies_is_restarted() -> None:
    reports, scripted = Reports(), Scripted()
    host = ServiceHost("Kafka", scripted.server(), reports)
    assert host.address(threading.Event()) == "127.0.0.1:1"
    scripted.alive = False
    reports.wait_for("ready", times=2)
    assert scripted.starts == 2
    host.stop()
    assert not scripted.alive
    assert reports.all[-1].state == "stopped"


def test_the_death_of_a_server_that_cannot_be_restarted_is_an_error() -> None:
    reports, scripted = Reports(), Scripted()
    host = ServiceHost("Ray", scripted.server(), reports, restart=False)
    host.address(threading.Event())
    host.check()
    scripted.alive = False
    reports.wait_for("died")
    with pytest.raises(UnavailableError, match="Ray died"):
        host.check()
    host.stop()


def test_a_first_start_that_fails_raises_in_the_waiting_caller() -> None:
    host = ServiceHost("Kafka", Scripted(failures=1).server(), Reports())
    with pytest.raises(UnavailableError, match="not yet"):
        host.address(threading.Event())
    host.stop()


def test_a_stop_interrupts_the_wait_for_a_start() -> None:
    release, stop = threading.Event(), threading.Event()

    def start() -> str:
        release.wait(20)
        return ""

    host = ServiceHost("Kafka", EmbeddedServer(start, lambda: None, lambda: True), Reports())
    stop.set()
    with pytest.raises(StartInterruptedError):
        host.address(stop)
    release.set()
    host.stop()


def plane(tmp_path: Path, program: str, reports: Reports, ready: Callable[[], bool]) -> PlaneProcess:
    return PlaneProcess(
        "ingest",
        (sys.executable, "-c", program),
        log=tmp_path / "ingest.log",
        environment=os.environ,
        address="",
        ready=ready,
        stop_timeout_s=10.0,
        report=reports,
    )


SLEEPS = (
    "import signal, time; signal.signal(signal.SIGTERM, lambda *_: exit(0)); print('up', flush=True); time.sleep(60)"
)


def test_a_plane_that_dies_is_restarted_after_a_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reports = Reports()
    monkeypatch.setattr(RestartBackoff, "record_death", lambda _self: 0.0)
    log = tmp_path / "ingest.log"
    plane_process = plane(tmp_path, SLEEPS, reports, lambda: log.read_text().count("up") >= 1)
    plane_process.start()
    plane_process.wait(threading.Event())
    assert plane_process._child is not None
    plane_process._child.kill()
    plane_process.keep_alive()  # notices
    plane_process.keep_alive()  # starts
    assert plane_process.pid is not None
    assert [report.state for report in reports.all] == ["starting", "ready", "died", "starting"]
    plane_process.stop()
    assert plane_process.pid is None


@pytest.mark.parametrize(
    ("exit_code", "error", "message"),
    [(2, ConfigError, "no such profile"), (4, LeaseHeldError, "another driver ingests")],
)
def test_a_plane_that_refuses_to_start_is_reported_in_one_line(
    exit_code: int, error: type[PenstockError], message: str, tmp_path: Path
) -> None:
    program = f"import sys; print('noise'); print('penstock: {message}', file=sys.stderr); sys.exit({exit_code})"
    plane_process = plane(tmp_path, program, Reports(), lambda: False)
    plane_process.start()
    with pytest.raises(error, match=f"^{message}$"):
        plane_process.wait(threading.Event())


def test_a_plane_that_crashes_at_the_start_quotes_its_log(tmp_path: Path) -> None:
    plane_process = plane(tmp_path, "raise SystemExit('out of ideas')", Reports(), lambda: False)
    plane_process.start()
    with pytest.raises(UnavailableError, match="out of ideas"):
        plane_process.wait(threading.Event())


def test_a_stop_interrupts_the_wait_for_a_plane(tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    plane_process = plane(tmp_path, SLEEPS, Reports(), lambda: False)
    plane_process.start()
    with pytest.raises(StartInterruptedError):
        plane_process.wait(stop)
    plane_process.stop()
    assert plane_process.pid is None
