"""The order of a write, and who may write at all, over a store in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from penstock.concurrency import KeyedLocks
from penstock.errors import NotReadyError, UnavailableError
from penstock.records import (
    AssetRow,
    Assignment,
    Collection,
    Entry,
    Event,
    Fenced,
    Outcome,
    Settled,
    WriteResult,
    entry_id,
)
from penstock.store import writer as writer_module
from penstock.store.memory import MemoryStore
from penstock.store.writer import Writer, WriteRequest
from tests.ingest.builders import TOPIC, event
from tests.ingest.doubles import ROLE, SPEC, ScriptedEncoder, ScriptedMedia
from tests.store.lagging import LaggingStore
from tests.store.scans import all_entries

OWNED = Assignment(TOPIC, 0, 5)
_PATIENCE_S = 30.0  # for another thread


class NotedStore(MemoryStore):
    """Notes the writes it is asked for; `failing` names one that fails, before or after it is applied."""

    def __init__(self) -> None:
        super().__init__()
        self.ensure(SPEC)
        self.asked: list[str] = []
        self.failing: tuple[str, str] | None = None

    def catch_up(self) -> None:
        with self._noted("catch up"):
            super().catch_up()

    def upsert(self, collection: Collection, entries: Sequence[Entry]) -> None:
        with self._noted("upsert"):
            super().upsert(collection, entries)

    def delete(self, collection: Collection, ids: Sequence[str]) -> None:
        with self._noted("delete"):
            super().delete(collection, ids)

    def put_asset_rows(self, asset_rows: Sequence[AssetRow]) -> None:
        with self._noted("rows"):
            super().put_asset_rows(asset_rows)

    @contextmanager
    def _noted(self, name: str) -> Iterator[None]:
        self.asked.append(name)
        self._fail(name, "before")
        yield
        self._fail(name, "after")

    def _fail(self, name: str, when: str) -> None:
        if self.failing == (name, when):
            raise UnavailableError(f"the answer to {name} was lost")


@pytest.fixture
def store() -> NotedStore:
    return NotedStore()


def write(writer: Writer, *events: Event, assignment: Assignment = OWNED) -> Sequence[WriteResult]:
    decoded, batch = ScriptedMedia().fetch_and_decode(events, [ROLE])
    return writer.write(WriteRequest("lane", (assignment,)), decoded, ScriptedEncoder().encode(batch))


def begun(store: Any, assignments: Sequence[Assignment] = ()) -> Writer:
    writer = Writer(store, wall_ms=lambda: 5_000)
    writer.start(assignments)
    return writer


def outcomes(results: Sequence[WriteResult]) -> dict[int, Outcome | type[WriteResult]]:
    """The outcome of each offset, or the kind of result that has none."""
    return {
        result.position.offset: result.outcome if isinstance(result, Settled) else type(result) for result in results
    }


def ids(offset: int, parts: int) -> set[str]:
    return {entry_id(event(offset).asset, Collection.TEXT, part) for part in range(parts)}


def stored(store: MemoryStore) -> set[str]:
    return {entry.id for entry in all_entries(store, Collection.TEXT)}


def row_offset(store: MemoryStore) -> int | None:
    rows = store.asset_rows([event(0).asset.id])
    return rows[event(0).asset.id].version.offset if rows else None


def test_entries_come_first_then_surplus_and_the_asset_row_last(store: NotedStore) -> None:
    writer = begun(store)
    write(writer, event(1, data=b"parts:3"))
    store.asked.clear()
    write(writer, event(2, data=b"parts:1"))
    assert store.asked == ["upsert", "delete", "rows"]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("request_", ["upsert", "delete", "rows"])
def test_a_write_that_breaks_off_is_not_in_the_row_and_is_whole_when_repeated(
    store: NotedStore, request_: str, when: str
) -> None:
    writer = begun(store)
    write(writer, event(1, data=b"parts:3"))
    store.failing = (request_, when)
    with pytest.raises(UnavailableError):
        write(writer, event(2, data=b"parts:1"))
    assert row_offset(store) == (2 if (request_, when) == ("rows", "after") else 1)
    store.failing = None
    assert outcomes(write(begun(store), event(2, data=b"parts:1"))) == {2: Outcome.INDEXED}
    assert (stored(store), row_offset(store)) == (ids(2, 1), 2)


def test_leftovers_that_no_row_tells_of_are_removed(store: NotedStore) -> None:
    store.failing = ("rows", "before")
    with pytest.raises(UnavailableError):
        write(begun(store), event(1, data=b"parts:3"))
    store.failing = None
    write(begun(store), event(2, data=b"v"))
    assert stored(store) == ids(2, 1)


def test_a_restarted_writer_accepts_nothing_until_it_is_told_who_owns_what(store: NotedStore) -> None:
    writer = Writer(store, wall_ms=lambda: 5_000)
    with pytest.raises(NotReadyError):
        write(writer, event(1))
    assert store.asked == []
    writer.start([OWNED])
    assert outcomes(write(writer, event(1))) == {1: Outcome.INDEXED}


@pytest.mark.parametrize(
    "learn",
    [
        lambda writer: writer.start([Assignment(TOPIC, 0, 6)]),
        lambda writer: write(writer, event(9, "other"), assignment=Assignment(TOPIC, 0, 6)),
        lambda writer: writer.start([Assignment(TOPIC, 0, 6), OWNED]),
    ],
    ids=["told", "seen in a write", "told by a lane that does not know yet"],
)
def test_an_older_assignment_than_the_newest_known_is_fenced(
    store: NotedStore, learn: Callable[[Writer], object]
) -> None:
    writer = begun(store)
    learn(writer)
    assert outcomes(write(writer, event(1))) == {1: Fenced}
    assert row_offset(store) is None


def lagging(store: MemoryStore) -> LaggingStore:
    return LaggingStore(store, store, [Collection.TEXT])


def test_what_another_plane_wrote_is_seen_once_its_partition_is_ours(store: NotedStore) -> None:
    ours, theirs = begun(lagging(store)), begun(lagging(store))
    write(ours, event(1, "other"))
    write(theirs, event(2, data=b"parts:3"))
    moved = Assignment(TOPIC, 0, OWNED.generation + 1)
    assert outcomes(write(ours, event(1), assignment=moved)) == {1: Outcome.SUPERSEDED}
    assert outcomes(write(ours, event(3, data=b"parts:1"), assignment=moved)) == {3: Outcome.INDEXED}
    assert stored(store) == ids(3, 1) | {entry_id(event(1, "other").asset, Collection.TEXT, 0)}


def test_what_its_predecessor_wrote_is_seen_by_a_restarted_writer(store: NotedStore) -> None:
    write(begun(lagging(store)), event(2, data=b"parts:3"))
    successor = begun(lagging(store), [OWNED])
    assert outcomes(write(successor, event(1))) == {1: Outcome.SUPERSEDED}


def test_a_writer_has_not_begun_if_the_store_cannot_say_how_far_it_is(store: NotedStore) -> None:
    store.failing = ("catch up", "before")
    writer = Writer(store, wall_ms=lambda: 5_000)
    with pytest.raises(UnavailableError):
        writer.start([OWNED])
    assert not writer.is_started()


def test_an_assignment_is_no_news_only_once_the_store_has_caught_up(store: NotedStore) -> None:
    writer = begun(store)
    store.failing = ("catch up", "before")
    with pytest.raises(UnavailableError):
        write(writer, event(1))
    store.failing = None
    store.asked.clear()
    write(writer, event(1))
    write(writer, event(2))
    assert store.asked == ["catch up", "upsert", "rows", "upsert", "rows"]


def test_what_a_dead_writer_left_late_is_removed_of_a_rejected_event(store: NotedStore) -> None:
    writer = begun(lagging(store), [OWNED])
    store.failing = ("rows", "before")
    with pytest.raises(UnavailableError):
        write(begun(store), event(1, data=b"parts:3"))
    store.failing = None
    writer.retract(WriteRequest("lane", (OWNED,)), [event(1)])
    assert stored(store) == set()


def test_each_writer_takes_the_assets_of_its_shard_and_tells_of_no_other(store: NotedStore) -> None:
    events = [event(number, f"k{number}") for number in range(20)]
    told = []
    for shard in range(2):
        writer = Writer(store, wall_ms=lambda: 5_000, shard=shard, shards=2)
        writer.start([])
        told.append(outcomes(write(writer, *events, event(99, "bad", data=b"bad"))))
    assert told[0].keys() & told[1].keys() == set()
    assert len(told[0]) + len(told[1]) == 21
    assert (told[0][99], store.count_assets()) == (Outcome.DEAD_LETTERED, 20)


def torn(store: NotedStore, offset: int, *, assignment: Assignment = OWNED) -> Writer:
    """A write that broke off before its asset row."""
    writer = begun(store)
    store.failing = ("rows", "before")
    with pytest.raises(UnavailableError):
        write(writer, event(offset, data=b"parts:2"), assignment=assignment)
    store.failing = None
    return writer


def test_what_a_broken_write_left_of_a_rejected_event_is_removed(store: NotedStore) -> None:
    torn(store, 1).retract(WriteRequest("lane", (OWNED,)), [event(1)])
    assert (stored(store), row_offset(store)) == (set(), None)


def test_a_rejected_event_leaves_nothing_of_itself_in_a_deleted_asset(store: NotedStore) -> None:
    write(begun(store), event(1, data=None))
    torn(store, 2).retract(WriteRequest("lane", (OWNED,)), [event(2)])
    assert (stored(store), row_offset(store)) == (set(), 1)


def test_an_older_version_is_not_removed_with_the_rejected_one(store: NotedStore) -> None:
    write(begun(store), event(1, data=b"v"))
    torn(store, 2).retract(WriteRequest("lane", (OWNED,)), [event(2)])
    assert (ids(1, 1) <= stored(store), row_offset(store)) == (True, 1)


def test_a_lane_that_lost_its_partition_removes_nothing(store: NotedStore) -> None:
    writer = torn(store, 1, assignment=Assignment(TOPIC, 0, 6))
    writer.retract(WriteRequest("late", (OWNED,)), [event(1)])
    assert stored(store) == ids(1, 2)


# ---- several threads ----


class HeldStore(NotedStore):
    """Writes no asset row of an event at `held` before it is let go."""

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
    """Says when somebody waits."""

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


def test_an_asset_waits_for_the_write_before_it_and_others_do_not(threads: ThreadPoolExecutor) -> None:
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


def test_entries_wait_for_room_and_their_asset_is_written_after_all(
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


@pytest.mark.parametrize("ask", [Writer.lookup, Writer.retract])
def test_an_asset_is_neither_asked_about_nor_cleaned_up_while_it_is_written(
    threads: ThreadPoolExecutor, ask: Callable[..., object]
) -> None:
    store, claims = HeldStore(held=1), NotedLocks()
    writer = Writer(store, wall_ms=lambda: 5_000, locks=claims)
    writer.start([OWNED])
    first = threads.submit(write, writer, event(1))
    assert store.reached.wait(_PATIENCE_S)
    asked = threads.submit(ask, writer, WriteRequest("lane", (OWNED,)), [event(2)])
    assert claims.waits.wait(_PATIENCE_S)
    store.let_go.set()
    assert outcomes(first.result(_PATIENCE_S)) == {1: Outcome.INDEXED}
    asked.result(_PATIENCE_S)
    assert stored(store) == ids(1, 1)


def test_assets_are_free_again_after_a_write_that_failed(store: NotedStore) -> None:
    writer = begun(store)
    store.failing = ("upsert", "before")
    with pytest.raises(UnavailableError):
        write(writer, event(1))
    store.failing = None
    assert outcomes(write(writer, event(1))) == {1: Outcome.INDEXED}
