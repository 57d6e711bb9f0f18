"""Indexes files in this process, into a store in memory, by the steps of the ingest plane with real models."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from itertools import count

from penstock.broker.base import DeadLetterSink
from penstock.broker.wire import parse_record
from penstock.cli.sources import read_all
from penstock.config import Settings
from penstock.encoders.load import profile_fingerprints
from penstock.encoders.profiles import load_profile
from penstock.errors import UsageError
from penstock.ingest.delivery import Batch, Delivery
from penstock.ingest.executor.pool import LocalPool
from penstock.ingest.executor.proxies import Pools
from penstock.ingest.executor.workers import EncodeWorkerFactory, MediaWorkerFactory, known_good_events
from penstock.ingest.lane.assembly import all_roles
from penstock.ingest.pipeline.driver import Pipeline
from penstock.produce.items import OutgoingMessage, ProduceItem, ProduceOptions
from penstock.records import Assignment, Event, Modality, Position, Record, Rejected
from penstock.retries import Backoff, Breaker
from penstock.store.memory import MemoryStore
from penstock.store.spec import index_spec
from penstock.store.writer import Writer

_BACKOFF = Backoff(0.01, 0.01, random.Random(0))


class MemoryIndex:
    """A store in memory that files can be indexed into.

    Args:
        settings: `profile` and `data_dir` count; the media are stored in its asset store.

    Attributes:
        store: holds the entries.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._profile = load_profile(settings.profile)
        self.store = MemoryStore()
        self.store.ensure(index_spec(self._profile, profile_fingerprints(self._profile), settings.store))
        self._offsets = count()
        self._pipeline = self._make_pipeline()

    def add(self, paths: Iterable[str], *, tenant: str) -> int:
        """Indexes what `penstock produce --tenant TENANT PATHS` sends, and returns the number of assets.

        Raises:
            UsageError: a file cannot be sent, or cannot be indexed.
        """
        return self.add_messages(read_all(paths, self._settings, ProduceOptions(tenant=tenant)))

    def add_messages(self, items: Iterable[ProduceItem]) -> int:
        """Indexes messages, and returns the number of assets.

        Raises:
            UsageError: one was refused, or cannot be indexed.
        """
        by_topic: dict[str, list[Delivery]] = defaultdict(list)
        for item in items:
            if not isinstance(item, OutgoingMessage):
                raise UsageError(f"{item.label}: {item.reason}")
            delivery = self._delivery(item)
            by_topic[delivery.event.asset.topic].append(delivery)
        for topic, deliveries in by_topic.items():
            self._settle(topic, deliveries)
        return sum(map(len, by_topic.values()))

    def _delivery(self, item: OutgoingMessage) -> Delivery:
        """Returns the message as a broker would deliver it."""
        message = item.message
        position = Position(message.topic, 0, next(self._offsets))
        record = Record(position, message.key, message.value, message.headers, time.time_ns() // 1_000_000)
        event = parse_record(
            record,
            modality=self._settings.kafka.topics()[message.topic],
            default_tenant=self._settings.tenant,
            max_inline_bytes=self._settings.fetch.max_bytes,
        )
        if not isinstance(event, Event):
            raise UsageError(f"{item.label}: {event.detail}")
        return Delivery(record, Assignment(message.topic, 0, 1), event)

    def _settle(self, topic: str, deliveries: Sequence[Delivery]) -> None:
        """Runs the steps until each event has an outcome; audio and video take them once for each segment."""
        pending = list(deliveries)
        while pending:
            report = self._pipeline.run(Batch(1, topic, tuple(pending)))
            pending = [unfinished.delivery for unfinished in report.unfinished]

    def _make_pipeline(self) -> Pipeline:
        settings = self._settings
        roles = {modality: all_roles(self._profile, settings, [modality]) for modality in Modality}
        media = LocalPool(MediaWorkerFactory(settings))
        return Pipeline(
            lane="examples",
            pools=Pools.over(
                fetch=media,
                decode=media,
                long_media=media,
                encoders={
                    role: LocalPool(EncodeWorkerFactory(settings, role))
                    for role in dict.fromkeys(role for needed in roles.values() for role in needed)
                },
                writers=LocalPool(lambda _: self._started_writer()),
            ),
            roles=roles,
            dead_letters=_RefusedSink(),
            backoff=_BACKOFF,
            breaker=Breaker("store", clock=time.monotonic, backoff=_BACKOFF),
            sleep=lambda _: False,
            known_good=known_good_events(settings),
        )

    def _started_writer(self) -> Writer:
        writer = Writer(self.store, wall_ms=lambda: time.time_ns() // 1_000_000)
        writer.start(())
        return writer


class _RefusedSink(DeadLetterSink):
    """Raises for the first event that cannot be indexed: every file of an example can be."""

    def send(self, record: Record, rejected: Rejected) -> Future[Position]:
        """See `DeadLetterSink.send`."""
        raise UsageError(f"{(record.key or b'').decode()} cannot be indexed: {rejected.reason}: {rejected.detail}")
