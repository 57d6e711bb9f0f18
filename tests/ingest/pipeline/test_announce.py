"""A batch announces what it changed in the index, once it is stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from penstock.ingest.delivery import Batch
from penstock.ingest.pipeline.types import BatchReport, StoppedError
from penstock.records import Collection, IndexChange, Outcome
from penstock.store.memory import MemoryStore
from tests.ingest.builders import batch, delivery, outcomes
from tests.ingest.doubles import RecordingSink, memory_store, pipeline_on


class Feed:
    """Records what is published, and what the store holds at that moment."""

    def __init__(self, store: MemoryStore, fail: Callable[[], bool] = lambda: False) -> None:
        self.batches: list[Sequence[IndexChange]] = []
        self.stored: list[int] = []
        self._store = store
        self._fail = fail

    def publish(self, changes: Sequence[IndexChange]) -> None:
        if self._fail():
            raise StoppedError
        self.batches.append(changes)
        self.stored.append(self._store.count_assets())

    def close(self, timeout_s: float) -> None: ...


def run(store: MemoryStore, feed: Feed, work: Batch, sink: RecordingSink | None = None) -> BatchReport:
    return pipeline_on(store, sink or RecordingSink(), changes=feed).run(work)


def test_a_batch_is_announced_once_after_its_write() -> None:
    store = memory_store()
    feed = Feed(store)
    report = run(store, feed, batch(delivery(0, "a"), delivery(1, "b", data=b"parts:3"), delivery(2, "c", data=b"bad")))
    (changes,) = feed.batches
    assert feed.stored == [2]
    assert [(change.key, change.counts, change.deleted) for change in changes] == [
        ("a", {Collection.TEXT: 1}, False),
        ("b", {Collection.TEXT: 3}, False),
    ]
    first = changes[0]
    assert (first.tenant, first.topic, first.origin.offset) == ("default", "media.text", 0)
    assert (first.timestamp_ms, first.indexed_at_ms, first.complete) == (1_000, 5_000, True)
    assert "announce" in report.step_s
    ids = [id_ for change in changes for id_ in change.new_entry_ids()[Collection.TEXT]]
    assert len(store.get(Collection.TEXT, ids)) == 4


def test_a_deletion_is_announced_without_entries() -> None:
    store = memory_store()
    feed = Feed(store)
    run(store, feed, batch(delivery(0, "a")))
    run(store, feed, batch(delivery(1, "a", data=None)))
    assert [(change.deleted, change.counts) for change in feed.batches[1]] == [(True, {})]


def test_only_the_newest_of_two_versions_is_announced() -> None:
    store = memory_store()
    feed = Feed(store)
    run(store, feed, batch(delivery(0, "a", data=b"old"), delivery(1, "a", data=b"new")))
    assert [change.origin.offset for changes in feed.batches for change in changes] == [1]


def test_a_batch_without_changes_announces_nothing() -> None:
    store = memory_store()
    feed = Feed(store)
    run(store, feed, batch(delivery(0, "a", data=b"bad")))
    assert feed.batches == []


def test_a_batch_that_was_written_but_not_announced_is_announced_when_it_is_delivered_again() -> None:
    store = memory_store()
    work = batch(delivery(0, "a", data=b"parts:2"))
    with pytest.raises(StoppedError):
        run(store, Feed(store, fail=lambda: True), work)
    assert store.count_assets() == 1
    feed = Feed(store)
    report = run(store, feed, work)
    assert outcomes(report) == {0: Outcome.INDEXED}
    assert [(change.key, change.counts, change.indexed_at_ms) for change in feed.batches[0]] == [
        ("a", {Collection.TEXT: 2}, 5_000)
    ]


def test_a_superseded_event_is_not_announced() -> None:
    store = memory_store()
    feed = Feed(store)
    run(store, feed, batch(delivery(5, "a")))
    report = run(store, feed, batch(delivery(4, "a")))
    assert outcomes(report) == {4: Outcome.SUPERSEDED}
    assert len(feed.batches) == 1


def test_tenants_are_told_apart() -> None:
    store = memory_store()
    feed = Feed(store)
    own, other = delivery(0, "a"), delivery(1, "a")
    other = replace(other, parsed=replace(other.event, asset=replace(other.event.asset, tenant="globex")))
    run(store, feed, batch(own, other))
    assert sorted(change.tenant for change in feed.batches[0]) == ["default", "globex"]


def test_nothing_is_announced_of_the_refills_of_a_reindex() -> None:
    store = memory_store()
    feed = Feed(store)
    run(store, feed, batch(delivery(0, "a")))
    refill = delivery(7, "a", claim="asset:" + "a" * 64)
    again = replace(refill.event, origin=delivery(0, "a").event.origin, timestamp_ms=1_000, refills=True)
    report = run(store, feed, batch(replace(refill, parsed=again)))
    assert outcomes(report) == {7: Outcome.INDEXED}
    assert len(feed.batches) == 1
