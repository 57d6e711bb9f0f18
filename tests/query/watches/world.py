"""A query plane with the reference models over a store and a broker in memory, whose watches tests evaluate."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from penstock.broker.change_messages import change_messages
from penstock.broker.memory.broker import MemoryBroker
from penstock.broker.memory.tail import MemoryTail
from penstock.config import Settings
from penstock.encoders.load import load_encoder
from penstock.encoders.profiles import PASSAGE_TEXT, load_profile
from penstock.query.types import SearchRequest
from penstock.query.watches.context import WatchPreparer
from penstock.query.watches.evaluator import WatchEvaluator
from penstock.query.watches.registry import WatchRegistry
from penstock.records import (
    AssetRef,
    Collection,
    EncoderInput,
    Entry,
    Field,
    IndexChange,
    Position,
    Watch,
    bare_entry,
)
from penstock.samples.texts import SampleText, sample_texts
from penstock.serve.app import build_query_plane
from penstock.serve.plane import QueryPlane
from penstock.serve.routes.watches import request_of
from penstock.store.memory import MemoryStore
from tests.store.scans import all_entries

CHANGES, WATCHES, MATCHES = "penstock.changes", "penstock.watches", "penstock.matches"
TOPIC = "media.text"
T = TypeVar("T")


class World:
    """The parts of a query plane that watches need. `index` writes entries and announces them."""

    def __init__(self, folder: Path) -> None:
        settings = Settings(profile="reference", data_dir=folder, store={"consistency": "Strong"})
        self.store = MemoryStore()
        self.plane: QueryPlane = build_query_plane(settings, self.store)
        self.reset()
        self.encoder = load_encoder(PASSAGE_TEXT, load_profile("reference"))
        self.now_ms = 1_000_000
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._offset = 0
        plane = self.plane
        self.preparer = WatchPreparer(
            self.store,
            plane.encoder,
            plane.profile,
            settings.query,
            fusions=plane.pipeline._fusions,
            executor=plane.pipeline.executor,
        )

    def reset(self) -> None:
        """Empties the store and the broker; loading the models takes seconds."""
        self.store.delete(Collection.TEXT, [entry.id for entry in all_entries(self.store, Collection.TEXT)])
        self.broker = MemoryBroker(blocking=False)
        for topic in (CHANGES, WATCHES, MATCHES):
            self.broker.create_topic(topic, 2)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine on the event loop of the plane."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self.plane.close()

    def entries(self, texts: Sequence[SampleText], tenant: str = "default") -> list[Entry]:
        """Returns an entry of each text, as the writer builds it."""
        keys = tuple(text.key for text in texts)
        words = tuple(f"{text.title}\n{text.text}" for text in texts)
        vectors = self.encoder.encode(EncoderInput(PASSAGE_TEXT, keys, texts=words)).vectors
        entries = []
        for text, vector in zip(texts, vectors, strict=True):
            self._offset += 1
            self.now_ms += 1
            entries.append(
                replace(
                    bare_entry(AssetRef(tenant, TOPIC, text.key), Collection.TEXT),
                    title=text.title,
                    text=text.text,
                    indexed_at_ms=self.now_ms,
                    origin=Position(TOPIC, 0, self._offset),
                    vectors={Field.PASSAGE: vector},
                )
            )
        return entries

    def index(
        self, *texts: SampleText, tenant: str = "default", announce: bool = True, acl: tuple[str, ...] = ()
    ) -> list[Entry]:
        entries = [replace(entry, acl=acl) for entry in self.entries(texts, tenant)]
        self.store.upsert(Collection.TEXT, entries)
        if announce:
            self.announce(entries)
        return entries

    def announce(self, entries: Sequence[Entry], *, index_version: int = 0) -> None:
        changes = [
            IndexChange(
                tenant=entry.asset.tenant,
                topic=TOPIC,
                key=entry.asset.key,
                origin=entry.origin,
                deleted=False,
                counts={Collection.TEXT: 1},
                indexed_at_ms=entry.indexed_at_ms,
                timestamp_ms=entry.origin.offset,
                acl=entry.acl,
            )
            for entry in entries
        ]
        for message in change_messages(CHANGES, changes, index_version=index_version):
            self.broker.append(message)

    def watch(self, text: str, *, min_relevance: float = 0.3, tenant: str = "default", **search: Any) -> Watch:
        self.now_ms += 1
        body = {"text": text, "min_relevance": min_relevance, "tenant": tenant, **search}
        id_ = f"{len(self.broker.records(WATCHES)):032x}"
        return Watch(id_, f"watch for {text}", tenant, min_relevance, self.now_ms, body)

    def registry(self, max_watches: int = 10) -> WatchRegistry:
        tail = MemoryTail(self.broker, WATCHES, from_start=True)
        return WatchRegistry(tail, WATCHES, self.broker.producer, max_watches=max_watches, retry_s=0.01)

    def evaluator(
        self,
        registry: WatchRegistry,
        clock: Callable[[], float] = lambda: 0.0,
        *,
        index_version: int | None = None,
    ) -> WatchEvaluator:
        def prepare(watch: Watch) -> Any:
            return asyncio.run_coroutine_threadsafe(self.preparer.prepare(watch, request_of(watch)), self._loop)

        return WatchEvaluator(
            self.broker.consumer("penstock.watches", [CHANGES], drain_timeout_s=1.0),
            registry,
            prepare,
            self.store,
            self.broker.producer(),
            topic=MATCHES,
            calibration=self.plane.pipeline._fusions.calibration,
            index_version=index_version,
            clock=clock,
            wall_ms=lambda: self.now_ms,
        )

    @contextmanager
    def evaluating(self, *watches: Watch, index_version: int | None = None) -> Iterator[WatchEvaluator]:
        """Adds watches, and yields an evaluator that is driven by `evaluate_once`."""
        registry = self.registry()
        registry.start()
        assert registry.wait_until_ready(10)
        for watch in watches:
            registry.add(watch)
        evaluator = self.evaluator(registry, index_version=index_version)
        try:
            yield evaluator
        finally:
            evaluator.close()
            registry.close()

    def search_relevance(self, request: SearchRequest, entry: Entry) -> float | None:
        """Returns the relevance that a search gives the entry now; None if it is no hit."""
        result = self.run(self.plane.pipeline.search(request))
        return next((hit.relevance for hit in result.hits if hit.entry.id == entry.id), None)


def texts(first: int, end: int) -> list[SampleText]:
    return list(sample_texts()[first:end])
