"""An ingest plane whose head, workers and driver are pods, under a paced load: what tests of lost nodes share."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from penstock.broker.base import Partition, PartitionLag
from penstock.broker.topics import group_lag
from penstock.config import Settings, load_settings, to_environment
from penstock.ingest.status import PlaneState, read_status
from tests.faults.pods import Pod, RayPods
from tests.faults.process import SETTLE_S, eventually
from tests.faults.stream import Stream
from tests.services import kafka_server
from tests.store.servers import milvus_lite_server

DRAIN_S = 15.0
_RUNNING_S = 180.0


@contextmanager
def services(folder: Path) -> Iterator[Settings]:
    """Yields the settings of a plane whose Kafka and Milvus Lite run."""
    with ExitStack() as stack:
        yield load_settings(
            profile="null:8",
            data_dir=folder / "data",
            kafka={"bootstrap_servers": stack.enter_context(kafka_server()), "session_timeout_ms": 6_000},
            store={"uri": stack.enter_context(milvus_lite_server()).uri, "consistency": "Strong"},
            ingest={
                "modalities": ["text", "image"],
                "lanes": 2,
                "batch_events": 16,
                "commit_interval_ms": 200,
                "drain_timeout_s": DRAIN_S,
                "min_free_disk_bytes": 0,
            },
            text={"max_passage_tokens": 16, "overlap_tokens": 0},  # as `check` reads them
            metrics={"enabled": False},
        )


@contextmanager
def cluster(folder: Path, redis: str | None) -> Iterator[RayPods]:
    """Yields a Ray cluster without nodes."""
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
    """Returns the number of events that were settled since the driver started."""
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
    """Returns once everything that was sent is settled and committed."""
    eventually(
        lambda: sum(partition.lag for partition in _lag(stream.settings)) == 0, "all is settled and committed", SETTLE_S
    )


def wait(seconds: float) -> None:
    """The duration of the fault itself, which no condition ends."""
    threading.Event().wait(seconds)


def log_ends(settings: Settings) -> Mapping[Partition, int]:
    """Returns the offset of each partition that its next record will get."""
    return {partition.partition: partition.log_end for partition in _lag(settings)}


def commits_reach(settings: Settings, ends: Mapping[Partition, int]) -> bool:
    """Whether everything below these offsets is settled and committed."""
    committed = {partition.partition: partition.committed or 0 for partition in _lag(settings)}
    return all(committed[partition] >= end for partition, end in ends.items())


def seconds_until_on_again(stream: Stream, began_s: float, limit_s: float) -> float:
    """Returns the seconds from a fault until everything is settled that was sent up to moments after it.

    That includes what was in flight, in every partition.

    Args:
        stream: which is being sent.
        began_s: of the fault, `time.monotonic`.
        limit_s: the longest time that is allowed.
    """
    produced = stream.produced
    eventually(lambda: stream.produced > produced + 50, "the stream goes on after the fault")
    ends = log_ends(stream.settings)
    left_s = limit_s - (time.monotonic() - began_s)
    eventually(lambda: commits_reach(stream.settings, ends), "what was sent after the fault is settled", left_s)
    return time.monotonic() - began_s


def _lag(settings: Settings) -> Sequence[PartitionLag]:
    topics = [settings.kafka.topic_of(modality) for modality in settings.ingest.modalities]
    return group_lag(settings.kafka, topics)
