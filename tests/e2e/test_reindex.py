"""A whole Penstock is filled again with another model while events stream in and its parts are killed.

half of the assets are taken from the topics before; they come from the asset store
events stream on: new assets, newer versions, deletions
killed, each one time: the driver of the fill, a worker process of each of its pools (the writer among them), the store
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import pytest

from penstock.broker.base import Message
from penstock.broker.producer import MessageProducer
from penstock.broker.topics import group_lag, remove_records_before
from penstock.config.endpoints import kafka_of
from penstock.embedded.ray import ray_environment
from penstock.ingest.status import read_status
from tests.e2e.stack import Stack, eventually

logger = logging.getLogger(__name__)

pytestmark = [pytest.mark.services, pytest.mark.exhaustive, pytest.mark.timeout(2_400)]

ASSETS = int(os.environ.get("PENSTOCK_REINDEX_ASSETS", "20000"))
"""The number of assets, as the environment says."""
RATE_PER_S = float(os.environ.get("PENSTOCK_REINDEX_RATE", "200"))
"""Live events per second."""
FRESHNESS_S = float(os.environ.get("PENSTOCK_REINDEX_FRESHNESS_S", "60"))
"""The freshness of live events is read for this time while the version is filled, and nothing is killed."""
OLD = os.environ.get("PENSTOCK_REINDEX_PROFILE", "null:8")
"""The profile of the present version."""
NEW = os.environ.get("PENSTOCK_REINDEX_PROFILE", "null:2")
"""The profile of the new version: with real encoders the same one again."""
TOPIC = "media.text"
_FILL_TIMEOUT_S = 1_500.0


class Fill:
    """The plane of the new version: `penstock reindex start`, in a process of its own."""

    def __init__(self, stack: Stack, environment: Mapping[str, str]) -> None:
        self._environment = {**os.environ, **environment, "PENSTOCK_DATA_DIR": str(stack.folder)}
        self._environment |= ray_environment(stack.folder)
        self._log = stack.folder.with_name("reindex.log")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        command = [sys.executable, "-m", "penstock.cli.main", "-v", "reindex", "start", *options]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)

    @property
    def log(self) -> str:
        return self._log.read_text()[-3_000:] if self._log.exists() else ""

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(30)

    def wait(self, timeout_s: float) -> int:
        assert self._process is not None
        return self._process.wait(timeout_s)

    def close(self) -> None:
        if self.runs:
            assert self._process is not None
            self._process.terminate()
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self.kill()


ENVIRONMENT = {
    "PENSTOCK_PROFILE": OLD,
    "PENSTOCK_INGEST__MODALITIES": '["text"]',
    "PENSTOCK_QUERY__PORT": "0",
    "PENSTOCK_KAFKA__PARTITIONS": "4",
    "PENSTOCK_CANARY__INTERVAL_S": "0",
    "PENSTOCK_METRICS__PORT": "0",
}


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    stack = Stack(tmp_path / "data", ENVIRONMENT)
    try:
        stack.start()
        yield stack
    finally:
        stack.close()


@pytest.fixture
def fill(stack: Stack) -> Iterator[Fill]:
    fill = Fill(stack, ENVIRONMENT)
    try:
        yield fill
    finally:
        fill.close()


def text(key: str, version: int = 0) -> Message:
    return Message(TOPIC, key.encode(), f"Harbour {key}, version {version}.".encode())


class Streaming:
    """Produces events at a rate until it is stopped: new assets, newer versions of old ones, and deletions."""

    def __init__(self, stack: Stack) -> None:
        self.produced = 0
        self._stack = stack
        self._stop = threading.Event()

    @contextmanager
    def flowing(self) -> Iterator[None]:
        with ThreadPoolExecutor(1) as pool:
            work = pool.submit(self._run)
            try:
                yield
            finally:
                self._stop.set()
                work.result(120)

    def _run(self) -> None:
        producer = MessageProducer(self._stack.settings.kafka)
        try:
            next_at, sent = time.monotonic(), []
            while not self._stop.is_set():
                sent.append(producer.send(self._next()))
                self.produced += 1
                next_at += 1 / RATE_PER_S
                self._stop.wait(max(0.0, next_at - time.monotonic()))
            for future in sent:
                future.result(120)
        finally:
            producer.close(10)

    def _next(self) -> Message:
        number = self.produced
        kind = number % 10
        if kind < 6:
            return text(f"new{number}")
        key = f"k{(number * 7_919) % ASSETS}"
        return Message(TOPIC, key.encode(), None) if kind == 9 else text(key, number)


def produce(stack: Stack, count: int) -> None:
    for first in range(0, count, 2_000):
        stack.produce([text(f"k{number}") for number in range(first, min(first + 2_000, count))])


def retain_half(stack: Stack) -> None:
    """Removes the first half of each partition, as retention does."""
    kafka = stack.settings.kafka
    remove_records_before(kafka, {lag.partition: lag.log_end // 2 for lag in group_lag(kafka, [TOPIC])})


def status(stack: Stack, code: int | None = 0) -> Any:
    done = stack.run("reindex", "status", "--json")
    assert code is None or done.returncode == code, done.stderr.decode()
    return json.loads(done.stdout)


def new_workers(since_s: float) -> list[psutil.Process]:
    """Returns the processes of Ray's actors that were started since, lanes and workers."""
    workers = []
    for process in psutil.process_iter(["cmdline", "create_time"]):
        title = " ".join(process.info["cmdline"] or ())
        if process.info["create_time"] >= since_s and title.startswith("ray::WorkerHost"):
            workers.append(process)
    return workers


def lag_of(stack: Stack, group: str) -> int:
    kafka = kafka_of(stack.endpoints, stack.settings.kafka).model_copy(update={"group": group})
    return sum(lag.lag for lag in group_lag(kafka, [TOPIC]))


def audited(stack: Stack, *options: str) -> Any:
    done = stack.run("audit", "--json", *options)
    report = json.loads(done.stdout)
    assert done.returncode == 0, report["problems"][:10]
    assert report["balanced"]
    return report


def freshness(stack: Stack, seconds: float) -> str:
    """Reads the freshness of the latest live events each second for a while, and returns the medians and the worst."""
    kafka, ends_s = stack.settings.kafka, time.monotonic() + seconds
    p50s, p95s = list[float](), list[float]()
    while time.monotonic() < ends_s:
        present = read_status(stack.folder, kafka.group)
        assert present is not None
        if (sample := present.freshness.get("text")) is not None:
            p50s.append(sample.p50_s)
            p95s.append(sample.p95_s)
        threading.Event().wait(1.0)
    return f"p50 {median(p50s):.2f} s p95 {median(p95s):.2f} s, the worst p95 {max(p95s):.2f} s"


def test_an_index_is_filled_again_while_everything_dies_and_both_versions_balance(
    stack: Stack, fill: Fill, record_property: Callable[[str, object], None]
) -> None:
    produce(stack, ASSETS)
    stack.settle()
    retain_half(stack)
    streaming = Streaming(stack)
    with streaming.flowing():
        # No sample of the latest thousands is one of the assets before them.
        eventually(lambda: streaming.produced > 30 * RATE_PER_S, "live events flow", 90)
        before = freshness(stack, FRESHNESS_S / 2)
        began_s = time.time()
        again = ["--anyway"] if NEW == OLD else []
        fill.start("--profile", NEW, *again)
        eventually(lambda: (status(stack, None)["progress"] or {"total": 0})["total"] > 0, f"it fills: {fill.log}", 240)
        during = freshness(stack, FRESHNESS_S)
        slow = status(stack, None)["progress"]
        fill.kill()  # the driver; Ray ends its actors
        restarted_s = time.time()
        fill.start(*again)
        eventually(lambda: len(new_workers(restarted_s)) >= 3, f"it fills again: {fill.log}", 240)
        for worker in new_workers(restarted_s):  # the writer among them
            with suppress(psutil.NoSuchProcess):
                worker.kill()
                worker.wait(30)
        stack.process_with("milvus_lite").kill()
        eventually(
            lambda: fill.runs and bool((status(stack, None)["progress"] or {"filled": False})["filled"]),
            f"the new version is filled: {fill.log}",
            _FILL_TIMEOUT_S,
        )
        took_s, produced = time.time() - began_s, streaming.produced
    stack.settle()
    shown = status(stack)
    eventually(lambda: lag_of(stack, shown["reindex"]["group"]) == 0, f"the new version is fed: {fill.log}", 240)
    assert shown["reindex"]["phase"] == "ready"
    assert shown["progress"]["missing"] == 0
    old, new = audited(stack), audited(stack, "--index-version", "2")
    assert (new["indexed"], new["deleted"]) == (old["indexed"], old["deleted"])
    record_property("seconds", round(took_s, 1))
    logger.warning(
        "%d assets and %d live events: filled in %.0f s with everything that was killed. Live freshness before: %s; "
        "with the fill: %s, at %.0f assets/s by then",
        ASSETS,
        produced,
        took_s,
        before,
        during,
        slow["rate_per_s"],
    )
    dropped = stack.run("reindex", "drop", "--json")
    assert dropped.returncode == 0, dropped.stderr.decode()
    assert json.loads(dropped.stdout) == {"removed": 2, "kept": 1}
    assert fill.wait(60) == 0
    assert stack.run("reindex", "status").returncode == 0
    audited(stack)


def test_a_reindex_with_the_same_models_is_refused_and_leaves_nothing(stack: Stack, fill: Fill) -> None:
    produce(stack, 20)
    stack.settle()
    fill.start("--profile", OLD)
    assert fill.wait(240) == 2, fill.log
    assert "every vector would be the same" in fill.log
    assert status(stack)["reindex"] is None
