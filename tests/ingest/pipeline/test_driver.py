"""Versions of one asset in a batch, and the outcome of each event."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest

from penstock.errors import Reason, UnavailableError
from penstock.ingest.pipeline.types import StoppedError
from penstock.records import (
    Collection,
    Event,
    Outcome,
    entry_id,
)
from tests.ingest.builders import batch, delivery, event, outcomes
from tests.ingest.doubles import RecordingSink, ScriptedMedia, memory_store, pipeline_on


def test_good_events_are_indexed_under_their_own_ids() -> None:
    store, sink = memory_store(), RecordingSink()
    report = pipeline_on(store, sink).run(batch(delivery(0, "a"), delivery(1, "b", data=b"parts:3")))
    assert outcomes(report) == {0: Outcome.INDEXED, 1: Outcome.INDEXED}
    assert store.count(Collection.TEXT) == 4
    ids = [entry_id(event(1, "b").asset, Collection.TEXT, part) for part in range(3)]
    assert len(store.get(Collection.TEXT, ids)) == 3
    assert sink.letters == []


def test_a_corrupt_event_is_dead_lettered_without_others_of_its_batch() -> None:
    store, sink = memory_store(), RecordingSink()
    report = pipeline_on(store, sink).run(batch(delivery(0, "a", data=b"bad"), delivery(1, "b")))
    assert outcomes(report) == {0: Outcome.DEAD_LETTERED, 1: Outcome.INDEXED}
    assert [letter.reason for letter in sink.letters] == [Reason.CORRUPT]


def test_an_event_that_the_encoder_fails_on_is_rejected_with_all_its_entries() -> None:
    store, sink = memory_store(), RecordingSink()
    report = pipeline_on(store, sink).run(batch(delivery(0, "a", data=b"poison"), delivery(1, "b")))
    assert outcomes(report) == {0: Outcome.DEAD_LETTERED, 1: Outcome.INDEXED}
    assert sink.letters[0].reason is Reason.ENCODER_FAILED
    assert store.count(Collection.TEXT) == 1


def test_the_newer_of_two_versions_in_a_batch_is_indexed_and_the_older_superseded() -> None:
    store, sink = memory_store(), RecordingSink()
    report = pipeline_on(store, sink).run(batch(delivery(0, "a", data=b"old"), delivery(1, "a", data=b"new")))
    assert outcomes(report) == {0: Outcome.SUPERSEDED, 1: Outcome.INDEXED}
    assert store.get(Collection.TEXT, [entry_id(event(0, "a").asset, Collection.TEXT, 0)])[0].text == "new"


def test_the_older_of_two_versions_in_a_batch_is_indexed_if_the_newer_is_corrupt() -> None:
    store, sink = memory_store(), RecordingSink()
    report = pipeline_on(store, sink).run(batch(delivery(0, "a", data=b"old"), delivery(1, "a", data=b"bad")))
    assert outcomes(report) == {0: Outcome.INDEXED, 1: Outcome.DEAD_LETTERED}
    assert [letter.position.offset for letter in sink.letters] == [1]


def test_older_versions_are_settled_only_after_the_newer_one_is() -> None:
    """The newer one may still be rejected while it is under way."""

    class Down(ScriptedMedia):
        def fetch_and_decode(self, events: Sequence[Event], roles: Sequence[str]) -> Any:
            raise UnavailableError("down")

    store, sink, stop = memory_store(), RecordingSink(), threading.Event()
    texts = [b"old", b"older than bad", b"bad"]
    versions = batch(*(delivery(offset, "a", data=text) for offset, text in enumerate(texts)))
    stop.set()
    with pytest.raises(StoppedError):
        pipeline_on(store, sink, media=Down(), stop=stop).run(versions)
    assert (store.count_assets(), sink.letters) == (0, [])
    report = pipeline_on(store, sink).run(versions)
    assert [settlement.delivery.record.position.offset for settlement in report.settlements] == [2, 1, 0]
    assert outcomes(report) == {2: Outcome.DEAD_LETTERED, 1: Outcome.INDEXED, 0: Outcome.SUPERSEDED}


def test_a_shorter_version_leaves_no_surplus_entries() -> None:
    store, sink = memory_store(), RecordingSink()
    pipeline = pipeline_on(store, sink)
    pipeline.run(batch(delivery(0, "a", data=b"parts:5")))
    pipeline.run(batch(delivery(1, "a", data=b"parts:2")))
    assert store.count(Collection.TEXT) == 2


def test_a_tombstone_removes_the_entries_and_leaves_the_asset_row() -> None:
    store, sink = memory_store(), RecordingSink()
    pipeline = pipeline_on(store, sink)
    pipeline.run(batch(delivery(0, "a", data=b"parts:5")))
    report = pipeline.run(batch(delivery(1, "a", data=None)))
    assert outcomes(report) == {1: Outcome.DELETED}
    assert store.count(Collection.TEXT) == 0
    row = store.asset_rows([event(0, "a").asset.id])[event(0, "a").asset.id]
    assert (row.outcome, row.origin.offset, dict(row.counts)) == (Outcome.DELETED, 1, {})


def test_an_event_that_was_settled_before_a_crash_is_settled_again_without_a_change() -> None:
    store, sink = memory_store(), RecordingSink()
    pipeline = pipeline_on(store, sink)
    pipeline.run(batch(delivery(0, "a", data=b"parts:3")))
    assert outcomes(pipeline.run(batch(delivery(0, "a", data=b"parts:3")))) == {0: Outcome.INDEXED}
    assert store.count(Collection.TEXT) == 3


def test_an_event_older_than_its_asset_row_is_superseded() -> None:
    store, sink = memory_store(), RecordingSink()
    pipeline = pipeline_on(store, sink)
    pipeline.run(batch(delivery(7, "a", data=b"new")))
    assert outcomes(pipeline.run(batch(delivery(3, "a", data=b"old")))) == {3: Outcome.SUPERSEDED}
    assert store.get(Collection.TEXT, [entry_id(event(0, "a").asset, Collection.TEXT, 0)])[0].text == "new"


def test_an_older_event_does_not_restore_a_deleted_asset() -> None:
    store, sink = memory_store(), RecordingSink()
    pipeline = pipeline_on(store, sink)
    pipeline.run(batch(delivery(7, "a", data=None)))
    assert outcomes(pipeline.run(batch(delivery(3, "a")))) == {3: Outcome.SUPERSEDED}
    assert store.count(Collection.TEXT) == 0


def test_a_fenced_newer_version_does_not_hold_back_an_older_one_of_another_partition() -> None:
    store, sink = memory_store(), RecordingSink()
    pipeline = pipeline_on(store, sink)
    pipeline.run(batch(delivery(0, "other", partition=1, generation=5)))
    older, newer = delivery(4, "a", partition=0, data=b"old"), delivery(9, "a", partition=1, generation=4, data=b"new")
    report = pipeline.run(batch(older, newer))
    assert outcomes(report) == {4: Outcome.INDEXED, 9: None}


def test_a_lane_that_lost_its_partition_cannot_write() -> None:
    store, sink = memory_store(), RecordingSink()
    pipeline = pipeline_on(store, sink)
    pipeline.run(batch(delivery(5, "a", generation=4, data=b"new owner")))
    report = pipeline.run(batch(delivery(6, "b", generation=3, data=b"late"), delivery(7, "c", generation=3)))
    assert outcomes(report) == {6: None, 7: None}
    assert store.count(Collection.TEXT) == 1


def test_the_time_of_concurrent_writes_does_not_limit_the_size_of_batches() -> None:
    """A store that takes one write at a time is busy for all of it, so that its time counts."""
    store = memory_store()
    for concurrent_writes, slowest in ((4, "decode"), (1, "write")):
        report = pipeline_on(store, RecordingSink(), concurrent_writes=concurrent_writes).run(batch(delivery(0)))
        report.step_s |= {"decode": 0.2, "encode": 0.1, "write": 30.0, "settle": 60.0}
        assert report.slowest_s == report.step_s[slowest]


def test_the_same_key_of_two_tenants_is_two_assets() -> None:
    left, right = event(0, "a", tenant="one"), event(1, "a", tenant="other")
    assert left.asset.id != right.asset.id
