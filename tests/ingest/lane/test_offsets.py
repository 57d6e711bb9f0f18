from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.broker.base import Partition
from penstock.ingest.lane import offsets
from penstock.ingest.lane.offsets import OffsetLedger
from penstock.records import Assignment, Position

FIRST = Assignment("t", 0, 1)
SECOND = Assignment("t", 0, 2)
PARTITION = Partition("t", 0)


def ledger(start: int = 0, *delivered: int) -> OffsetLedger:
    tracked = OffsetLedger()
    tracked.assign(FIRST, start)
    for offset in delivered:
        assert tracked.track(Position("t", 0, offset))
    return tracked


def test_nothing_can_be_committed_before_the_first_record_is_complete() -> None:
    assert ledger(5, 5, 6, 7).offsets_to_commit() == {}


def test_commit_stops_at_the_first_gap() -> None:
    tracked = ledger(0, 0, 1, 2, 3)
    for offset in (0, 1, 3):
        tracked.complete(FIRST, offset)
    assert tracked.offsets_to_commit() == {PARTITION: 2}


def test_contiguity_is_over_delivered_records_so_that_holes_do_not_stop_the_commit() -> None:
    tracked = ledger(10, 10, 17, 40)
    for offset in (10, 17, 40):
        tracked.complete(FIRST, offset)
    assert tracked.offsets_to_commit() == {PARTITION: 41}


def test_after_a_rollback_the_lower_offset_is_committed_until_it_is_acknowledged() -> None:
    tracked = ledger(0, 0, 1, 2, 3)
    for offset in range(4):
        tracked.complete(FIRST, offset)
    tracked.mark_committed(tracked.offsets_to_commit())
    tracked.truncate(PARTITION, 2)
    assert tracked.offsets_to_commit() == tracked.offsets_to_commit() == {PARTITION: 2}
    tracked.mark_committed(tracked.offsets_to_commit())
    assert tracked.offsets_to_commit() == {}


def test_the_lower_offset_is_committed_even_if_no_commit_above_it_is_known() -> None:
    """A commit whose answer was lost may have been taken."""
    tracked = ledger(0, 0, 1, 2)
    tracked.truncate(PARTITION, 0)
    assert tracked.offsets_to_commit() == {PARTITION: 0}


def test_nothing_above_a_rollback_counts_before_the_partition_is_delivered_again() -> None:
    tracked = ledger(0, 0, 1, 2, 3)
    tracked.truncate(PARTITION, 2)
    assert not tracked.complete(FIRST, 3)
    assert not tracked.track(Position("t", 0, 2))
    assert tracked.complete(FIRST, 0)
    assert tracked.offset_to_commit(PARTITION) == 1
    tracked.rewind(PARTITION, 1)
    assert [tracked.track(Position("t", 0, offset)) for offset in (1, 2, 3)] == [True, True, True]
    for offset in (1, 2):
        assert tracked.complete(FIRST, offset)
    assert tracked.offsets_to_commit() == {PARTITION: 3}


def test_a_commit_that_was_acknowledged_is_not_repeated() -> None:
    tracked = ledger(0, 0)
    tracked.complete(FIRST, 0)
    tracked.mark_committed(tracked.offsets_to_commit())
    assert tracked.offsets_to_commit() == {}


def test_a_completion_under_a_former_assignment_is_dropped() -> None:
    tracked = ledger(0, 0, 1)
    tracked.assign(SECOND, 0)
    tracked.track(Position("t", 0, 0))
    assert not tracked.complete(FIRST, 0)
    assert tracked.offsets_to_commit() == {}
    assert tracked.complete(SECOND, 0)
    assert tracked.offsets_to_commit() == {PARTITION: 1}


def test_records_of_a_partition_that_is_not_owned_are_refused() -> None:
    tracked = ledger(0, 0)
    tracked.forget(PARTITION)
    assert not tracked.track(Position("t", 0, 1))
    assert not tracked.complete(FIRST, 0)
    assert tracked.offsets_to_commit() == {}


def test_a_record_delivered_twice_under_one_assignment_is_refused() -> None:
    assert not ledger(0, 0, 1).track(Position("t", 0, 1))


def test_a_second_completion_of_a_record_is_dropped() -> None:
    tracked = ledger(0, 0, 1)
    assert tracked.complete(FIRST, 1)
    assert not tracked.complete(FIRST, 1)


@given(
    offsets=st.lists(st.integers(0, 500), unique=True, min_size=1).map(sorted),
    order=st.randoms(use_true_random=False),
    share=st.floats(0, 1),
)
def test_the_offset_to_commit_never_passes_an_incomplete_record(
    offsets: list[int], order: object, share: float
) -> None:
    tracked = ledger(offsets[0], *offsets)
    done = list(offsets)
    order.shuffle(done)  # type: ignore[attr-defined]
    done = done[: round(len(done) * share)]
    for offset in done:
        tracked.complete(FIRST, offset)
    open_offsets = sorted(set(offsets) - set(done))
    expected = open_offsets[0] if open_offsets else offsets[-1] + 1
    assert tracked.offsets_to_commit().get(PARTITION, offsets[0]) == expected


def test_records_completed_before_a_rewind_are_not_processed_again() -> None:
    tracked = ledger(10, 10, 11, 12, 13)
    for offset in (11, 13):
        tracked.complete(FIRST, offset)
    tracked.rewind(PARTITION, 10)
    assert [offset for offset in range(10, 14) if tracked.track(Position("t", 0, offset))] == [10, 12]
    tracked.complete(FIRST, 10)
    assert tracked.offsets_to_commit() == {PARTITION: 12}
    tracked.complete(FIRST, 12)
    assert tracked.offsets_to_commit() == {PARTITION: 14}


def test_offsets_that_retention_removed_are_committed() -> None:
    tracked = OffsetLedger()
    tracked.assign(FIRST, 50, committed=10)
    assert tracked.offsets_to_commit() == {PARTITION: 50}


def test_partitions_of_a_lane_share_the_limit_of_incomplete_offsets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offsets, "MAX_INCOMPLETE_OFFSETS", 30)
    tracked = OffsetLedger()
    for number in range(3):
        tracked.assign(Assignment("t", number, 1), 0)

    def track(partition: int, start: int, count: int) -> set[int]:
        for offset in range(start, start + count):
            assert tracked.track(Position("t", partition, offset))
        return {full.partition for full in tracked.full_partitions()}

    assert track(0, 0, 20) == set()
    assert track(1, 0, 9) == set()
    assert track(2, 0, 1) == {0}
    assert track(1, 9, 1) == {0, 1}
    assert track(2, 1, 8) == {0, 1}
    assert track(2, 9, 1) == {0, 1, 2}
    for offset in range(11):
        tracked.complete(Assignment("t", 0, 1), offset)
    assert tracked.full_partitions() == set()
