"""A fill on a real Kafka and Milvus Lite, with lanes in this process, outlives its own end, that of a lane and that of
the store while live events stream in, and the audit of both versions balances."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from penstock.assets import AssetStore
from penstock.audit import run_audit
from penstock.audit.report import AuditReport
from penstock.broker.base import Message, PartitionLag
from penstock.broker.consumer import LaneConsumer
from penstock.broker.producer import MessageProducer
from penstock.broker.record_parser import RecordParser
from penstock.broker.replay_keys import ReplayKeys
from penstock.broker.topics import ensure_topics, group_lag, remove_records_before
from penstock.config import Settings, load_settings
from penstock.errors import PenstockError
from penstock.ingest.asset_gc import sweep_assets
from penstock.ingest.lane.batcher import Batcher, BatchLimits
from penstock.ingest.lane.lane import Lane, LaneLimits
from penstock.ingest.reindex.filling import StoppedFillError
from penstock.ingest.reindex.job import FillJob
from penstock.ingest.reindex.plane import open_filler
from penstock.records import Collection, Modality
from penstock.store.milvus.store import MilvusStore
from penstock.versions import Reindex, read_missing, read_progress, version_settings, write_reindex
from tests.ingest.doubles import SPEC, RecordingSink, pipeline_on
from tests.ingest.lane.harness import running
from tests.ingest.reindex.twin import RefillMedia
from tests.services import kafka_server
from tests.store.servers import LiteServer, milvus_lite_server

pytestmark = [pytest.mark.services, pytest.mark.exhaustive, pytest.mark.timeout(900)]

ASSETS = int(os.environ.get("PENSTOCK_REINDEX_ASSETS", "20000"))
"""The number of assets, as the environment says."""
RATE_PER_S = float(os.environ.get("PENSTOCK_REINDEX_RATE", "200"))
TOPIC = "media.text"
_DEADLINE_S = 600.0


@pytest.fixture(scope="module")
def lite() -> Iterator[LiteServer]:
    with milvus_lite_server() as server:
        yield server


@pytest.fixture(scope="module")
def kafka() -> Iterator[str]:
    with kafka_server() as bootstrap_servers:
        yield bootstrap_servers


@pytest.fixture
def settings(kafka: str, lite: LiteServer, tmp_path: Path) -> Settings:
    return load_settings(
        profile="null:8",
        data_dir=tmp_path,
        kafka={"bootstrap_servers": kafka, "partitions": 4, "group": "refilled"},
        store={"uri": lite.uri, "timeout_s": 20.0, "consistency": "Strong"},
        ingest={"modalities": ["text"], "min_free_disk_bytes": 0},
    )


class Version:
    """A version of the index with a lane that feeds it, both of which may end and begin again."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = MilvusStore(settings.store)
        self.store.ensure(replace(SPEC, version=settings.store.version))
        self.media = RefillMedia(AssetStore(settings.asset_store_url))

    def lane(self) -> Lane:
        stop = threading.Event()
        sink = RecordingSink()
        parser = RecordParser.of(self.settings, ReplayKeys.of(self.settings))
        return Lane(
            name=f"v{self.settings.store.version}",
            consumer=LaneConsumer(self.settings.kafka, [TOPIC], drain_timeout_s=5.0),
            pipeline=pipeline_on(self.store, sink, media=self.media, stop=stop),
            batcher=Batcher(BatchLimits(256, 10_000_000, 0.05, 4), time.monotonic),
            parse=parser,
            topics={TOPIC: Modality.TEXT},
            limits=LaneLimits(10_000_000, 0.2, 5.0),
            executor=ThreadPoolExecutor(4),
            admission_checks={},
            abandon=stop,
            clock=time.monotonic,
            wall_ms=lambda: time.time_ns() // 1_000_000,
        )

    def lag(self) -> Sequence[PartitionLag]:
        return group_lag(self.settings.kafka, [TOPIC])

    def settle(self) -> None:
        deadline_s = time.monotonic() + _DEADLINE_S
        while behind := [lag for lag in self.lag() if lag.lag]:
            assert time.monotonic() < deadline_s, f"not settled: {behind}"
            time.sleep(0.2)

    def audit(self) -> AuditReport:
        return run_audit(self.settings)


def text(key: str, version: int = 0) -> Message:
    return Message(TOPIC, key.encode(), f"Harbour {key}, version {version}.".encode())


@contextmanager
def streaming(settings: Settings) -> Iterator[list[int]]:
    """Produces live events at a rate: new assets, newer versions of old ones, and deletions; yields their number."""
    stop, produced = threading.Event(), [0]

    def run() -> None:
        producer = MessageProducer(settings.kafka)
        sent, next_s = [], time.monotonic()
        while not stop.is_set():
            number, kind = produced[0], produced[0] % 10
            key = f"k{(number * 7_919) % ASSETS}"
            message = text(f"new{number}") if kind < 6 else Message(TOPIC, key.encode(), None)
            sent.append(producer.send(message if kind < 6 or kind == 9 else text(key, number)))
            produced[0] += 1
            next_s += 1 / RATE_PER_S
            stop.wait(max(0.0, next_s - time.monotonic()))
        for future in sent:
            future.result(120)
        producer.close(10)

    with ThreadPoolExecutor(1) as pool:
        work = pool.submit(run)
        try:
            yield produced
        finally:
            stop.set()
            work.result(180)


def fill_on(job: FillJob, *, ends_after: int | None = None) -> None:
    """Fills, again after each failure of a service; ends early after some waits."""
    waits = iter(range(1_000_000))

    class Ending(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            time.sleep(min(timeout or 0.0, 0.2))
            return next(waits) == ends_after

    deadline_s = time.monotonic() + _DEADLINE_S
    while True:
        try:
            with ExitStack() as opened:
                open_filler(job, Ending(), opened).fill()
            return
        except StoppedFillError:
            return
        except PenstockError:
            assert time.monotonic() < deadline_s
            time.sleep(1.0)


def test_a_fill_outlives_its_end_a_lane_and_the_store_and_both_versions_balance(
    settings: Settings, lite: LiteServer
) -> None:
    ensure_topics(settings.kafka, settings.ingest.modalities)
    assets = AssetStore(settings.asset_store_url)
    producer = MessageProducer(settings.kafka)
    for future in [producer.send(text(f"k{number}")) for number in range(ASSETS)]:
        future.result(120)
    producer.close(10)
    old = Version(settings)
    differing = {"kafka": {"group": "refilled.v2"}, "store": {"version": 2}}
    reindex = Reindex(1, 2, "null:8", "refilled.v2", 1, settings=differing)
    with running(old.lane()):
        old.settle()
        remove_records_before(settings.kafka, {lag.partition: lag.log_end // 2 for lag in old.lag()})
        write_reindex(assets, reindex)
        new = Version(version_settings(settings, reindex, 2))
        job = FillJob(settings, reindex, new.settings)
        with streaming(settings) as produced:
            with running(new.lane()):
                fill_on(job, ends_after=3)
            lane = new.lane()
            thread = threading.Thread(target=lane.run)
            thread.start()
            fill_on(job, ends_after=5)
            lane.stop(drain=False)
            thread.join(60)
            with running(new.lane()):
                lite.kill()
                lite.restart()
                fill_on(job)
        with running(new.lane()):
            old.settle()
            new.settle()
            fill_on(job)
            new.settle()
        old.settle()
    assert produced[0] > 0
    progress = read_progress(assets)
    assert progress is not None
    assert (progress.missing, read_missing(assets)) == (0, [])
    before, after = old.audit(), new.audit()
    assert (before.problems, after.problems) == ((), ())
    assert (before.balanced, after.balanced) == (True, True)
    assert (after.indexed, after.deleted) == (before.indexed, before.deleted)
    assert new.store.count(Collection.TEXT) == old.store.count(Collection.TEXT)
    assert old.media.fetched == []  # refills of what it has are settled before their media are read
    report = sweep_assets(settings, now_s=time.time() + 10 * 86_400, dry_run=True)
    assert report.checked - report.removed >= new.store.count(Collection.TEXT)
