"""Audits doubles: every kind of problem is planted and found, and nothing else is."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import pytest

from penstock.audit import AuditProblem, AuditProgress, ProblemKind
from penstock.audit.report import select_problems
from penstock.broker.base import LostRange, Message, Partition
from penstock.broker.headers import ORIGIN, ORIGIN_TIMESTAMP, format_origin
from penstock.broker.memory.reader import MemoryReader
from penstock.errors import Reason, UnavailableError
from penstock.records import AssetRow, Collection, Entry, Outcome, Position, Record, Rejected, Version, entry_id
from penstock.store.base import EntryKey
from tests.audit.simulated_plane import DEAD, GROUP, IMAGE, TEXT, SimulatedPlane, asset, balance, kinds


@pytest.fixture
def plane() -> SimulatedPlane:
    return SimulatedPlane()


# --- what balances -------------------------------------------------------------------------------------------------


def test_every_outcome_is_counted_once(plane: SimulatedPlane) -> None:
    plane.produce("a", b"2")
    plane.produce("a", b"3")  # supersedes the one before
    plane.produce("gone", b"1")
    plane.produce("gone", None)
    plane.produce("b", b"bad")
    plane.produce("empty", b"0")
    plane.produce("p", b"1", topic=IMAGE, partition=1)
    plane.ingest()
    report = plane.audit()
    assert kinds(report) == {}
    assert report.balanced
    assert balance(report) == (7, 3, 1, 2, 1, 0)
    assert (report.assets, report.entries) == (4, 4)
    (text,) = (balance for balance in report.partitions if balance.partition == Partition(TEXT, 0))
    assert (text.produced, text.committed, text.missing) == (6, 6, 0)
    assert text.outcomes == {
        Outcome.INDEXED: 2,
        Outcome.DELETED: 1,
        Outcome.EXPIRED: 0,
        Outcome.SUPERSEDED: 2,
        Outcome.DEAD_LETTERED: 1,
    }


def test_an_empty_plane_balances(plane: SimulatedPlane) -> None:
    report = plane.audit()
    assert report.balanced
    assert balance(report) == (0, 0, 0, 0, 0, 0)


def test_a_malformed_record_has_to_be_a_dead_letter(plane: SimulatedPlane) -> None:
    bad = plane.produce("a", b"x", ce_id=b"1")  # no source, no type
    plane.broker.append(Message(TEXT, b"k", b"x" * 1_001, partition=0))
    plane.ingest()
    assert balance(plane.audit()) == (2, 0, 0, 0, 2, 0)
    assert plane.audit().balanced
    lost = SimulatedPlane()
    lost.produce("a", b"x", ce_id=b"1")
    lost.commit(Partition(TEXT, 0), 1)
    (problem,) = lost.audit().problems
    assert (problem.kind, problem.position) == (ProblemKind.MISSING, bad)


def test_the_first_outcome_in_order_counts(plane: SimulatedPlane) -> None:
    """A crash between the dead letter and the commit, and then the row: both are there."""
    position = plane.produce("a", b"1")
    (record,) = plane.broker.records(TEXT)
    plane.reject(record, Rejected(position, "decode", Reason.CORRUPT, ""))
    plane.reject(record, Rejected(position, "decode", Reason.CORRUPT, ""))
    plane.ingest()
    report = plane.audit()
    assert balance(report) == (1, 1, 0, 0, 0, 0)
    assert report.balanced
    assert report.exclusions.repeated_dead_letters == 1
    plane.produce("a", b"1")
    plane.ingest()
    assert balance(plane.audit()) == (2, 1, 0, 1, 0, 0)


def test_across_partitions_the_timestamp_decides(plane: SimulatedPlane) -> None:
    plane.produce("a", b"1", partition=1)
    plane.produce("a", b"2", partition=0)
    plane.ingest()
    report = plane.audit()
    assert balance(report) == (2, 1, 0, 1, 0, 0)
    assert report.balanced


def test_a_replay_is_no_event_of_its_own(plane: SimulatedPlane) -> None:
    bad = plane.produce("k", b"bad")
    plane.ingest()
    plane.replay(bad, b"2")
    plane.ingest()
    report = plane.audit()
    assert balance(report) == (1, 1, 0, 0, 0, 0)
    assert report.balanced
    assert report.exclusions.replays == 1
    stale = plane.produce("late", b"bad")
    plane.produce("late", b"1")
    plane.ingest()
    plane.replay(stale, b"3", key="late")
    plane.ingest()
    report = plane.audit()
    assert balance(report) == (3, 2, 0, 1, 0, 0)
    assert report.balanced


def test_a_forged_replay_is_an_event_of_its_own_that_became_a_dead_letter(plane: SimulatedPlane) -> None:
    own = plane.produce("k", b"2")
    forged = {ORIGIN: format_origin(own), ORIGIN_TIMESTAMP: b"4600000000000000000"}
    plane.produce("k", b"3", **forged)
    plane.ingest()
    report = plane.audit()
    assert balance(report) == (2, 1, 0, 0, 1, 0)
    assert report.balanced
    assert report.exclusions.replays == 0


def test_an_event_of_which_only_the_replay_is_valid_is_one_event(plane: SimulatedPlane) -> None:
    large = plane.produce("k", b"x" * 1_001)
    plane.ingest()
    assert balance(plane.audit()) == (1, 0, 0, 0, 1, 0)
    plane.replay(large, b"1")
    plane.ingest()
    report = plane.audit()
    assert balance(report) == (1, 1, 0, 0, 0, 0)
    assert report.balanced


def test_gaps_are_no_events(plane: SimulatedPlane) -> None:
    plane.produce("a", b"1")
    plane.broker.leave_gap(Partition(TEXT, 0), 3)
    plane.produce("b", b"1")
    plane.broker.leave_gap(Partition(TEXT, 0), 1)
    plane.ingest()
    report = plane.audit()
    assert balance(report) == (2, 2, 0, 0, 0, 0)
    assert report.balanced


def test_a_row_whose_record_compaction_removed_is_no_problem_in_a_compacted_topic(plane: SimulatedPlane) -> None:
    plane.produce("a", b"1")
    tombstone = plane.produce("b", None)
    plane.ingest()
    plane.broker.compact_away(tombstone)
    assert kinds(plane.audit()) == {"unknown_origin": 1}
    plane.compacted = frozenset({TEXT})
    report = plane.audit()
    assert report.balanced
    assert report.exclusions.compacted == 1


def test_events_that_retention_removed_after_they_were_settled_are_excluded(plane: SimulatedPlane) -> None:
    plane.produce("a", b"1")
    plane.produce("b", b"bad")
    plane.produce("c", b"1")
    plane.ingest()
    plane.broker.expire(Partition(TEXT, 0), 2)
    report = plane.audit()
    assert balance(report) == (1, 1, 0, 0, 0, 0)
    assert report.balanced
    assert report.exclusions.before_log == 2


def test_events_that_retention_removed_before_they_were_committed_are_lost(plane: SimulatedPlane) -> None:
    for _ in range(3):
        plane.produce("a", b"1")
    plane.ingest(up_to=Position(TEXT, 0, 1))
    plane.broker.expire(Partition(TEXT, 0), 2)
    report = plane.audit()
    assert report.lost == (LostRange(Partition(TEXT, 0), 1, 2),)
    assert not report.balanced


def test_other_topics_in_the_same_store_are_excluded(plane: SimulatedPlane) -> None:
    plane.produce("a", b"1")
    plane.ingest()
    other = replace(plane.rows()[0], asset=asset("x", "their.topic"))
    plane.put(other)
    plane.write_entries(replace(plane.event(Position(TEXT, 0, 0))), 1)
    theirs = replace(plane.entries()[0], id="f" * 32, asset=other.asset, origin=Position("their.topic", 0, 0))
    plane.store.upsert(Collection.TEXT, [theirs])
    record = Record(Position("their.topic", 0, 1), b"x", b"", (), 1)
    plane.reject(record, Rejected(record.position, "decode", Reason.CORRUPT, ""))
    plane.broker.append(Message(DEAD, b"k", b"somebody else's"))
    report = plane.audit()
    assert report.balanced
    assert (report.exclusions.other_topics, report.exclusions.foreign_records) == (3, 1)
    assert (report.assets, report.entries) == (1, 1)


# --- what is in flight ---------------------------------------------------------------------------------------------


def test_events_above_the_committed_offset_are_in_flight(plane: SimulatedPlane) -> None:
    plane.produce("a", b"1")
    cut = plane.produce("b", b"1")
    plane.produce("c", b"1")
    plane.ingest(up_to=cut)
    report = plane.audit()
    assert balance(report) == (1, 1, 0, 0, 0, 2)
    assert report.balanced


def test_a_group_that_never_committed_has_everything_in_flight(plane: SimulatedPlane) -> None:
    plane.produce("a", b"1")
    plane.ingest(commit=False)
    report = plane.audit()
    assert balance(report) == (0, 0, 0, 0, 0, 1)
    assert report.balanced


@pytest.mark.parametrize("before", [1, 3])
@pytest.mark.parametrize("after", [0, 2, 5])
def test_a_newer_version_half_written_is_no_problem(plane: SimulatedPlane, before: int, after: int) -> None:
    plane.produce("a", b"%d" % before)
    plane.ingest()
    newer = plane.produce("a", b"%d" % after)
    for step in range(after + 2):
        report = plane.audit()
        assert kinds(report) == {}, f"after {step} steps"
        event = plane.event(newer)
        plane.write_entries(event, min(step + 1, after), step) if step < after else plane.remove_entries(
            event.asset, beyond=after
        )
    assert plane.audit().exclusions.being_written == 1


def test_a_newer_version_written_in_segments_beside_the_older_is_no_problem(plane: SimulatedPlane) -> None:
    plane.produce("a", b"3")
    plane.ingest()
    newer = plane.event(plane.produce("a", b"5"))
    for step in range(4):
        plane.write_entries(newer, step + 1, step, space=1)
        report = plane.audit()
        assert kinds(report) == {}, f"after {step + 1} parts"
        assert report.exclusions.being_written == 1


@pytest.mark.parametrize("left", [False, True])
def test_entries_in_the_other_slot_fit_a_row_of_that_slot(plane: SimulatedPlane, left: bool) -> None:
    plane.produce("a", b"2")
    plane.ingest()
    older = plane.entries()
    plane.produce("a", b"2")
    plane.ingest()
    row = plane.row(asset("a"))
    assert row is not None
    newer = plane.entries()
    plane.store.delete(Collection.TEXT, [entry.id for entry in newer])
    plane.store.upsert(
        Collection.TEXT, [replace(entry, id=entry_id(entry.asset, entry.collection, entry.part, 1)) for entry in newer]
    )
    plane.put(replace(row, slot=1))
    if left:
        plane.store.upsert(Collection.TEXT, older[:1])
    assert plane.audit().balanced is not left


def test_a_first_version_half_written_is_no_problem(plane: SimulatedPlane) -> None:
    position = plane.produce("a", b"3")
    plane.write_entries(plane.event(position), 2)
    assert plane.audit().balanced


def test_a_replay_half_written_is_no_problem(plane: SimulatedPlane) -> None:
    bad = plane.produce("k", b"bad")
    plane.ingest()
    replayed = plane.replay(bad, b"2")
    plane.write_entries(plane.event(replayed), 1)
    report = plane.audit()
    assert balance(report) == (1, 0, 0, 0, 1, 1)
    assert report.balanced


class WhileReading(MemoryReader):
    """Runs a change after the events were read, before dead letters and store are."""

    def __init__(self, plane: SimulatedPlane, happens: list[object]) -> None:
        super().__init__(plane.broker, GROUP)
        self.happens = happens

    def bounds(self, topics: object) -> object:  # type: ignore[override]
        if topics == [DEAD] and self.happens:
            self.happens.pop()()  # type: ignore[operator]
        return super().bounds(topics)  # type: ignore[arg-type]


def test_events_that_arrive_during_the_audit_are_no_problem(plane: SimulatedPlane) -> None:
    plane.produce("a", b"3")
    plane.produce("b", b"2")
    plane.ingest()

    def happens() -> None:
        half = plane.produce("a", b"1")
        plane.produce("b", b"1")
        plane.produce("c", b"1")
        plane.produce("d", b"bad", partition=1)
        plane.ingest(up_to=half, commit=True)
        plane.remove_entries(plane.event(half).asset, beyond=0)
        for number in (1, 2):
            plane.settle(plane.broker.records(TEXT)[2 + number])

    report = plane.audit(reader=WhileReading(plane, [happens]))
    assert kinds(report) == {}
    assert balance(report)[0] == 2


def test_a_write_between_the_scan_and_the_recheck_is_judged_by_the_recheck(plane: SimulatedPlane) -> None:
    plane.produce("a", b"2")
    plane.produce("b", b"1")
    plane.ingest()
    scan = plane.store.scan_entry_keys

    def scan_then_write(collection: Collection, *, batch: int = 1000) -> object:
        pages = list(scan(collection, batch=batch))
        if collection is Collection.TEXT and len(plane.broker.records(TEXT)) == 2:
            plane.produce("a", None)
            plane.ingest()
        return iter([[key for page in pages for key in page if key.asset_id != asset("a").id]])

    plane.store.scan_entry_keys = scan_then_write  # type: ignore[method-assign,assignment]
    report = plane.audit()
    assert kinds(report) == {}
    assert balance(report) == (2, 2, 0, 0, 0, 0)


def hide_from_the_scan(plane: SimulatedPlane, key: str) -> None:
    """Makes the scan miss this asset's entries, so that it is checked again."""
    scan = plane.store.scan_entry_keys

    def hiding(collection: Collection, *, batch: int = 1000) -> Iterator[Sequence[EntryKey]]:
        for page in scan(collection, batch=batch):
            yield [entry for entry in page if entry.asset_id != asset(key).id]

    plane.store.scan_entry_keys = hiding  # type: ignore[method-assign]


def test_a_write_during_the_recheck_is_no_problem(plane: SimulatedPlane) -> None:
    plane.produce("a", b"3")
    plane.ingest()
    hide_from_the_scan(plane, "a")
    look_up = plane.store.entry_ids

    def write_half(collection: Collection, asset_ids: Sequence[str]) -> Mapping[str, frozenset[str]]:
        plane.store.entry_ids = look_up  # type: ignore[method-assign]
        newer = plane.event(plane.produce("a", b"1"))
        plane.write_entries(newer, 1)
        plane.remove_entries(newer.asset, beyond=1)
        return look_up(collection, asset_ids)

    plane.store.entry_ids = write_half  # type: ignore[method-assign]
    report = plane.audit()
    assert kinds(report) == {}
    assert report.exclusions.being_written == 1


def test_an_asset_whose_row_changes_during_the_recheck_is_looked_up_again(plane: SimulatedPlane) -> None:
    plane.produce("a", b"3")
    plane.ingest()
    hide_from_the_scan(plane, "a")
    get = plane.store.get

    def get_then_write(collection: Collection, ids: Sequence[str]) -> Sequence[Entry]:
        entries = get(collection, ids)
        plane.store.get = get  # type: ignore[method-assign]
        plane.produce("a", b"1")
        plane.ingest()
        return entries

    plane.store.get = get_then_write  # type: ignore[method-assign]
    report = plane.audit()
    assert kinds(report) == {}
    assert report.exclusions.being_written == 0


# --- what is wrong -------------------------------------------------------------------------------------------------


def test_a_committed_event_without_outcome_is_missing(plane: SimulatedPlane) -> None:
    plane.produce("a", b"1")
    skipped = plane.produce("b", b"1")
    plane.ingest(up_to=skipped)
    plane.commit(Partition(TEXT, 0), 2)
    report = plane.audit()
    assert not report.balanced
    assert balance(report) == (2, 1, 0, 0, 0, 0)
    (problem,) = report.problems
    assert (problem.kind, problem.position, problem.asset_id) == (ProblemKind.MISSING, skipped, asset("b").id)
    assert "media.text[0]@1" in problem.message


def test_a_newer_event_without_outcome_is_missing_though_the_older_has_one(plane: SimulatedPlane) -> None:
    plane.produce("a", b"1")
    newer = plane.produce("a", b"2")
    plane.ingest(up_to=newer)
    plane.commit(Partition(TEXT, 0), 2)
    (problem,) = plane.audit().problems
    assert (problem.kind, problem.position) == (ProblemKind.MISSING, newer)


def test_a_random_id_is_misnamed_and_then_doubled(plane: SimulatedPlane) -> None:
    plane.produce("a", b"1")
    plane.ingest()
    (right,) = plane.entries()
    plane.store.delete(Collection.TEXT, [right.id])
    plane.store.upsert(Collection.TEXT, [replace(right, id="0123456789abcdef" * 2)])
    assert kinds(plane.audit()) == {"misnamed": 1}
    plane.store.upsert(Collection.TEXT, [right])
    report = plane.audit()
    assert kinds(report) == {"doubled": 1}
    assert "0123456789abcdef" in report.problems[0].message


def test_an_absent_part_makes_the_asset_incomplete(plane: SimulatedPlane) -> None:
    plane.produce("a", b"3")
    plane.ingest()
    middle = next(entry for entry in plane.entries() if entry.part == 1)
    plane.store.delete(Collection.TEXT, [middle.id])
    (problem,) = plane.audit().problems
    assert (problem.kind, problem.entry_id, problem.asset_id) == (ProblemKind.INCOMPLETE, middle.id, asset("a").id)
    assert "part 1" in problem.message


def test_entries_of_an_older_version_are_left_over(plane: SimulatedPlane) -> None:
    older = plane.produce("a", b"3")
    plane.ingest()
    plane.produce("a", b"1")
    plane.ingest()
    plane.write_entries(plane.event(older), 3, first=1)  # the surplus was not deleted
    assert kinds(plane.audit()) == {"leftover": 2}


def test_an_older_version_over_a_newer_one_is_left_over(plane: SimulatedPlane) -> None:
    older = plane.produce("a", b"2")
    plane.produce("a", b"2")
    plane.ingest()
    plane.write_entries(plane.event(older), 1)
    assert kinds(plane.audit()) == {"leftover": 1}


def test_a_part_beyond_the_count_is_left_over(plane: SimulatedPlane) -> None:
    position = plane.produce("a", b"1")
    plane.ingest()
    plane.write_entries(plane.event(position), 2, first=1)
    assert kinds(plane.audit()) == {"leftover": 1}


def test_any_entry_of_a_deleted_asset_is_left_over(plane: SimulatedPlane) -> None:
    older = plane.produce("a", b"1")
    newer = plane.produce("a", None)
    plane.ingest()
    plane.write_entries(plane.event(older), 1)
    assert kinds(plane.audit()) == {"leftover": 1}
    plane.write_entries(plane.event(newer), 1)
    assert kinds(plane.audit()) == {"leftover": 1}


def test_a_settled_write_without_its_row_is_torn(plane: SimulatedPlane) -> None:
    """The newer version's entries were written, then the event became a dead letter."""
    plane.produce("a", b"2")
    plane.ingest()
    newer = plane.produce("a", b"bad")
    plane.write_entries(plane.event(newer), 1)
    plane.ingest()
    assert kinds(plane.audit()) == {"torn": 1}


def test_a_replay_in_flight_accounts_for_nothing_that_it_could_not_write(plane: SimulatedPlane) -> None:
    """Its event is older than the asset's row, by which it will be superseded."""
    bad = plane.produce("k", b"bad")
    plane.produce("k", b"1")
    plane.ingest()
    plane.replay(bad, b"1")
    assert plane.audit().balanced
    plane.write_entries(plane.event(bad), 1)
    assert kinds(plane.audit()) == {"leftover": 1}


def test_an_entry_without_asset_row_is_an_orphan(plane: SimulatedPlane) -> None:
    position = plane.produce("a", b"1")
    plane.ingest()
    plane.drop_row(asset("a"))
    report = plane.audit()
    assert kinds(report) == {"missing": 1, "orphan": 1}
    assert {problem.position for problem in report.problems} == {position}


def test_a_row_of_an_event_that_never_existed_is_reported(plane: SimulatedPlane) -> None:
    plane.produce("a", b"0")
    plane.produce("b", b"0")
    plane.ingest()
    row = plane.row(asset("a"))
    assert row is not None
    plane.put(replace(row, asset=asset("nobody")))  # b's and a's positions are taken, by others
    assert kinds(plane.audit()) == {"unknown_origin": 1}
    plane.put(replace(row, asset=asset("nobody"), version=Version(1, 0, 99)))  # beyond the end
    assert kinds(plane.audit()) == {"unknown_origin": 1}
    plane.put(replace(row, asset=asset("nobody"), version=Version(1, 7, 0)))  # no such partition
    assert kinds(plane.audit()) == {"unknown_origin": 1}


def test_a_dead_letter_of_an_event_that_never_existed_is_reported(plane: SimulatedPlane) -> None:
    plane.produce("a", b"0")
    plane.ingest()
    record = Record(Position(TEXT, 1, 5), b"x", b"", (), 1)
    plane.reject(record, Rejected(record.position, "decode", Reason.CORRUPT, ""))
    (problem,) = plane.audit().problems
    assert (problem.kind, problem.position) == (ProblemKind.UNKNOWN_ORIGIN, record.position)


def test_a_row_that_contradicts_its_event_is_reported(plane: SimulatedPlane) -> None:
    plane.produce("a", b"0")
    plane.produce("b", None)
    plane.ingest()
    for row in plane.rows():
        other = Outcome.INDEXED if row.outcome is Outcome.DELETED else Outcome.DELETED
        plane.put(replace(row, outcome=other))
    assert kinds(plane.audit()) == {"wrong_outcome": 2}


def test_a_log_that_was_created_again_is_reported(plane: SimulatedPlane) -> None:
    plane.produce("a", b"0")
    plane.ingest()
    plane.commit(Partition(TEXT, 0), 5)
    assert kinds(plane.audit()) == {"rolled_back": 1}


def test_all_problems_are_counted_and_the_first_are_kept(plane: SimulatedPlane) -> None:
    for number in range(1_100):
        plane.produce(str(number), b"1")
    plane.commit(Partition(TEXT, 0), 1_100)
    report = plane.audit()
    assert kinds(report) == {"missing": 1_100}
    assert len(report.problems) == 1_000


def test_every_problem_is_passed_to_the_callback(plane: SimulatedPlane) -> None:
    for number in range(1_100):
        plane.produce(str(number), b"1")
    plane.commit(Partition(TEXT, 0), 1_100)
    received: list[AuditProblem] = []
    report = plane.audit(on_problem=received.append)
    assert len(set(received)) == len(received) == 1_100
    assert set(report.problems) < set(received)


# --- a sample, and the rest ----------------------------------------------------------------------------------------


def test_a_few_problems_of_one_kind_are_kept_beside_many_of_another(plane: SimulatedPlane) -> None:
    many = [AuditProblem(ProblemKind.MISSING, str(number)) for number in range(50)]
    few = [AuditProblem(ProblemKind.ORPHAN, "orphan"), AuditProblem(ProblemKind.TORN, "torn")]
    chosen = select_problems([*many, *few], 20)
    assert len(chosen) == 20
    assert chosen[-2:] == (few[1], few[0])
    assert select_problems(few, 20) == (few[1], few[0])


def test_a_sample_takes_all_events_of_some_assets(plane: SimulatedPlane) -> None:
    for number in range(700):
        plane.produce(f"k{number}", b"1")
        plane.produce(f"k{number}", b"bad" if number % 2 else b"2")
    plane.ingest()
    report = plane.audit(sample=0.25)
    assert report.balanced
    assert 120 < report.indexed < 230
    assert report.produced == 2 * report.indexed
    assert report.produced == report.indexed + report.superseded + report.dead_lettered
    assert report.assets == report.indexed
    assert report.unseen
    assert plane.audit(sample=1.0).produced == plane.audit().produced == 1_400


def test_a_sample_finds_the_problems_of_its_assets(plane: SimulatedPlane) -> None:
    plane.produce("a", b"2")
    plane.produce("b", b"1")
    plane.ingest()
    plane.store.delete(Collection.TEXT, [plane.entries()[0].id])
    skipped = plane.produce("c", b"1")
    plane.commit(Partition(TEXT, 0), skipped.offset + 1)
    assert kinds(plane.audit(sample=1.0)) == {"missing": 1, "incomplete": 1}


def test_progress_is_reported_by_stage(plane: SimulatedPlane) -> None:
    plane.produce("a", b"1")
    plane.ingest()
    reports: list[AuditProgress] = []
    report = plane.audit(progress=reports)
    last = {progress.stage: (progress.done, progress.total) for progress in reports}
    assert list(last)[:4] == ["events", "dead letters", "asset rows", "entries in text"]
    assert (last["events"], last["asset rows"], last["entries in text"]) == ((1, 1), (1, 1), (1, 1))
    assert set(report.seconds) == {"events", "dead letters", "store", "checks", "recheck"}


def test_an_absent_broker_ends_the_audit(plane: SimulatedPlane) -> None:
    plane.broker.available = False
    with pytest.raises(UnavailableError):
        plane.audit()


def test_a_full_disk_is_no_imbalance(plane: SimulatedPlane) -> None:
    class FullDisk(MemoryReader):
        def compacted(self, topics: object) -> frozenset[str]:
            raise sqlite3.OperationalError("database or disk is full")

    with pytest.raises(UnavailableError, match=r"disk is full.*TMPDIR"):
        plane.audit(reader=FullDisk(plane.broker, GROUP))


def test_a_hot_key_with_many_events_balances(plane: SimulatedPlane) -> None:
    for _ in range(300):
        plane.produce("hot", b"1")
    plane.ingest()
    assert balance(plane.audit()) == (300, 1, 0, 299, 0, 0)


def test_rows_are_looked_up_by_their_tenant(plane: SimulatedPlane) -> None:
    plane.produce("a", b"1", ce_id=b"1", ce_source=b"s", ce_type=b"t", ce_specversion=b"1.0", ce_tenant=b"other")
    plane.produce("a", b"1")
    plane.ingest()
    report = plane.audit()
    assert balance(report) == (2, 2, 0, 0, 0, 0)
    assert isinstance(plane.row(asset("a")), AssetRow)
    assert report.balanced
