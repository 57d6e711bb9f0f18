"""A worker node of the Ray cluster is lost under load, with lanes, writers and whatever else was on it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from penstock.config import Settings
from tests.faults.check import check
from tests.faults.cluster import cluster, paced, seconds_until_on_again, services, settle, settled, start_driver
from tests.faults.process import eventually
from tests.faults.stream import Stream

pytestmark = [pytest.mark.operate, pytest.mark.timeout(900)]

Record = Callable[[str, object], None]

_ON_AGAIN_S = 60.0
_ENDS_S = 60.0


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    with services(tmp_path) as settings:
        yield settings


@pytest.mark.parametrize("how", ["killed", "silent"])
def test_a_worker_node_that_is_lost_under_load_is_replaced(
    how: str, settings: Settings, tmp_path: Path, record_property: Record
) -> None:
    """A silent node is one whose network or machine is gone: no connection to it ends, and none is answered."""
    with cluster(tmp_path, None) as pods:
        pods.head()
        workers = [pods.worker(f"worker-{number}", cpus=8) for number in range(2)]
        driver = start_driver(pods, settings, "driver")
        lost = max(workers, key=lambda worker: len(worker.actors()))
        record_property(f"actors on the lost node, {how}", ", ".join(sorted(lost.actors())))
        stream = Stream(settings)
        with paced(stream):
            eventually(lambda: settled(settings) > 100, "the stream is being settled")
            lost.kill() if how == "killed" else lost.suspend()
            seconds = seconds_until_on_again(stream, time.monotonic(), _ON_AGAIN_S)
        record_property(f"worker {how} until on again, seconds", f"{seconds:.1f}")
        settle(stream)
        check(stream)
        if how == "silent":
            with paced(stream):
                lost.resume()
                eventually(lambda: not lost.alive, "a node that the cluster gave up ends when it continues", _ENDS_S)
            settle(stream)
            check(stream)
        assert driver.alive
