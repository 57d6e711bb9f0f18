"""Starts what a replica does for watches: it knows all of them, and evaluates its share of the changes."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeAlias

from penstock.broker.consumer import LaneConsumer
from penstock.broker.producer import MessageProducer
from penstock.broker.tail import KafkaTail
from penstock.broker.topics import ensure_watch_topics
from penstock.config import KafkaSettings, Settings
from penstock.errors import PenstockError
from penstock.media.fetch_rules import FetchRules
from penstock.query.fusion.calibration import Calibration
from penstock.query.types import SearchRequest
from penstock.query.watches.context import WatchContext, WatchPreparer
from penstock.query.watches.evaluator import WatchEvaluator
from penstock.query.watches.registry import WatchRegistry
from penstock.records import Watch
from penstock.serve.use_cases.watches import WatchService
from penstock.store.base import Store

logger = logging.getLogger(__name__)

_RETRY_S = 5.0
# A batch of changes is evaluated in less time. The group removes a member that has not answered by then.
_DRAIN_TIMEOUT_S = 10.0
# The group that feeds a version of a re-index is named so. A new group would evaluate all changes of the feed again.
_VERSION_OF_GROUP = re.compile(r"\.v\d+$")
# A real Milvus shows a write to searches of consistency Bounded after some 0.2 s.
LAGGING_READS_S = 1.0


RequestOf: TypeAlias = Callable[[Watch], SearchRequest]


class WatchWorker:
    """Owns the registry of a replica and its evaluator, whose topics it creates once a broker answers.

    Args:
        settings: all settings.
        store: of the query plane.
        preparer: of its event loop.
        calibration: valid for the index.
        request_of: returns the request of a watch; raises QueryError if this version does not take its search.
        index_version: that the store searches.
        settle_s: see `WatchEvaluator`.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        preparer: WatchPreparer,
        calibration: Calibration | None,
        *,
        request_of: RequestOf,
        index_version: int,
        settle_s: float,
    ) -> None:
        kafka = settings.kafka
        self._settings = settings
        self._store = store
        self._preparer = preparer
        self._calibration = calibration
        self._request_of = request_of
        self._index_version = index_version
        self._settle_s = settle_s
        self.registry = WatchRegistry(
            KafkaTail(kafka, kafka.watches_topic, from_start=True),
            kafka.watches_topic,
            lambda: MessageProducer(kafka),
            max_watches=settings.query.max_watches,
        )
        self._evaluator: WatchEvaluator | None = None
        self._evaluates = True
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._open, name="watch-worker", daemon=True)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Starts the threads. `loop` is the event loop of the pipeline."""
        self._loop = loop
        self._thread.start()

    def evaluate(self, active: bool) -> None:
        """Starts or stops to evaluate watches; from the start on they are evaluated. Stopping takes seconds."""
        with self._lock:
            self._evaluates = active
            if not active:
                self._close_evaluator()
        if active:
            self._adapt()

    def close(self) -> None:
        """Ends threads and connections. Idempotent."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        with self._lock:
            self._close_evaluator()
        self.registry.close()

    def _open(self) -> None:
        """Creates the topics, reads the watches, and evaluates them; tries again until a broker lets it."""
        kafka, logged = self._settings.kafka, False
        while not self._stop.is_set():
            try:
                ensure_watch_topics(kafka)
                break
            except PenstockError as exc:
                if not logged:
                    logger.warning("watches cannot be kept or evaluated: %s", exc)
                logged = True
                self._stop.wait(_RETRY_S)
        else:
            return
        self.registry.start()
        self._ready.set()
        while not self._stop.is_set():
            self._adapt()
            self._stop.wait(_RETRY_S)

    def _adapt(self) -> None:
        """Starts to evaluate if that is wanted and possible; the thread tries again."""
        with self._lock:
            evaluates = self._evaluates and self._ready.is_set() and not self._stop.is_set()
            if evaluates and self._evaluator is None:
                try:
                    self._start_evaluator()
                except PenstockError as exc:
                    logger.warning("watches cannot be evaluated, trying again: %s", exc)

    def _start_evaluator(self) -> None:
        kafka = self._settings.kafka
        producer = MessageProducer(kafka)
        self._evaluator = WatchEvaluator(
            LaneConsumer(_own_group(kafka), [kafka.changes_topic], drain_timeout_s=_DRAIN_TIMEOUT_S),
            self.registry,
            self._prepare,
            self._store,
            producer,
            topic=kafka.matches_topic,
            calibration=self._calibration,
            shows=FetchRules(self._settings.fetch).shows,
            index_version=self._index_version,
            settle_s=self._settle_s,
        )
        self._evaluator.start()

    def _close_evaluator(self) -> None:
        if self._evaluator is not None:
            self._evaluator.close()
        self._evaluator = None

    def _prepare(self, watch: Watch) -> Future[WatchContext]:
        return asyncio.run_coroutine_threadsafe(self._prepare_on_loop(watch), self._loop)

    async def _prepare_on_loop(self, watch: Watch) -> WatchContext:
        return await self._preparer.prepare(watch, self._request_of(watch))


def start_watches(
    settings: Settings,
    store: Store,
    preparer: WatchPreparer,
    calibration: Calibration | None,
    request_of: RequestOf,
) -> WatchWorker | None:
    """Returns what keeps and evaluates watches; None where there is no Kafka, no feed or no topic of watches."""
    kafka = settings.kafka
    if kafka.bootstrap_servers is None or not kafka.changes_topic or not kafka.watches_topic:
        return None
    immediately = settings.store.consistency == "Strong" or not store.capabilities.concurrent_writes
    settle_s = 0.0 if immediately else LAGGING_READS_S
    return WatchWorker(
        settings,
        store,
        preparer,
        calibration,
        request_of=request_of,
        index_version=settings.store.version,
        settle_s=settle_s,
    )


def watch_service(settings: Settings, preparer: WatchPreparer, worker: WatchWorker | None) -> WatchService:
    """Returns the use case of watches."""
    return WatchService(
        None if worker is None else worker.registry,
        preparer,
        matches_topic=settings.kafka.matches_topic,
        wall_ms=lambda: time.time_ns() // 1_000_000,
    )


def _own_group(kafka: KafkaSettings) -> KafkaSettings:
    """Returns the settings with the group of the evaluators, which is the same for all versions of the index."""
    return kafka.model_copy(update={"group": f"{_VERSION_OF_GROUP.sub('', kafka.group)}.watches"})
