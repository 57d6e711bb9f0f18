"""A change goes from the pipeline of ingest over a real broker to the cache of results of the query plane."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from penstock.broker.producer import MessageProducer
from penstock.broker.tail import KafkaTail
from penstock.broker.topics import ensure_changes_topic
from penstock.config import KafkaSettings
from penstock.ingest.changes import ChangePublisher
from penstock.query.changes import ChangeFollower, IndexChanges
from penstock.query.result_cache import ResultCache
from penstock.query.types import Hit, SearchRequest, SearchResult
from penstock.records import Collection
from tests.broker.harness import DEADLINE_S
from tests.ingest.builders import batch, delivery
from tests.ingest.doubles import RecordingSink, memory_store, pipeline_on
from tests.store.scans import all_entries

pytestmark = pytest.mark.services

# A replica has a change 16 ms after its publication at the median, 66 ms at p95 (docs/changes.md).
_BOUND_S = 2.0


def test_a_canary_is_found_through_the_cache_as_soon_as_its_change_arrives(kafka_settings: KafkaSettings) -> None:
    settings = kafka_settings.model_copy(update={"changes_topic": f"{kafka_settings.text_topic}.changes"})
    ensure_changes_topic(settings)
    store, changes = memory_store(), IndexChanges()
    available = threading.Event()
    changes.subscribe(lambda _: available.set())
    follower = ChangeFollower(changes, KafkaTail(settings, settings.changes_topic))
    producer = MessageProducer(settings)
    feed = ChangePublisher(producer, settings.changes_topic, sleep=lambda _: False)

    class Searches:
        async def search(self, _: SearchRequest) -> SearchResult:
            hits = [Hit(entry, 1.0, ()) for entry in all_entries(store, Collection.TEXT)]
            return SearchResult(hits, False, {}, {"total": 1.0})

    cache = ResultCache(Searches(), changes, max_bytes=1_000_000)
    follower.start()
    try:
        assert available.wait(DEADLINE_S)
        for number in range(5):
            asyncio.run(cache.search(SearchRequest(text="canary")))
            before = asyncio.run(cache.search(SearchRequest(text="canary")))
            assert "cached" in before.took_ms
            assert len(before.hits) == number
            pipeline_on(store, RecordingSink(), changes=feed).run(batch(delivery(number, f"canary-{number}")))
            announced_s = time.monotonic()
            while len(asyncio.run(cache.search(SearchRequest(text="canary"))).hits) == number:
                assert time.monotonic() - announced_s < _BOUND_S
    finally:
        follower.close()
        producer.close(DEADLINE_S)
