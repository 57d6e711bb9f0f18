"""The audit over doubles: every kind of problem is planted and found, and what is none is none."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import pytest

from penstock.audit import AuditProblem, AuditProgress, ProblemKind
from penstock.audit.report import select_problems
from penstock.broker.base import LostRange, Message, Partition
from penstock.broker.memory.reader import MemoryReader
from penstock.errors import Reason, UnavailableError
from penstock.records import AssetRow, Collection, Entry, Outcome, Position, Record, Rejected, Version, entry_id
from penstock.store.base import EntryKey
from tests.audit.world import DEAD, GROUP, IMAGE, TEXT, World, asset, balance, kinds


@pytest.fixture
def world() -> World:
    return World()


# ---- what balances ----


def test_every_outcome_is_counted_once(world: World) -> None:
    world.produce("a", b"2")
    world.produce("a", b"3")  # supersedes the one before
    world.produce("gone", b"1")
    world.produce("gone", None)
    world.produce("b", b"bad")
    world.produce("empty", b"0")
    world.produce("p", b"1", topic=IMAGE, partition=1)
    world.ingest()
    report = world.audit()
    assert kinds(report) == {}
    assert report.balanced
    assert balance(report) == (7, 3, 1, 2, 1, 0)
    assert (report.assets, report.entries) == (4, 4)
    (text,) = (one for one in report.partitions if one.partition == Partition(TEXT, 0))
    assert (text.produced, text.committed, text.missing) == (6, 6, 0)
    assert text.outcomes == {
        Outcome.INDEXED: 2,
        Outcome.DELETED: 1,
        Outcome.SUPERSEDED: 2,
        Outcome.DEAD_LETTERED: 1,
    }


def test_an_empty_world_balances(world: World) -> None:
    report = world.audit()
    assert report.balanced
    assert balance(report) == (0, 0, 0, 0, 0, 0)


def test_a_record_that_cannot_be_read_has_to_be_a_dead_letter(world: World) -> None:
    bad = world.produce("a", b"x", ce_id=b"1")  # no source, no type
    world.broker.append(Message(TEXT, b"k", b"x" * 1_001, partition=0))
    world.ingest()
    assert balance(world.audit()) == (2, 0, 0, 0, 2, 0)
    assert world.audit().balanced
    lost = World()
    lost.produce("a", b"x", ce_id=b"1")
    lost.commit(Partition(TEXT, 0), 1)
    (problem,) = lost.audit().problems
    assert (problem.kind, problem.position) == (ProblemKind.MISSING, bad)


def test_the_first_outcome_in_order_counts(world: World) -> None:
    """A crash between the dead letter and the commit, and then the row: both are there."""
    position = world.produce("a", b"1")
    (record,) = world.broker.records(TEXT)
    world.reject(record, Rejected(position, "decode", Reason.CORRUPT, ""))
    world.reject(record, Rejected(position, "decode", Reason.CORRUPT, ""))
    world.ingest()
    report = world.audit()
    assert balance(report) == (1, 1, 0, 0, 0, 0)
    assert report.balanced
    assert report.exclusions.repeated_dead_letters == 1
    world.produce("a", b"1")
    world.ingest()
    assert balance(world.audit()) == (2, 1, 0, 1, 0, 0)


def test_across_partitions_the_timestamp_decides(world: World) -> None:
    world.produce("a", b"1", partition=1)
    world.produce("a", b"2", partition=0)
    world.ingest()
    report = world.audit()
    assert balance(report) == (2, 1, 0, 1, 0, 0)
    assert report.balanced


def test_a_replay_is_no_event_of_its_own(world: World) -> None:
    bad = world.produce("k", b"bad")
    world.ingest()
    world.replay(bad, b"2")
    world.ingest()
    report = world.audit()
    assert balance(report) == (1, 1, 0, 0, 0, 0)
    assert report.balanced
    assert report.exclusions.replays == 1
    stale = world.produce("late", b"bad")
    world.produce("late", b"1")
    world.ingest()
    world.replay(stale, b"3", key="late")
    world.ingest()
    report = world.audit()
    assert balance(report) == (3, 2, 0, 1, 0, 0)
    assert report.balanced


def test_an_event_that_only_its_replay_can_be_read_as_is_one_event(world: World) -> None:
    large = world.produce("k", b"x" * 1_001)
    world.ingest()
    assert balance(world.audit()) == (1, 0, 0, 0, 1, 0)
    world.replay(large, b"1")
    world.ingest()
    report = world.audit()
    assert balance(report) == (1, 1, 0, 0, 0, 0)
    assert report.balanced


def test_holes_are_no_events(world: World) -> None:
    world.produce("a", b"1")
    world.broker.leave_gap(Partition(TEXT, 0), 3)
    world.produce("b", b"1")
    world.broker.leave_gap(Partition(TEXT, 0), 1)
    world.ingest()
    report = world.audit()
    assert balance(report) == (2, 2, 0, 0, 0, 0)
    assert report.balanced


def test_a_row_whose_record_compaction_removed_is_no_problem_in_a_compacted_topic(world: World) -> None:
    world.produce("a", b"1")
    gone = world.produce("b", None)
    world.ingest()
    world.broker.compact_away(gone)
    assert kinds(world.audit()) == {"unknown_origin": 1}
    world.compacted = frozenset({TEXT})
    report = world.audit()
    assert report.balanced
    assert report.exclusions.compacted == 1


def test_what_retention_removed_after_it_was_settled_is_counted_apart(world: World) -> None:
    world.produce("a", b"1")
    world.produce("b", b"bad")
    world.produce("c", b"1")
    world.ingest()
    world.broker.expire(Partition(TEXT, 0), 2)
    report = world.audit()
    assert balance(report) == (1, 1, 0, 0, 0, 0)
    assert report.balanced
    assert report.exclusions.before_log == 2


def test_what_retention_removed_before_it_was_committed_is_lost(world: World) -> None:
    for _ in range(3):
        world.produce("a", b"1")
    world.ingest(up_to=Position(TEXT, 0, 1))
    world.broker.expire(Partition(TEXT, 0), 2)
    report = world.audit()
    assert report.lost == (LostRange(Partition(TEXT, 0), 1, 2),)
    assert not report.balanced


def test_other_topics_in_the_same_store_are_left_alone(world: World) -> None:
    world.produce("a", b"1")
    world.ingest()
    other = replace(world.rows()[0], asset=asset("x", "their.topic"))
    world.put(other)
    world.write_entries(replace(world.event(Position(TEXT, 0, 0))), 1)
    theirs = replace(world.entries()[0], id="f" * 32, asset=other.asset, origin=Position("their.topic", 0, 0))
    world.store.upsert(Collection.TEXT, [theirs])
    record = Record(Position("their.topic", 0, 1), b"x", b"", (), 1)
    world.reject(record, Rejected(record.position, "decode", Reason.CORRUPT, ""))
    world.broker.append(Message(DEAD, b"k", b"somebody else's"))
    report = world.audit()
    assert report.balanced
    assert (report.exclusions.other_topics, report.exclusions.foreign_records) == (3, 1)
    assert (report.assets, report.entries) == (1, 1)


# ---- what is in flight ----


def test_events_above_the_committed_offset_are_told_apart(world: World) -> None:
    world.produce("a", b"1")
    cut = world.produce("b", b"1")
    world.produce("c", b"1")
    world.ingest(up_to=cut)
    report = world.audit()
    assert balance(report) == (1, 1, 0, 0, 0, 2)
    assert report.balanced


def test_a_group_that_never_committed_has_everything_in_flight(world: World) -> None:
    world.produce("a", b"1")
    world.ingest(commit=False)
    report = world.audit()
    assert balance(report) == (0, 0, 0, 0, 0, 1)
    assert report.balanced


@pytest.mark.parametrize("before", [1, 3])
@pytest.mark.parametrize("after", [0, 2, 5])
def test_a_newer_version_half_written_is_no_problem(world: World, before: int, after: int) -> None:
    world.produce("a", b"%d" % before)
    world.ingest()
    newer = world.produce("a", b"%d" % after)
    for step in range(after + 2):
        report = world.audit()
        assert kinds(report) == {}, f"after {step} steps"
        event = world.event(newer)
        world.write_entries(event, min(step + 1, after), step) if step < after else world.remove_entries(
            event.asset, beyond=after
        )
    assert world.audit().exclusions.being_written == 1


def test_a_newer_version_in_slices_lies_beside_the_older_and_is_no_problem(world: World) -> None:
    world.produce("a", b"3")
    world.ingest()
    newer = world.event(world.produce("a", b"5"))
    for step in range(4):
        world.write_entries(newer, step + 1, step, space=1)
        report = world.audit()
        assert kinds(report) == {}, f"after {step + 1} parts"
        assert report.exclusions.being_written == 1


@pytest.mark.parametrize("left", [False, True])
def test_entries_in_the_other_space_are_those_that_a_row_of_that_space_tells_of(world: World, left: bool) -> None:
    world.produce("a", b"2")
    world.ingest()
    older = world.entries()
    world.produce("a", b"2")
    world.ingest()
    row = world.row(asset("a"))
    assert row is not None
    newer = world.entries()
    world.store.delete(Collection.TEXT, [one.id for one in newer])
    world.store.upsert(
        Collection.TEXT, [replace(one, id=entry_id(one.asset, one.collection, one.part, 1)) for one in newer]
    )
    world.put(replace(row, slot=1))
    if left:
        world.store.upsert(Collection.TEXT, older[:1])
    assert world.audit().balanced is not left


def test_a_first_version_half_written_is_no_problem(world: World) -> None:
    position = world.produce("a", b"3")
    world.write_entries(world.event(position), 2)
    assert world.audit().balanced


def test_a_replay_half_written_is_no_problem(world: World) -> None:
    bad = world.produce("k", b"bad")
    world.ingest()
    replayed = world.replay(bad, b"2")
    world.write_entries(world.event(replayed), 1)
    report = world.audit()
    assert balance(report) == (1, 0, 0, 0, 1, 1)
    assert report.balanced


class WhileReading(MemoryReader):
    """Lets something happen after the events were read, before dead letters and store are."""

    def __init__(self, world: World, happens: list[object]) -> None:
        super().__init__(world.broker, GROUP)
        self.happens = happens

    def bounds(self, topics: object) -> object:  # type: ignore[override]
        if topics == [DEAD] and self.happens:
            self.happens.pop()()  # type: ignore[operator]
        return super().bounds(topics)  # type: ignore[arg-type]


def test_what_arrives_during_the_audit_is_no_problem(world: World) -> None:
    world.produce("a", b"3")
    world.produce("b", b"2")
    world.ingest()

    def happens() -> None:
        half = world.produce("a", b"1")
        world.produce("b", b"1")
        world.produce("c", b"1")
        world.produce("d", b"bad", partition=1)
        world.ingest(up_to=half, commit=True)
        world.remove_entries(world.event(half).asset, beyond=0)
        for number in (1, 2):
            world.settle(world.broker.records(TEXT)[2 + number])

    report = world.audit(reader=WhileReading(world, [happens]))
    assert kinds(report) == {}
    assert balance(report)[0] == 2


def test_what_was_written_between_the_scan_and_the_second_look_is_judged_by_the_second(world: World) -> None:
    world.produce("a", b"2")
    world.produce("b", b"1")
    world.ingest()
    scan = world.store.scan_entry_keys

    def scan_then_write(collection: Collection, *, batch: int = 1000) -> object:
        found = list(scan(collection, batch=batch))
        if collection is Collection.TEXT and len(world.broker.records(TEXT)) == 2:
            world.produce("a", None)
            world.ingest()
        return iter([[part for page in found for part in page if part.asset_id != asset("a").id]])

    world.store.scan_entry_keys = scan_then_write  # type: ignore[method-assign,assignment]
    report = world.audit()
    assert kinds(report) == {}
    assert balance(report) == (2, 2, 0, 0, 0, 0)


def hide_from_the_scan(world: World, key: str) -> None:
    """The scan misses this asset's entries, so that it is looked at once more."""
    scan = world.store.scan_entry_keys

    def hiding(collection: Collection, *, batch: int = 1000) -> Iterator[Sequence[EntryKey]]:
        for page in scan(collection, batch=batch):
            yield [part for part in page if part.asset_id != asset(key).id]

    world.store.scan_entry_keys = hiding  # type: ignore[method-assign]


def test_what_is_being_written_at_the_second_look_is_no_problem(world: World) -> None:
    world.produce("a", b"3")
    world.ingest()
    hide_from_the_scan(world, "a")
    look_up = world.store.entry_ids

    def write_half(collection: Collection, asset_ids: Sequence[str]) -> Mapping[str, frozenset[str]]:
        world.store.entry_ids = look_up  # type: ignore[method-assign]
        newer = world.event(world.produce("a", b"1"))
        world.write_entries(newer, 1)
        world.remove_entries(newer.asset, beyond=1)
        return look_up(collection, asset_ids)

    world.store.entry_ids = write_half  # type: ignore[method-assign]
    report = world.audit()
    assert kinds(report) == {}
    assert report.exclusions.being_written == 1


def test_an_asset_whose_row_changes_during_the_second_look_is_looked_at_again(world: World) -> None:
    world.produce("a", b"3")
    world.ingest()
    hide_from_the_scan(world, "a")
    get = world.store.get

    def get_then_write(collection: Collection, ids: Sequence[str]) -> Sequence[Entry]:
        found = get(collection, ids)
        world.store.get = get  # type: ignore[method-assign]
        world.produce("a", b"1")
        world.ingest()
        return found

    world.store.get = get_then_write  # type: ignore[method-assign]
    report = world.audit()
    assert kinds(report) == {}
    assert report.exclusions.being_written == 0


# ---- what is wrong ----


def test_a_committed_event_without_outcome_is_missing(world: World) -> None:
    world.produce("a", b"1")
    skipped = world.produce("b", b"1")
    world.ingest(up_to=skipped)
    world.commit(Partition(TEXT, 0), 2)
    report = world.audit()
    assert not report.balanced
    assert balance(report) == (2, 1, 0, 0, 0, 0)
    (problem,) = report.problems
    assert (problem.kind, problem.position, problem.asset_id) == (ProblemKind.MISSING, skipped, asset("b").id)
    assert "media.text[0]@1" in problem.message


def test_a_newer_event_without_outcome_is_missing_though_the_older_has_one(world: World) -> None:
    world.produce("a", b"1")
    newer = world.produce("a", b"2")
    world.ingest(up_to=newer)
    world.commit(Partition(TEXT, 0), 2)
    (problem,) = world.audit().problems
    assert (problem.kind, problem.position) == (ProblemKind.MISSING, newer)


def test_a_random_id_is_misnamed_and_then_doubled(world: World) -> None:
    world.produce("a", b"1")
    world.ingest()
    (right,) = world.entries()
    world.store.delete(Collection.TEXT, [right.id])
    world.store.upsert(Collection.TEXT, [replace(right, id="0123456789abcdef" * 2)])
    assert kinds(world.audit()) == {"misnamed": 1}
    world.store.upsert(Collection.TEXT, [right])
    report = world.audit()
    assert kinds(report) == {"doubled": 1}
    assert "0123456789abcdef" in report.problems[0].message


def test_an_absent_part_makes_the_asset_incomplete(world: World) -> None:
    world.produce("a", b"3")
    world.ingest()
    middle = next(one for one in world.entries() if one.part == 1)
    world.store.delete(Collection.TEXT, [middle.id])
    (problem,) = world.audit().problems
    assert (problem.kind, problem.entry_id, problem.asset_id) == (ProblemKind.INCOMPLETE, middle.id, asset("a").id)
    assert "part 1" in problem.message


def test_entries_of_an_older_version_are_left_over(world: World) -> None:
    older = world.produce("a", b"3")
    world.ingest()
    world.produce("a", b"1")
    world.ingest()
    world.write_entries(world.event(older), 3, first=1)  # the surplus was not deleted
    assert kinds(world.audit()) == {"leftover": 2}


def test_an_older_version_over_a_newer_one_is_left_over(world: World) -> None:
    older = world.produce("a", b"2")
    world.produce("a", b"2")
    world.ingest()
    world.write_entries(world.event(older), 1)
    assert kinds(world.audit()) == {"leftover": 1}


def test_a_part_beyond_the_count_is_left_over(world: World) -> None:
    position = world.produce("a", b"1")
    world.ingest()
    world.write_entries(world.event(position), 2, first=1)
    assert kinds(world.audit()) == {"leftover": 1}


def test_any_entry_of_a_deleted_asset_is_left_over(world: World) -> None:
    older = world.produce("a", b"1")
    newer = world.produce("a", None)
    world.ingest()
    world.write_entries(world.event(older), 1)
    assert kinds(world.audit()) == {"leftover": 1}
    world.write_entries(world.event(newer), 1)
    assert kinds(world.audit()) == {"leftover": 1}


def test_a_settled_write_without_its_row_is_torn(world: World) -> None:
    """The newer version's entries were written, then the event became a dead letter."""
    world.produce("a", b"2")
    world.ingest()
    newer = world.produce("a", b"bad")
    world.write_entries(world.event(newer), 1)
    world.ingest()
    assert kinds(world.audit()) == {"torn": 1}


def test_a_replay_in_flight_accounts_for_nothing_that_it_could_not_write(world: World) -> None:
    """Its event is older than the asset's row, by which it will be superseded."""
    bad = world.produce("k", b"bad")
    world.produce("k", b"1")
    world.ingest()
    world.replay(bad, b"1")
    assert world.audit().balanced
    world.write_entries(world.event(bad), 1)
    assert kinds(world.audit()) == {"leftover": 1}


def test_an_entry_without_asset_row_is_an_orphan(world: World) -> None:
    position = world.produce("a", b"1")
    world.ingest()
    world.drop_row(asset("a"))
    report = world.audit()
    assert kinds(report) == {"missing": 1, "orphan": 1}
    assert {problem.position for problem in report.problems} == {position}


def test_a_row_of_an_event_that_never_was_is_told(world: World) -> None:
    world.produce("a", b"0")
    world.produce("b", b"0")
    world.ingest()
    row = world.row(asset("a"))
    assert row is not None
    world.put(replace(row, asset=asset("nobody")))  # b's and a's positions are taken, by others
    assert kinds(world.audit()) == {"unknown_origin": 1}
    world.put(replace(row, asset=asset("nobody"), version=Version(1, 0, 99)))  # beyond the end
    assert kinds(world.audit()) == {"unknown_origin": 1}
    world.put(replace(row, asset=asset("nobody"), version=Version(1, 7, 0)))  # no such partition
    assert kinds(world.audit()) == {"unknown_origin": 1}


def test_a_dead_letter_of_an_event_that_never_was_is_told(world: World) -> None:
    world.produce("a", b"0")
    world.ingest()
    record = Record(Position(TEXT, 1, 5), b"x", b"", (), 1)
    world.reject(record, Rejected(record.position, "decode", Reason.CORRUPT, ""))
    (problem,) = world.audit().problems
    assert (problem.kind, problem.position) == (ProblemKind.UNKNOWN_ORIGIN, record.position)


def test_a_row_that_contradicts_its_event_is_told(world: World) -> None:
    world.produce("a", b"0")
    world.produce("b", None)
    world.ingest()
    for row in world.rows():
        other = Outcome.INDEXED if row.outcome is Outcome.DELETED else Outcome.DELETED
        world.put(replace(row, outcome=other))
    assert kinds(world.audit()) == {"wrong_outcome": 2}


def test_a_log_made_anew_is_told(world: World) -> None:
    world.produce("a", b"0")
    world.ingest()
    world.commit(Partition(TEXT, 0), 5)
    assert kinds(world.audit()) == {"rolled_back": 1}


def test_all_problems_are_counted_and_the_first_are_told(world: World) -> None:
    for number in range(1_100):
        world.produce(str(number), b"1")
    world.commit(Partition(TEXT, 0), 1_100)
    report = world.audit()
    assert kinds(report) == {"missing": 1_100}
    assert len(report.problems) == 1_000


def test_whoever_listens_is_told_every_problem(world: World) -> None:
    for number in range(1_100):
        world.produce(str(number), b"1")
    world.commit(Partition(TEXT, 0), 1_100)
    told: list[AuditProblem] = []
    report = world.audit(on_problem=told.append)
    assert len(set(told)) == len(told) == 1_100
    assert set(report.problems) < set(told)


# ---- a sample, and the rest ----


def test_a_few_problems_of_one_kind_are_told_beside_many_of_another(world: World) -> None:
    found = [AuditProblem(ProblemKind.MISSING, str(number)) for number in range(50)]
    few = [AuditProblem(ProblemKind.ORPHAN, "orphan"), AuditProblem(ProblemKind.TORN, "torn")]
    chosen = select_problems([*found, *few], 20)
    assert len(chosen) == 20
    assert chosen[-2:] == (few[1], few[0])
    assert select_problems(few, 20) == (few[1], few[0])


def test_a_sample_takes_all_events_of_some_assets(world: World) -> None:
    for number in range(700):
        world.produce(f"k{number}", b"1")
        world.produce(f"k{number}", b"bad" if number % 2 else b"2")
    world.ingest()
    report = world.audit(sample=0.25)
    assert report.balanced
    assert 120 < report.indexed < 230
    assert report.produced == 2 * report.indexed
    assert report.produced == report.indexed + report.superseded + report.dead_lettered
    assert report.assets == report.indexed
    assert report.unseen
    assert world.audit(sample=1.0).produced == world.audit().produced == 1_400


def test_a_sample_finds_what_is_wrong_with_its_assets(world: World) -> None:
    world.produce("a", b"2")
    world.produce("b", b"1")
    world.ingest()
    world.store.delete(Collection.TEXT, [world.entries()[0].id])
    skipped = world.produce("c", b"1")
    world.commit(Partition(TEXT, 0), skipped.offset + 1)
    assert kinds(world.audit(sample=1.0)) == {"missing": 1, "incomplete": 1}


def test_progress_is_told_by_stage(world: World) -> None:
    world.produce("a", b"1")
    world.ingest()
    told: list[AuditProgress] = []
    report = world.audit(told=told)
    last = {progress.stage: (progress.done, progress.total) for progress in told}
    assert list(last)[:4] == ["events", "dead letters", "asset rows", "entries in text"]
    assert (last["events"], last["asset rows"], last["entries in text"]) == ((1, 1), (1, 1), (1, 1))
    assert set(report.seconds) == {"events", "dead letters", "store", "checks", "recheck"}


def test_an_absent_broker_ends_the_audit(world: World) -> None:
    world.broker.available = False
    with pytest.raises(UnavailableError):
        world.audit()


def test_a_full_disk_is_no_imbalance(world: World) -> None:
    class FullDisk(MemoryReader):
        def compacted(self, topics: object) -> frozenset[str]:
            raise sqlite3.OperationalError("database or disk is full")

    with pytest.raises(UnavailableError, match=r"disk is full.*TMPDIR"):
        world.audit(reader=FullDisk(world.broker, GROUP))


def test_a_hot_key_with_many_events_balances(world: World) -> None:
    for _ in range(300):
        world.produce("hot", b"1")
    world.ingest()
    assert balance(world.audit()) == (300, 1, 0, 299, 0, 0)


def test_rows_are_looked_up_by_their_tenant(world: World) -> None:
    world.produce("a", b"1", ce_id=b"1", ce_source=b"s", ce_type=b"t", ce_specversion=b"1.0", ce_tenant=b"other")
    world.produce("a", b"1")
    world.ingest()
    report = world.audit()
    assert balance(report) == (2, 2, 0, 0, 0, 0)
    assert isinstance(world.row(asset("a")), AssetRow)
    assert report.balanced
