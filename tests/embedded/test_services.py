"""What is hosted is started again when it dies, and says so."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from penstock.embedded import services as hosting
from penstock.embedded.services import Backoff, Host, Plane, Progress, Server, StartInterruptedError
from penstock.errors import ConfigError, UnavailableError


class Reports:
    """Collects reports, and lets a test wait for one."""

    def __init__(self) -> None:
        self.all: list[Progress] = []
        self._changed = threading.Condition()

    def __call__(self, progress: Progress) -> None:
        with self._changed:
            self.all.append(progress)
            self._changed.notify_all()

    def wait_for(self, state: str, times: int = 1) -> None:
        with self._changed:
            found = self._changed.wait_for(lambda: [one.state for one in self.all].count(state) >= times, timeout=20)
        assert found, [one.state for one in self.all]


class Scripted:
    """A server whose life the test decides."""

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

    def server(self) -> Server:
        return Server(self.start, self.stop, lambda: self.alive)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosting, "_POLL_S", 0.01)


def test_waits_double_up_to_a_limit_and_begin_anew_after_a_long_life() -> None:
    now = 0.0
    backoff = Backoff(lambda: now)
    assert [backoff.died() for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    backoff.started()
    now += 3600
    assert backoff.died() == 1


def test_a_server_that_dies_is_started_again() -> None:
    reports, scripted = Reports(), Scripted()
    host = Host("Kafka", scripted.server(), reports)
    assert host.address(threading.Event()) == "127.0.0.1:1"
    scripted.alive = False
    reports.wait_for("ready", times=2)
    assert scripted.starts == 2
    host.stop()
    assert not scripted.alive
    assert reports.all[-1].state == "stopped"


def test_a_server_that_may_not_be_restarted_is_an_error_when_it_dies() -> None:
    reports, scripted = Reports(), Scripted()
    host = Host("Ray", scripted.server(), reports, restart=False)
    host.address(threading.Event())
    host.check()
    scripted.alive = False
    reports.wait_for("died")
    with pytest.raises(UnavailableError, match="Ray died"):
        host.check()
    host.stop()


def test_a_first_start_that_fails_is_told_to_who_waits() -> None:
    host = Host("Kafka", Scripted(failures=1).server(), Reports())
    with pytest.raises(UnavailableError, match="not yet"):
        host.address(threading.Event())
    host.stop()


def test_a_stop_ends_the_waiting_for_a_start() -> None:
    release, stop = threading.Event(), threading.Event()

    def start() -> str:
        release.wait(20)
        return ""

    host = Host("Kafka", Server(start, lambda: None, lambda: True), Reports())
    stop.set()
    with pytest.raises(StartInterruptedError):
        host.address(stop)
    release.set()
    host.stop()


def plane(tmp_path: Path, program: str, reports: Reports, ready: Callable[[], bool]) -> Plane:
    return Plane(
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


def test_a_plane_that_dies_is_started_again_after_a_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reports = Reports()
    monkeypatch.setattr(Backoff, "died", lambda _self: 0.0)
    log = tmp_path / "ingest.log"
    one = plane(tmp_path, SLEEPS, reports, lambda: log.read_text().count("up") >= 1)
    one.start()
    one.wait(threading.Event())
    assert one._child is not None
    one._child.kill()
    one.keep_alive()  # notices
    one.keep_alive()  # starts
    assert one.pid is not None
    assert [report.state for report in reports.all] == ["starting", "ready", "died", "starting"]
    one.stop()
    assert one.pid is None


def test_a_plane_that_refuses_its_settings_says_so_in_its_own_words(tmp_path: Path) -> None:
    program = "import sys; print('noise'); print('penstock: no such profile', file=sys.stderr); sys.exit(2)"
    one = plane(tmp_path, program, Reports(), lambda: False)
    one.start()
    with pytest.raises(ConfigError, match=r"^no such profile$"):
        one.wait(threading.Event())


def test_a_plane_that_crashes_at_the_start_quotes_its_log(tmp_path: Path) -> None:
    one = plane(tmp_path, "raise SystemExit('out of ideas')", Reports(), lambda: False)
    one.start()
    with pytest.raises(UnavailableError, match="out of ideas"):
        one.wait(threading.Event())


def test_a_stop_ends_the_waiting_for_a_plane(tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    one = plane(tmp_path, SLEEPS, Reports(), lambda: False)
    one.start()
    with pytest.raises(StartInterruptedError):
        one.wait(stop)
    one.stop()
    assert one.pid is None
