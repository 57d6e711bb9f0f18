"""The head of the Ray cluster dies under load, with a Redis that keeps its state and without one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from penstock.config import Settings
from tests.faults.check import check
from tests.faults.cluster import (
    DRAIN_S,
    GapMeter,
    cluster,
    paced,
    seconds_until_on_again,
    services,
    settle,
    settled,
    start_driver,
    wait,
)
from tests.faults.pods import redis_server
from tests.faults.process import eventually
from tests.faults.stream import Stream

pytestmark = [pytest.mark.operate, pytest.mark.timeout(900)]

Record = Callable[[str, object], None]

_HEAD_AWAY_S = 30.0
_MAX_GAP_S = 5.0
_ENDS_S = 90.0
_ON_AGAIN_S = 60.0
_WORKER_LOST_AFTER_S, _HEAD_BACK_AFTER_S = 10.0, 10.0  # a head that a cluster restarts is back in some 20 s


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    with services(tmp_path) as settings:
        yield settings


def test_with_redis_nothing_pauses_while_the_head_is_dead(
    settings: Settings, tmp_path: Path, record_property: Record
) -> None:
    with redis_server(tmp_path) as redis, cluster(tmp_path, redis) as pods:
        head = pods.head()
        pods.worker("worker", cpus=8)
        driver = start_driver(pods, settings, "driver")
        stream = Stream(settings)
        with paced(stream):
            eventually(lambda: settled(settings) > 100, "the stream is being settled")
            with GapMeter(settings) as meter:
                head.kill()
                wait(_HEAD_AWAY_S)
        record_property("longest gap, seconds", f"{meter.longest_s:.1f}")
        settle(stream)
        check(stream)
        assert meter.longest_s < _MAX_GAP_S
        pods.head()
        stream.send(100)
        settle(stream)
        check(stream)
        began_s = time.monotonic()
        driver.terminate()
        eventually(lambda: not driver.alive, "the driver ends", DRAIN_S + 10)
        record_property("SIGTERM to exit, seconds", f"{time.monotonic() - began_s:.1f}")
        assert driver.exit_code == 0


def test_without_redis_all_ends_by_itself_and_resumes(
    settings: Settings, tmp_path: Path, record_property: Record
) -> None:
    stream = Stream(settings)
    with cluster(tmp_path, None) as pods:
        head, worker = pods.head(), pods.worker("worker", cpus=8)
        driver = start_driver(pods, settings, "driver")
        with paced(stream):
            eventually(lambda: settled(settings) > 100, "the stream is being settled")
            head.kill()
            began_s = time.monotonic()
            eventually(lambda: not driver.alive and not worker.alive, "driver and worker end by themselves", _ENDS_S)
        record_property("head killed to the end, seconds", f"{time.monotonic() - began_s:.1f}")
        assert driver.exit_code != 0
    with cluster(tmp_path, None) as pods:
        pods.head()
        pods.worker("worker", cpus=8)
        start_driver(pods, settings, "driver again")
        stream.send(100)
        settle(stream)
        check(stream)


def test_with_redis_the_head_restarts_under_load_and_nothing_pauses(
    settings: Settings, tmp_path: Path, record_property: Record
) -> None:
    with redis_server(tmp_path) as redis, cluster(tmp_path, redis) as pods:
        head = pods.head()
        pods.worker("worker", cpus=8)
        driver = start_driver(pods, settings, "driver")
        stream = Stream(settings)
        with paced(stream):
            eventually(lambda: settled(settings) > 100, "the stream is being settled")
            with GapMeter(settings) as meter:
                for _ in range(2):
                    head.kill()
                    began_s = time.monotonic()
                    head = pods.head()
                    record_property("head killed until it runs again, seconds", f"{time.monotonic() - began_s:.1f}")
                    seconds_until_on_again(stream, time.monotonic(), _ON_AGAIN_S)
        record_property("longest gap, seconds", f"{meter.longest_s:.1f}")
        settle(stream)
        check(stream)
        assert driver.alive
        assert meter.longest_s < _MAX_GAP_S


def test_with_redis_a_worker_node_that_is_lost_while_the_head_is_dead_is_replaced_once_the_head_is_back(
    settings: Settings, tmp_path: Path, record_property: Record
) -> None:
    with redis_server(tmp_path) as redis, cluster(tmp_path, redis) as pods:
        head = pods.head()
        workers = [pods.worker(f"worker-{number}", cpus=8) for number in range(2)]
        driver = start_driver(pods, settings, "driver")
        lost = max(workers, key=lambda worker: len(worker.actors()))
        stream = Stream(settings)
        with paced(stream):
            eventually(lambda: settled(settings) > 100, "the stream is being settled")
            head.kill()
            wait(_WORKER_LOST_AFTER_S)
            lost.kill()
            lost_s = time.monotonic()
            wait(_HEAD_BACK_AFTER_S)
            pods.head()
            back_s = time.monotonic()
            seconds = seconds_until_on_again(stream, back_s, _ON_AGAIN_S)
        record_property("worker killed until on again, seconds", f"{back_s - lost_s + seconds:.1f}")
        record_property("head back until on again, seconds", f"{seconds:.1f}")
        settle(stream)
        check(stream)
        assert driver.alive
