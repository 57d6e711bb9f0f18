"""A harness of lanes over a broker and a store in memory, with threads and clocks as in production."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

from penstock.broker.base import Consumer, Message, Partition
from penstock.broker.memory.broker import MemoryBroker
from penstock.broker.wire import parse_record
from penstock.ingest.changes import ChangeSink
from penstock.ingest.holds import Why
from penstock.ingest.lane.batcher import Batcher, BatchLimits
from penstock.ingest.lane.lane import Lane, LaneLimits
from penstock.ingest.lane.quotas import TenantQuotas
from penstock.records import Collection, Event, Modality, Record, Rejected
from penstock.store.memory import MemoryStore
from tests.ingest.builders import TOPIC
from tests.ingest.doubles import RecordingSink, ScriptedMedia, memory_store, pipeline_on
from tests.replays import KEYS

GROUP = "penstock"
PARTITIONS = [Partition(TOPIC, number) for number in range(2)]


class GatedMedia(ScriptedMedia):
    """Holds batches in the decode step until the gate is open."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.seen = 0

    def fetch_and_decode(self, events: Sequence[Event], roles: Sequence[str]) -> Any:
        self.seen += len(events)
        self.open.wait(30)
        return super().fetch_and_decode(events, roles)


class LaneHarness:
    """A broker with one topic of two partitions, a store, and lanes on them."""

    def __init__(self) -> None:
        self.broker = MemoryBroker()
        self.broker.create_topic(TOPIC, 2)
        self.store: MemoryStore = memory_store()
        self.sink = RecordingSink()
        self.refusal = ""
        self.produced = 0

    def produce(self, count: int, *, partition: int | None = None, value: bytes = b"v", key: str = "") -> None:
        for _ in range(count):
            name = (key or f"k{self.produced}").encode()
            self.broker.append(Message(TOPIC, name, value, partition=partition))
            self.produced += 1

    def lane(
        self,
        name: str = "lane",
        *,
        media: ScriptedMedia | None = None,
        max_in_flight_bytes: int = 1_000_000,
        drain_timeout_s: float = 5.0,
        consumer: Consumer | None = None,
        topics: Sequence[str] = (TOPIC,),
        parse: Callable[[Record], Event | Rejected] | None = None,
        make_feed: Callable[[threading.Event], ChangeSink | None] = lambda _: None,
        quotas: TenantQuotas | None = None,
    ) -> Lane:
        stop = threading.Event()
        return Lane(
            name=name,
            consumer=consumer or self.broker.consumer(GROUP, topics, drain_timeout_s=drain_timeout_s),
            pipeline=pipeline_on(self.store, self.sink, media=media, stop=stop, changes=make_feed(stop)),
            batcher=Batcher(BatchLimits(8, 100_000, 0.001, 4), time.monotonic, quotas),
            parse=parse or parse_text,
            topics=dict.fromkeys(topics, Modality.TEXT),
            limits=LaneLimits(max_in_flight_bytes, 0.01, drain_timeout_s),
            executor=ThreadPoolExecutor(8),
            admission_checks={Why.DISK: lambda: self.refusal},
            abandon=stop,
            clock=time.monotonic,
            wall_ms=lambda: time.time_ns() // 1_000_000,
        )

    def committed(self) -> int:
        """Records that the group has committed, both partitions together."""
        return sum(self.broker.committed(GROUP).values())

    def count(self) -> int:
        return self.store.count(Collection.TEXT)


def parse(record: Record, modality: Modality) -> Any:
    return parse_record(record, modality=modality, default_tenant="default", max_inline_bytes=1_000_000, replays=KEYS)


parse_text = partial(parse, modality=Modality.TEXT)


@contextmanager
def running(*lanes: Lane) -> Iterator[None]:
    threads = [threading.Thread(target=lane.run, daemon=True) for lane in lanes]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for lane in lanes:
            lane.stop()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()


def eventually(holds: Callable[[], bool], awaited: str, timeout_s: float = 20.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline_s, f"did not happen: {awaited}"
        time.sleep(0.005)
