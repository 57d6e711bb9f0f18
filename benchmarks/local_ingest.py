"""An ingest plane in one process: lane, steps and workers as they are, over a broker and a store in memory."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

from penstock.broker.memory.broker import MemoryBroker
from penstock.broker.wire import parse_record
from penstock.config import Settings
from penstock.encoders.profiles import load_profile
from penstock.ingest.executor.pool import LocalPool
from penstock.ingest.executor.proxies import Pools
from penstock.ingest.executor.workers import EncodeWorkerFactory, MediaWorkerFactory
from penstock.ingest.lane.assembly import all_roles
from penstock.ingest.lane.batcher import Batcher, BatchLimits
from penstock.ingest.lane.lane import Lane, LaneLimits
from penstock.ingest.pipeline.driver import Pipeline
from penstock.records import Event, Modality, Position, Record, Rejected
from penstock.retries import Backoff, Breaker
from penstock.store.memory import MemoryStore
from penstock.store.spec import index_spec
from penstock.store.writer import Writer

_DRAIN_S = 10.0


class Letters:
    """A dead-letter topic that is a list."""

    def __init__(self) -> None:
        self.sent: list[Rejected] = []

    def send(self, record: Record, rejected: Rejected) -> Future[Position]:
        """See `broker.base.DeadLetterSink.send`."""
        self.sent.append(rejected)
        acknowledged: Future[Position] = Future()
        acknowledged.set_result(Position("dead-letters", 0, len(self.sent)))
        return acknowledged


class LocalIngest:
    """A lane over memory, with one worker a pool, each in a thread.

    Args:
        settings: the models, limits and modalities: text and images only.

    Attributes:
        broker: with the topics of these modalities, of one partition each.
        store: what is indexed.
        letters: what was rejected.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.broker = MemoryBroker()
        self.store = MemoryStore()
        self.letters = Letters()
        self._topics = {settings.kafka.topic_of(modality): modality for modality in settings.ingest.modalities}
        for topic in self._topics:
            self.broker.create_topic(topic, 1)
        self._pools = self._start_workers()

    def settled(self) -> int:
        """Returns the number of events whose offsets are committed."""
        return sum(self.broker.committed(self._settings.kafka.group).values())

    def await_settled(self, events: int, timeout_s: float = 120.0) -> None:
        """Returns once this number of events, of all since the start, is committed."""
        deadline_s = time.monotonic() + timeout_s
        while self.settled() < events:
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"{self.settled()} of {events} events are settled after {timeout_s:g} s")
            time.sleep(0.002)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Runs the lane for a block, and drains it at the end."""
        lane = self._lane()
        thread = threading.Thread(target=lane.run, name="lane", daemon=True)
        thread.start()
        try:
            yield
        finally:
            lane.stop()
            thread.join()

    def _start_workers(self) -> Pools:
        settings, profile = self._settings, load_profile(self._settings.profile)
        roles = all_roles(profile, settings, settings.ingest.modalities)
        workers = {role: EncodeWorkerFactory(settings, role)(0) for role in roles}
        fingerprints = {role: worker.fingerprint() for role, worker in workers.items()}
        self.store.ensure(index_spec(profile, fingerprints, settings.store))
        writer = Writer(self.store, wall_ms=_wall_ms)
        writer.start(())
        media = LocalPool(MediaWorkerFactory(settings))
        return Pools.over(
            fetch=media,
            decode=media,
            long_media=media,
            encoders={role: LocalPool(partial(_existing, worker)) for role, worker in workers.items()},
            writers=LocalPool(lambda _: writer),
        )

    def _lane(self) -> Lane:
        settings, ingest = self._settings, self._settings.ingest
        abandon = threading.Event()
        return Lane(
            name="lane",
            consumer=self.broker.consumer(settings.kafka.group, list(self._topics), drain_timeout_s=_DRAIN_S),
            pipeline=self._pipeline(abandon),
            batcher=Batcher(
                BatchLimits(ingest.batch_events, ingest.max_batch_bytes, ingest.linger_ms / 1000, 2), time.monotonic
            ),
            parse=partial(_parse, self._topics, settings),
            topics=self._topics,
            limits=LaneLimits(ingest.max_in_flight_bytes, ingest.commit_interval_ms / 1000, _DRAIN_S),
            executor=ThreadPoolExecutor(8),
            admission_checks={},
            abandon=abandon,
            clock=time.monotonic,
            wall_ms=_wall_ms,
        )

    def _pipeline(self, abandon: threading.Event) -> Pipeline:
        settings, profile = self._settings, load_profile(self._settings.profile)
        backoff = Backoff(0.01, 1.0, random.Random(0))
        return Pipeline(
            lane="lane",
            pools=self._pools,
            roles={modality: all_roles(profile, settings, [modality]) for modality in settings.ingest.modalities},
            dead_letters=self.letters,
            backoff=backoff,
            breaker=Breaker("store", clock=time.monotonic, backoff=backoff),
            sleep=abandon.wait,
            known_good={},
        )


def _parse(topics: dict[str, Modality], settings: Settings, record: Record) -> Event | Rejected:
    return parse_record(
        record,
        modality=topics[record.position.topic],
        default_tenant=settings.tenant,
        max_inline_bytes=settings.fetch.max_bytes,
    )


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


def _existing(worker: object, _number: int) -> object:
    return worker
