from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from benchmarks import load_generator as module
from benchmarks.load_generator import LoadGenerator
from penstock.broker.memory.broker import MemoryBroker
from penstock.config import StoreSettings
from penstock.encoders.load import profile_fingerprints
from penstock.encoders.profiles import load_profile
from penstock.errors import UnavailableError
from penstock.records import AssetRef, AssetRow, Outcome, Version
from penstock.store.memory import MemoryStore
from penstock.store.spec import index_spec

TOPIC = "media.image"


@dataclass
class Plane:
    """Stands for the ingest plane: gives each record its row, `late_ms` after its timestamp."""

    broker: MemoryBroker
    store: MemoryStore
    late_ms: Callable[[int], int] = lambda _: 0
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        consumer = self.broker.consumer("plane", [TOPIC], drain_timeout_s=1.0)
        settled = 0
        while not self.stop.is_set():
            for record in consumer.poll(0.05, 10).records:
                position = record.position
                asset = AssetRef("default", TOPIC, (record.key or b"").decode())
                version = Version(record.timestamp_ms, position.partition, position.offset)
                indexed_at_ms = record.timestamp_ms + self.late_ms(settled)
                self.store.put_asset_rows([AssetRow(asset, version, Outcome.INDEXED, {}, "", indexed_at_ms)])
                settled += 1
        consumer.close(1.0)


def with_a_plane(late_ms: Callable[[int], int], use: Callable[[LoadGenerator], object]) -> None:
    broker, store, profile = MemoryBroker(), MemoryStore(), load_profile("null:8")
    store.ensure(index_spec(profile, profile_fingerprints(profile), StoreSettings()))
    broker.create_topic(TOPIC)
    plane = Plane(broker, store, late_ms)
    thread = threading.Thread(target=plane.run)
    thread.start()
    try:
        use(LoadGenerator(broker.producer(), store, TOPIC, "default"))
    finally:
        plane.stop.set()
        thread.join()


def test_a_stream_returns_when_every_asset_has_its_row() -> None:
    def use(stream: LoadGenerator) -> None:
        assert stream.send_all([b"x"] * 25, first=0) > 0
        assert stream.store.count_assets() == 25
        stream.send_all([b"x"] * 5, first=25)
        assert stream.store.count_assets() == 30

    with_a_plane(lambda _: 0, use)


def test_freshness_is_the_age_of_each_event_when_its_row_was_written() -> None:
    def use(stream: LoadGenerator) -> None:
        seconds = stream.send_paced(lambda _: b"x", first=0, count=10, per_s=500.0)
        assert sorted(seconds) == [number * 0.25 for number in range(10)]

    with_a_plane(lambda settled: settled * 250, use)


def test_messages_name_their_assets_by_number() -> None:
    def use(stream: LoadGenerator) -> None:
        stream.send_all([b"x"], first=41)
        asset = AssetRef("default", TOPIC, "bench-000000041")
        assert asset.id in stream.store.asset_rows([asset.id])

    with_a_plane(lambda _: 0, use)


def test_events_that_nobody_indexes_name_the_log_that_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SETTLE_TIMEOUT_S", 0.05)
    broker, store, profile = MemoryBroker(), MemoryStore(), load_profile("null:8")
    store.ensure(index_spec(profile, profile_fingerprints(profile), StoreSettings()))
    broker.create_topic(TOPIC)
    with pytest.raises(UnavailableError, match=r"3 of 3 events are not searchable: `ingest\.log`.*fewer events"):
        LoadGenerator(broker.producer(), store, TOPIC, "default").send_all([b"x"] * 3, first=0)
