"""Probes of a whole Penstock while its store is stopped, and while it hangs: unready within 10 s, and never unlive."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.stack import Stack, eventually

pytestmark = [pytest.mark.services, pytest.mark.exhaustive]

_UNREADY_WITHIN_S = 10.0
_HANGS_FOR_S = 75.0  # longer than a driver that makes no turn counts as live


class Probes:
    """Requests `/livez` twice a second from the start, and `/readyz` on demand."""

    def __init__(self, stack: Stack) -> None:
        assert stack.endpoints.metrics_url is not None
        self.base = stack.endpoints.metrics_url.removesuffix("/metrics")
        self.lives: list[int] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def ready(self) -> bool:
        return httpx.get(f"{self.base}/readyz", timeout=5).status_code == 200

    def reasons(self) -> str:
        return str(httpx.get(f"{self.base}/readyz", timeout=5).json()["reasons"])

    def unready_after_s(self) -> float:
        """Returns the seconds from now until the plane is unready because of its store."""
        since_s = time.monotonic()
        eventually(lambda: not self.ready() and "store: " in self.reasons(), "the plane is unready", 30)
        return time.monotonic() - since_s

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.5):
            self.lives.append(httpx.get(f"{self.base}/livez", timeout=5).status_code)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    environment = {"PENSTOCK_PROFILE": "null:8", "PENSTOCK_QUERY__PORT": "0"}
    stack = Stack(tmp_path_factory.mktemp("health") / "data", environment)
    try:
        stack.start()
        yield stack
    finally:
        stack.close()


@pytest.fixture
def probes(stack: Stack) -> Iterator[Probes]:
    probes = Probes(stack)
    try:
        eventually(probes.ready, "the plane is ready", 30)
        yield probes
    finally:
        probes.close()


def log_lines(stack: Stack) -> list[str]:
    """Returns the lines of the driver's log about holds of the store."""
    log = (stack.folder / "logs" / "ingest.log").read_text()
    return re.findall(r"ingest is (?:no longer )?held \(store\)", log)


def test_a_store_that_hangs_makes_the_plane_unready_without_any_traffic(stack: Stack, probes: Probes) -> None:
    before = len(log_lines(stack))
    store = stack.process_with("milvus_lite")
    store.suspend()
    try:
        assert probes.unready_after_s() < _UNREADY_WITHIN_S
        until_s = time.monotonic() + _HANGS_FOR_S
        eventually(lambda: time.monotonic() > until_s, "the time has passed", _HANGS_FOR_S + 5)
        assert not probes.ready()
    finally:
        store.resume()
    eventually(probes.ready, "the plane is ready again", 30)
    assert set(probes.lives) == {200}
    assert log_lines(stack)[before:] == ["ingest is held (store)", "ingest is no longer held (store)"]


def test_a_store_that_is_stopped_makes_the_plane_unready_until_it_runs_again(stack: Stack, probes: Probes) -> None:
    before = len(log_lines(stack))
    supervisor = stack.supervisor
    supervisor.suspend()  # it would start the store again immediately
    try:
        stack.process_with("milvus_lite").kill()
        assert probes.unready_after_s() < _UNREADY_WITHIN_S
    finally:
        supervisor.resume()
    eventually(probes.ready, "the plane is ready again", 60)
    assert set(probes.lives) == {200}
    assert log_lines(stack)[before:] == ["ingest is held (store)", "ingest is no longer held (store)"]


def test_status_in_another_folder_asks_the_planes_over_http(stack: Stack, probes: Probes, tmp_path: Path) -> None:
    environment = {**os.environ, "PENSTOCK_DATA_DIR": str(tmp_path), "PENSTOCK_PROFILE": "null:8"}
    arguments = ["status", "--at", probes.base, "--url", stack.endpoints.query_url, "--json"]
    done = stack.run(*arguments, environment=environment)
    assert done.returncode == 0, done.stderr.decode()
    shown = json.loads(done.stdout)
    assert shown["problems"] == {}
    assert shown["ingest"]["state"] == "running"
    assert shown["metrics"]["processes"]["lane"] == 1
    assert shown["index"]["store"] is not None
