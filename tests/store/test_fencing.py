"""Tests which writes the fence admits, and what a writer sees of writes before its own."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from penstock.errors import NotReadyError, UnavailableError
from penstock.records import Assignment, Collection, Fenced, Outcome, entry_id
from penstock.store.lease import LeaseGuard, Renewal
from penstock.store.writer import Writer
from tests.ingest.builders import TOPIC, event
from tests.store.recording import OWNED, RecordingStore, ids, lagging, outcomes, row_offset, started, stored, write


@pytest.fixture
def store() -> RecordingStore:
    return RecordingStore()


def test_a_restarted_writer_accepts_nothing_until_it_knows_the_assignments(store: RecordingStore) -> None:
    writer = Writer(store, wall_ms=lambda: 5_000)
    with pytest.raises(NotReadyError):
        write(writer, event(1))
    assert store.calls == []
    writer.start([OWNED])
    assert outcomes(write(writer, event(1))) == {1: Outcome.INDEXED}


@pytest.mark.parametrize(
    "record",
    [
        lambda writer: writer.start([Assignment(TOPIC, 0, 6)]),
        lambda writer: write(writer, event(9, "other"), assignment=Assignment(TOPIC, 0, 6)),
        lambda writer: writer.start([Assignment(TOPIC, 0, 6), OWNED]),
    ],
    ids=["reported", "seen in a write", "reported by a lane that does not know yet"],
)
def test_an_older_assignment_than_the_newest_known_is_fenced(
    store: RecordingStore, record: Callable[[Writer], object]
) -> None:
    writer = started(store)
    record(writer)
    assert outcomes(write(writer, event(1))) == {1: Fenced}
    assert row_offset(store) is None


def test_writes_of_another_plane_are_visible_once_its_partition_is_ours(store: RecordingStore) -> None:
    ours, theirs = started(lagging(store)), started(lagging(store))
    write(ours, event(1, "other"))
    write(theirs, event(2, data=b"parts:3"))
    moved = Assignment(TOPIC, 0, OWNED.generation + 1)
    assert outcomes(write(ours, event(1), assignment=moved)) == {1: Outcome.SUPERSEDED}
    assert outcomes(write(ours, event(3, data=b"parts:1"), assignment=moved)) == {3: Outcome.INDEXED}
    assert stored(store) == ids(3, 1) | {entry_id(event(1, "other").asset, Collection.TEXT, 0)}


def test_writes_of_its_predecessor_are_visible_to_a_restarted_writer(store: RecordingStore) -> None:
    write(started(lagging(store)), event(2, data=b"parts:3"))
    successor = started(lagging(store), [OWNED])
    assert outcomes(write(successor, event(1))) == {1: Outcome.SUPERSEDED}


def test_a_writer_is_not_started_if_the_store_cannot_catch_up(store: RecordingStore) -> None:
    store.failing = ("catch up", "before")
    writer = Writer(store, wall_ms=lambda: 5_000)
    with pytest.raises(UnavailableError):
        writer.start([OWNED])
    assert not writer.is_started()


def test_a_newer_assignment_is_recorded_only_once_the_store_has_caught_up(store: RecordingStore) -> None:
    writer = started(store)
    store.failing = ("catch up", "before")
    with pytest.raises(UnavailableError):
        write(writer, event(1))
    store.failing = None
    store.calls.clear()
    write(writer, event(1))
    write(writer, event(2))
    assert store.calls == ["catch up", "upsert", "rows", "upsert", "rows"]


class LeasedWriter:
    """A writer under a lease, its store and its clock."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.lease = LeaseGuard(10.0, lambda: self.now_s)
        self.store = RecordingStore()
        self.writer = Writer(self.store, wall_ms=lambda: 5_000, lease=self.lease)
        self.writer.start([OWNED])

    def confirm(self, epoch: int) -> None:
        self.writer.renew_lease(Renewal(epoch, 10 * epoch + 1, 0))
        self.writer.renew_lease(Renewal(epoch, 10 * epoch + 2, 10 * epoch + 1))


def test_a_writer_writes_nothing_after_its_lease_ran_out() -> None:
    leased = LeasedWriter()
    leased.confirm(1)
    assert outcomes(write(leased.writer, event(1), epoch=1)) == {1: Outcome.INDEXED}
    leased.now_s = 8.0
    leased.store.calls.clear()
    with pytest.raises(NotReadyError):
        write(leased.writer, event(2), epoch=1)
    assert leased.store.calls == []
    assert row_offset(leased.store) == 1


def test_a_lease_that_runs_out_within_a_write_stops_its_next_request() -> None:
    leased = LeasedWriter()
    leased.store = RecordingStore(before_write=leased.lease.check)
    leased.writer = Writer(leased.store, wall_ms=lambda: 5_000, lease=leased.lease)
    leased.writer.start([OWNED])
    leased.confirm(1)
    leased.store.after = ("upsert", lambda: setattr(leased, "now_s", 8.0))
    with pytest.raises(NotReadyError):
        write(leased.writer, event(1), epoch=1)
    assert row_offset(leased.store) is None, "the asset row was written after the lease ran out"


def test_a_write_of_another_epoch_is_retried_and_never_written() -> None:
    leased = LeasedWriter()
    leased.confirm(2)
    for epoch in (1, 3):
        with pytest.raises(NotReadyError):
            write(leased.writer, event(1), epoch=epoch)
    assert outcomes(write(leased.writer, event(1), epoch=2)) == {1: Outcome.INDEXED}


def test_the_store_catches_up_before_the_first_write_of_an_epoch() -> None:
    leased = LeasedWriter()
    leased.confirm(1)
    leased.store.calls.clear()
    write(leased.writer, event(1), epoch=1)
    assert leased.store.calls[0] == "catch up"
    leased.store.calls.clear()
    write(leased.writer, event(2), epoch=1)
    assert "catch up" not in leased.store.calls
