"""The head of the Ray cluster dies under load, with a Redis that keeps its state and without one."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from penstock.broker.topics import group_lag
from penstock.config import Settings, load_settings, to_environment
from penstock.ingest.status import PlaneState, read_status
from tests.faults.check import check
from tests.faults.pods import Pod, RayPods, redis_server
from tests.faults.process import SETTLE_S, eventually
from tests.faults.stream import Stream
from tests.services import kafka_server
from tests.store.servers import milvus_lite_server

pytestmark = [pytest.mark.operate, pytest.mark.timeout(900)]

Record = Callable[[str, object], None]

_RUNNING_S = 180.0
_HEAD_AWAY_S = 30.0
_MAX_GAP_S = 5.0
_ENDS_S = 90.0
_DRAIN_S = 15.0


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    with ExitStack() as stack:
        yield load_settings(
            profile="null:8",
            data_dir=tmp_path / "data",
            kafka={"bootstrap_servers": stack.enter_context(kafka_server()), "session_timeout_ms": 6_000},
            store={"uri": stack.enter_context(milvus_lite_server()).uri, "consistency": "Strong"},
            ingest={
                "modalities": ["text", "image"],
                "lanes": 2,
                "batch_events": 16,
                "commit_interval_ms": 200,
                "drain_timeout_s": _DRAIN_S,
                "min_free_disk_bytes": 0,
            },
            text={"max_passage_tokens": 16, "overlap_tokens": 0},  # as `check` reads them
            metrics={"enabled": False},
        )


@contextmanager
def cluster(folder: Path, redis: str | None) -> Iterator[RayPods]:
    pods = RayPods(folder, redis)
    try:
        yield pods
    finally:
        pods.close()


def start_driver(pods: RayPods, settings: Settings, name: str) -> Pod:
    """Starts `penstock ingest` in a pod of its own; returns once it takes events in."""
    began_ms = time.time_ns() // 1_000_000
    resolved = settings.model_copy(update={"ray_address": pods.address})
    pod = pods.driver(name, [sys.executable, "-m", "penstock.cli.main", "-v", "ingest"], to_environment(resolved))

    def runs() -> bool:
        assert pod.alive, pod.log.read_text()[-3000:]
        status = read_status(settings.data_dir, settings.kafka.group)
        return status is not None and status.state is PlaneState.RUNNING and status.updated_ms >= began_ms

    eventually(runs, f"the driver runs; {pod.log} says why not", _RUNNING_S)
    return pod


def settled(settings: Settings) -> int:
    status = read_status(settings.data_dir, settings.kafka.group)
    assert status is not None
    return sum(count for by_outcome in status.outcomes.values() for count in by_outcome.values())


@contextmanager
def paced(stream: Stream) -> Iterator[None]:
    """Sends 40 events a second during its block, so that the cluster has time for its own work."""
    stop = threading.Event()

    def send() -> None:
        while not stop.wait(0.25):
            stream.send(10)

    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(send)
        try:
            yield
        finally:
            stop.set()
            sending.result()


class GapMeter:
    """Measures the longest time in which no event was settled."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.longest_s = 0.0

    def __enter__(self) -> GapMeter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        last, last_s = settled(self._settings), time.monotonic()
        while not self._stop.wait(0.1):
            now, now_s = settled(self._settings), time.monotonic()
            self.longest_s = max(self.longest_s, now_s - last_s)
            if now != last:
                last, last_s = now, now_s


def settle(stream: Stream) -> None:
    topics = [stream.settings.kafka.topic_of(modality) for modality in stream.settings.ingest.modalities]
    eventually(
        lambda: sum(partition.lag for partition in group_lag(stream.settings.kafka, topics)) == 0,
        "all is settled and committed",
        SETTLE_S,
    )


def wait(seconds: float) -> None:
    """The duration of the fault itself, which no condition ends."""
    threading.Event().wait(seconds)


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
        eventually(lambda: not driver.alive, "the driver ends", _DRAIN_S + 10)
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
