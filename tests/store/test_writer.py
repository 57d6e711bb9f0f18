"""Tests the order of a write, what interrupted writes leave, and concurrent writes, over a store in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from penstock.concurrency import KeyedLocks
from penstock.errors import UnavailableError
from penstock.records import (
    AssetRow,
    Assignment,
    Collection,
    Fenced,
    Outcome,
    Settled,
    entry_id,
)
from penstock.store import writer as writer_module
from penstock.store.writer import Writer, WriteRequest
from tests.ingest.builders import TOPIC, event
from tests.store.recording import OWNED, RecordingStore, ids, lagging, outcomes, row_offset, started, stored, write

_PATIENCE_S = 30.0  # for another thread


@pytest.fixture
def store() -> RecordingStore:
    return RecordingStore()


def test_entries_come_first_then_surplus_and_the_asset_row_last(store: RecordingStore) -> None:
    writer = started(store)
    write(writer, event(1, data=b"parts:3"))
    store.calls.clear()
    write(writer, event(2, data=b"parts:1"))
    assert store.calls == ["upsert", "delete", "rows"]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("request_", ["upsert", "delete", "rows"])
def test_an_interrupted_write_is_not_in_the_row_and_is_complete_when_repeated(
    store: RecordingStore, request_: str, when: str
) -> None:
    writer = started(store)
    write(writer, event(1, data=b"parts:3"))
    store.failing = (request_, when)
    with pytest.raises(UnavailableError):
        write(writer, event(2, data=b"parts:1"))
    assert row_offset(store) == (2 if (request_, when) == ("rows", "after") else 1)
    store.failing = None
    assert outcomes(write(started(store), event(2, data=b"parts:1"))) == {2: Outcome.INDEXED}
    assert (stored(store), row_offset(store)) == (ids(2, 1), 2)


def test_entries_that_no_row_accounts_for_are_deleted(store: RecordingStore) -> None:
    store.failing = ("rows", "before")
    with pytest.raises(UnavailableError):
        write(started(store), event(1, data=b"parts:3"))
    store.failing = None
    write(started(store), event(2, data=b"v"))
    assert stored(store) == ids(2, 1)


def test_late_entries_of_a_dead_writer_are_deleted_with_a_rejected_event(store: RecordingStore) -> None:
    writer = started(lagging(store), [OWNED])
    store.failing = ("rows", "before")
    with pytest.raises(UnavailableError):
        write(started(store), event(1, data=b"parts:3"))
    store.failing = None
    writer.retract(WriteRequest("lane", (OWNED,)), [event(1)])
    assert stored(store) == set()


def test_each_writer_writes_and_reports_only_the_assets_of_its_shard(store: RecordingStore) -> None:
    events = [event(number, f"k{number}") for number in range(20)]
    results = []
    for shard in range(2):
        writer = Writer(store, wall_ms=lambda: 5_000, shard=shard, shards=2)
        writer.start([])
        results.append(outcomes(write(writer, *events, event(99, "bad", data=b"bad"))))
    assert results[0].keys() & results[1].keys() == set()
    assert len(results[0]) + len(results[1]) == 21
    assert (results[0][99], store.count_assets()) == (Outcome.DEAD_LETTERED, 20)


def torn(store: RecordingStore, offset: int, *, assignment: Assignment = OWNED) -> Writer:
    """Interrupts a write before its asset row."""
    writer = started(store)
    store.failing = ("rows", "before")
    with pytest.raises(UnavailableError):
        write(writer, event(offset, data=b"parts:2"), assignment=assignment)
    store.failing = None
    return writer


def test_entries_of_an_interrupted_write_are_deleted_with_a_rejected_event(store: RecordingStore) -> None:
    torn(store, 1).retract(WriteRequest("lane", (OWNED,)), [event(1)])
    assert (stored(store), row_offset(store)) == (set(), None)


def test_a_rejected_event_leaves_nothing_of_itself_in_a_deleted_asset(store: RecordingStore) -> None:
    write(started(store), event(1, data=None))
    torn(store, 2).retract(WriteRequest("lane", (OWNED,)), [event(2)])
    assert (stored(store), row_offset(store)) == (set(), 1)


def test_an_older_version_is_not_deleted_with_the_rejected_one(store: RecordingStore) -> None:
    write(started(store), event(1, data=b"v"))
    torn(store, 2).retract(WriteRequest("lane", (OWNED,)), [event(2)])
    assert (ids(1, 1) <= stored(store), row_offset(store)) == (True, 1)


def test_a_lane_that_lost_its_partition_deletes_nothing(store: RecordingStore) -> None:
    writer = torn(store, 1, assignment=Assignment(TOPIC, 0, 6))
    writer.retract(WriteRequest("late", (OWNED,)), [event(1)])
    assert stored(store) == ids(1, 2)


# --- several threads -------------------------------------------------------------------------------------------------


class HeldStore(RecordingStore):
    """Writes no asset row of an event at offset `held` before `let_go` is set."""

    def __init__(self, held: int) -> None:
        super().__init__()
        self._held = held
        self.reached, self.let_go = threading.Event(), threading.Event()

    def put_asset_rows(self, asset_rows: Sequence[AssetRow]) -> None:
        if any(row.version.offset == self._held for row in asset_rows):
            self.reached.set()
            assert self.let_go.wait(_PATIENCE_S)
        super().put_asset_rows(asset_rows)


class NotedLocks(KeyedLocks):
    """Reports when a thread waits."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = threading.Event()

    def _wait(self) -> None:
        self.waits.set()
        super()._wait()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(3) as executor:
        yield executor


def test_a_write_waits_for_an_earlier_one_of_its_asset_and_for_no_other(threads: ThreadPoolExecutor) -> None:
    store, claims = HeldStore(held=1), NotedLocks()
    writer = Writer(store, wall_ms=lambda: 5_000, locks=claims)
    writer.start([OWNED])
    first = threads.submit(write, writer, event(1, data=b"parts:3"))
    assert store.reached.wait(_PATIENCE_S)
    second = threads.submit(write, writer, event(2, data=b"parts:1"))
    assert claims.waits.wait(_PATIENCE_S)
    assert outcomes(write(writer, event(3, "other"))) == {3: Outcome.INDEXED}
    assert row_offset(store) is None
    store.let_go.set()
    assert outcomes(first.result(_PATIENCE_S)) == {1: Outcome.INDEXED}
    assert outcomes(second.result(_PATIENCE_S)) == {2: Outcome.INDEXED}
    assert row_offset(store) == 2
    assert stored(store) == ids(2, 1) | {entry_id(event(3, "other").asset, Collection.TEXT, 0)}


def test_entries_above_the_budget_wait_and_are_written_then(
    threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "MAX_CONCURRENT_ENTRIES", 3)
    store = HeldStore(held=1)
    writer = Writer(store, wall_ms=lambda: 5_000)
    writer.start([OWNED])
    first = threads.submit(write, writer, event(1, data=b"parts:3"))
    assert store.reached.wait(_PATIENCE_S)
    second = threads.submit(write, writer, event(2, "other", data=b"parts:1"))
    with pytest.raises(TimeoutError):
        second.result(0.2)
    assert stored(store) == ids(1, 3)
    store.let_go.set()
    assert outcomes(first.result(_PATIENCE_S)) == {1: Outcome.INDEXED}
    assert outcomes(second.result(_PATIENCE_S)) == {2: Outcome.INDEXED}


def test_a_write_that_waited_while_its_partition_went_to_another_lane_is_fenced(threads: ThreadPoolExecutor) -> None:
    store, claims = HeldStore(held=1), NotedLocks()
    writer = Writer(store, wall_ms=lambda: 5_000, locks=claims)
    writer.start([OWNED])
    first = threads.submit(write, writer, event(1))
    assert store.reached.wait(_PATIENCE_S)
    late = threads.submit(write, writer, event(2))
    assert claims.waits.wait(_PATIENCE_S)
    write(writer, event(3, "other"), assignment=Assignment(TOPIC, 0, OWNED.generation + 1))
    store.let_go.set()
    first.result(_PATIENCE_S)
    assert outcomes(late.result(_PATIENCE_S)) == {2: Fenced}
    assert row_offset(store) == 1


@pytest.mark.parametrize("call", [Writer.lookup, Writer.retract])
def test_an_asset_is_neither_looked_up_nor_retracted_while_it_is_written(
    threads: ThreadPoolExecutor, call: Callable[..., object]
) -> None:
    store, claims = HeldStore(held=1), NotedLocks()
    writer = Writer(store, wall_ms=lambda: 5_000, locks=claims)
    writer.start([OWNED])
    first = threads.submit(write, writer, event(1))
    assert store.reached.wait(_PATIENCE_S)
    called = threads.submit(call, writer, WriteRequest("lane", (OWNED,)), [event(2)])
    assert claims.waits.wait(_PATIENCE_S)
    store.let_go.set()
    assert outcomes(first.result(_PATIENCE_S)) == {1: Outcome.INDEXED}
    called.result(_PATIENCE_S)
    assert stored(store) == ids(1, 1)


def test_assets_are_unlocked_after_a_write_that_failed(store: RecordingStore) -> None:
    writer = started(store)
    store.failing = ("upsert", "before")
    with pytest.raises(UnavailableError):
        write(writer, event(1))
    store.failing = None
    assert outcomes(write(writer, event(1))) == {1: Outcome.INDEXED}


def test_labels_are_those_of_the_newest_event_and_of_a_deleted_asset_those_that_it_had(store: RecordingStore) -> None:
    writer = started(store)

    def row() -> AssetRow:
        (row,) = store.asset_rows([event(1).asset.id]).values()
        return row

    write(writer, replace(event(1, data=b"parts:2"), acl=("group:a",)))
    write(writer, replace(event(2, data=b"parts:2"), acl=("group:b", "group:c")))
    stored_acls = {entry.acl for entry in store.get(Collection.TEXT, sorted(stored(store)))}
    assert (stored_acls, row().acl) == ({("group:b", "group:c")}, ("group:b", "group:c"))
    for offset in (3, 4):
        (settled,) = write(writer, replace(event(offset, data=None), acl=("tenant",)))
        assert isinstance(settled, Settled)
        assert settled.written is not None
        assert (row().outcome, row().acl, settled.written.acl) == (Outcome.DELETED, ("group:b", "group:c"), row().acl)
