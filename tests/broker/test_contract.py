"""Holds the consumer in memory and the real one to the same behaviour."""

from __future__ import annotations

import time
from typing import Any

import pytest

from penstock.broker.base import LostRange, Message, Partition, Producer
from penstock.errors import FencedError
from penstock.records import Record
from tests.broker.harness import DEADLINE_S, PARTITIONS, Rig, until, write, write_everywhere

# --- reading and committing ------------------------------------------------------------------------------------------


def test_a_lone_member_gets_every_partition_before_its_first_record(rig: Rig, lanes: Any, producer: Producer) -> None:
    write_everywhere(producer, rig)
    lane = lanes()
    until(lambda: len(lane.assigned) == PARTITIONS, lane)
    assert {assigned.partition for assigned in lane.assigned} == lane.owned
    assert {(assigned.start, assigned.lost) for assigned in lane.assigned} == {(0, None)}
    assert len({assigned.assignment.generation for assigned in lane.assigned}) == 1
    until(lambda: len(lane.records) == 3 * PARTITIONS, lane)
    for partition in lane.owned:
        assert [record.position.offset for record in lane.of(partition)] == [0, 1, 2]


def test_a_record_is_delivered_as_it_was_written(rig: Rig, lanes: Any, producer: Producer) -> None:
    headers = (("a", b"1"), ("a", b"2"), ("b", b""))
    sent = producer.send(Message(rig.topic, b"key", b"value", headers, timestamp_ms=1_234))
    producer.send(Message(rig.topic, b"key", None))
    lane = lanes()
    until(lambda: len(lane.records) == 2, lane)
    assert lane.records[0] == Record(sent.result(DEADLINE_S), b"key", b"value", headers, 1_234)
    assert lane.records[1].value is None
    assert lane.records[1].position.partition == lane.records[0].position.partition  # one key, one partition


def test_the_next_member_starts_at_the_committed_offset(rig: Rig, lanes: Any, producer: Producer) -> None:
    write(producer, rig, 0, [b"a", b"b", b"c"])
    first = lanes()
    until(lambda: len(first.records) == 3, first)
    first.consumer.commit({Partition(rig.topic, 0): 2}, 5)
    first.consumer.close(5)
    second = lanes()
    until(lambda: bool(second.records), second)
    assert second.values() == [b"c"]
    assert {assigned.start for assigned in second.assigned if assigned.partition == Partition(rig.topic, 0)} == {2}


def test_nothing_is_committed_without_a_call_of_commit(rig: Rig, lanes: Any, producer: Producer) -> None:
    write(producer, rig, 0, [b"a"])
    for _ in range(2):
        lane = lanes()
        until(lambda lane=lane: bool(lane.records), lane)
        assert lane.values() == [b"a"]
        lane.consumer.close(5)


def test_seek_delivers_again(rig: Rig, lanes: Any, producer: Producer) -> None:
    write(producer, rig, 1, [b"a", b"b", b"c"])
    lane = lanes()
    until(lambda: len(lane.records) == 3, lane)
    lane.consumer.seek_to(Partition(rig.topic, 1), 1)
    until(lambda: len(lane.records) == 5, lane)
    assert lane.values() == [b"a", b"b", b"c", b"b", b"c"]


def test_a_paused_partition_delivers_nothing_and_misses_nothing(rig: Rig, lanes: Any, producer: Producer) -> None:
    lane = lanes()
    paused = Partition(rig.topic, 0)
    until(lambda: len(lane.owned) == PARTITIONS, lane)
    lane.consumer.pause([paused, Partition(rig.topic, 99)])
    write_everywhere(producer, rig)
    until(lambda: len(lane.records) == 3 * (PARTITIONS - 1), lane)
    assert lane.of(paused) == []
    lane.consumer.resume([paused])
    until(lambda: len(lane.records) == 3 * PARTITIONS, lane)
    assert [record.position.offset for record in lane.of(paused)] == [0, 1, 2]


# --- rebalancing -----------------------------------------------------------------------------------------------------


def test_a_revocation_is_held_open_until_released(rig: Rig, lanes: Any, producer: Producer) -> None:
    """During that time kept partitions are delivered, revoked ones are not, and both can be committed."""
    first, second = lanes(), lanes()
    until(lambda: len(first.owned) == PARTITIONS, first)
    kept_since = {assigned.partition: assigned.assignment for assigned in first.assigned}
    until(lambda: bool(first.revoking), first, second)
    revoked = set(first.revoking)
    assert len(revoked) == PARTITIONS // 2
    assert first.owned >= revoked

    write_everywhere(producer, rig)
    kept = first.owned - revoked
    until(lambda: len(first.records) == 3 * len(kept), first, second)
    assert not any(first.of(partition) for partition in revoked)
    assert second.owned == set()
    first.consumer.commit(dict.fromkeys(revoked, 1) | dict.fromkeys(kept, 2), 5)

    first.consumer.release(revoked)
    until(lambda: second.owned == revoked, first, second)
    assert {assigned.start for assigned in second.assigned} == {1}
    assert first.owned == kept
    assert {partition: first.consumer.assignments()[partition] for partition in kept} == {
        partition: kept_since[partition] for partition in kept
    }
    assert all(
        assigned.assignment.generation > kept_since[assigned.partition].generation for assigned in second.assigned
    )
    assert first.lost == second.lost == []


def test_pause_survives_a_rebalance(rig: Rig, lanes: Any, producer: Producer) -> None:
    first, second = lanes(), lanes()
    until(lambda: len(first.owned) == PARTITIONS, first)
    first.consumer.pause(list(first.owned))
    until(lambda: bool(first.revoking), first, second)
    first.consumer.release(first.revoking)
    until(lambda: len(second.owned) == PARTITIONS // 2, first, second)
    write_everywhere(producer, rig)
    until(lambda: len(second.records) == 3 * PARTITIONS // 2, first, second)
    assert first.records == []
    first.consumer.resume(list(first.owned))
    until(lambda: len(first.records) == 3 * PARTITIONS // 2, first, second)


def test_a_revocation_not_released_in_time_is_lost(rig: Rig, lanes: Any) -> None:
    first, second = lanes(drain_timeout_s=0.5), lanes()
    until(lambda: len(first.owned) == PARTITIONS, first)
    until(lambda: bool(first.lost), first, second)
    assert set(first.lost) == set(first.revoking)
    with pytest.raises(FencedError):
        first.consumer.commit(dict.fromkeys(first.lost, 1), 5)
    with pytest.raises(FencedError):
        first.consumer.seek_to(first.lost[0], 0)
    until(lambda: second.owned == set(first.lost), first, second)


def test_a_member_that_leaves_frees_its_partitions_immediately(rig: Rig, lanes: Any) -> None:
    first, second = lanes(), lanes()
    until(lambda: len(first.owned) == PARTITIONS, first)
    until(lambda: bool(first.revoking), first, second)
    first.consumer.release(first.revoking)
    until(lambda: len(second.owned) == PARTITIONS // 2, first, second)
    first.consumer.close(5)
    started = time.monotonic()
    until(lambda: len(second.owned) == PARTITIONS, second)
    assert time.monotonic() - started < 2.5  # well before the session of 3 s would have ended
    assert second.revoking == second.lost == []


def test_a_member_that_was_removed_cannot_commit_and_learns_of_it(rig: Rig, lanes: Any) -> None:
    lane = lanes()
    until(lambda: len(lane.owned) == PARTITIONS, lane)
    before = {assigned.partition: assigned.assignment.generation for assigned in lane.assigned}
    rig.evict(lane.consumer)
    with pytest.raises(FencedError):
        lane.consumer.commit(dict.fromkeys(lane.owned, 1), 5)
    until(lambda: len(lane.assigned) == 2 * PARTITIONS, lane)
    assert set(lane.lost) == set(before)
    after = {assigned.partition: assigned.assignment.generation for assigned in lane.assigned[PARTITIONS:]}
    assert all(after[partition] > before[partition] for partition in before)
    assert {assigned.start for assigned in lane.assigned} == {0}
    lane.consumer.commit(dict.fromkeys(lane.owned, 1), 5)


def test_a_member_removed_while_draining_loses_the_held_partitions(rig: Rig, lanes: Any) -> None:
    first, second = lanes(), lanes()
    until(lambda: len(first.owned) == PARTITIONS, first)
    until(lambda: bool(first.revoking), first, second)
    held = set(first.revoking)
    rig.evict(first.consumer)
    with pytest.raises(FencedError):
        first.consumer.commit(dict.fromkeys(held, 1), 5)
    until(lambda: len(first.lost) == PARTITIONS, first, second)
    first.consumer.release(held)  # too late, and no error
    until(lambda: len(second.owned) == PARTITIONS // 2 == len(first.owned), first, second)


# --- retention -------------------------------------------------------------------------------------------------------


def test_offsets_removed_before_they_were_committed_are_reported_on_assignment(
    rig: Rig, lanes: Any, producer: Producer
) -> None:
    partition = Partition(rig.topic, 2)
    write(producer, rig, 2, [b"a", b"b", b"c", b"d"])
    first = lanes()
    until(lambda: len(first.records) == 4, first)
    first.consumer.commit({partition: 1}, 5)
    first.consumer.close(5)
    rig.expire(partition, 3)
    second = lanes()
    until(lambda: bool(second.records), second)
    assert second.values() == [b"d"]
    starts = {assigned.partition: assigned for assigned in second.assigned}
    assert starts[partition].lost == LostRange(partition, 1, 3)
    assert starts[partition].start == 3
    assert all(assigned.lost is None for assigned in second.assigned if assigned.partition != partition)


def test_offsets_removed_under_the_reader_are_reported(rig: Rig, lanes: Any, producer: Producer) -> None:
    partition = Partition(rig.topic, 3)
    lane = lanes()
    until(lambda: len(lane.owned) == PARTITIONS, lane)
    lane.consumer.pause([partition])
    write(producer, rig, 3, [b"a", b"b", b"c", b"d"])
    rig.expire(partition, 2)
    lane.consumer.resume([partition])
    until(lambda: len(lane.records) == 2, lane)
    assert lane.values() == [b"c", b"d"]
    assert lane.lost_ranges == [LostRange(partition, 0, 2)]


# --- truncated logs: no client can truncate one, but a position can be as if one had ---------------------------------


def test_a_log_that_ends_before_the_committed_offset_is_reported_on_assignment(
    rig: Rig, lanes: Any, producer: Producer
) -> None:
    partition = Partition(rig.topic, 1)
    write(producer, rig, 1, [b"a", b"b", b"c"])
    first = lanes()
    until(lambda: len(first.records) == 3, first)
    first.consumer.commit({partition: 10}, 5)
    first.consumer.close(5)
    second = lanes()
    until(lambda: len(second.records) == 3, second)
    starts = {assigned.partition: (assigned.start, assigned.truncated_from) for assigned in second.assigned}
    assert starts == {Partition(rig.topic, number): (0, 10 if number == 1 else None) for number in range(PARTITIONS)}
    second.consumer.commit({partition: 0}, 5)  # the lower one
    second.consumer.close(5)
    third = lanes()
    until(lambda: len(third.records) == 3, third)
    assert {assigned.truncated_from for assigned in third.assigned} == {None}


def test_a_log_that_ends_before_the_position_is_reported_with_its_new_end(
    rig: Rig, lanes: Any, producer: Producer
) -> None:
    partition = Partition(rig.topic, 1)
    write(producer, rig, 1, [b"a", b"b", b"c"])
    lane = lanes()
    until(lambda: len(lane.records) == 3, lane)
    lane.consumer.seek_to(partition, 10)
    until(lambda: bool(lane.truncated), lane)
    ((truncated, offset),) = lane.truncated
    assert truncated == partition
    assert offset <= 3
    write(producer, rig, 1, [b"d"])
    until(lambda: len(lane.records) == 7 - offset, lane)
    assert [record.position.offset for record in lane.records[3:]] == list(range(offset, 4))


# --- unreadable records ----------------------------------------------------------------------------------------------


def test_a_partition_stops_alone_before_a_record_that_cannot_be_read(rig: Rig, lanes: Any, producer: Producer) -> None:
    partition = Partition(rig.topic, 2)
    write(producer, rig, 2, [b"a", b"b"])
    rig.write_unreadable(partition)
    write(producer, rig, 2, [b"d"])
    lane = lanes()
    until(lambda: bool(lane.unreadable), lane)
    write(producer, rig, 3, [b"x"])
    until(lambda: len(lane.records) == 3, lane)
    assert [record.value for record in lane.of(partition)] == [b"a", b"b"]
    assert [(stop.partition, stop.first, stop.end) for stop in lane.unreadable] == [(partition, 2, 3)]
    lane.consumer.commit({partition: 2}, 5)


def test_a_stopped_partition_continues_where_it_is_positioned(rig: Rig, lanes: Any, producer: Producer) -> None:
    partition = Partition(rig.topic, 0)
    rig.write_unreadable(partition)
    write(producer, rig, 0, [b"b"])
    lane = lanes()
    until(lambda: len(lane.unreadable) == 1, lane)
    lane.consumer.pause([partition])
    lane.poll()
    lane.consumer.resume([partition])
    lane.poll()
    assert lane.records == []
    lane.consumer.seek_to(partition, 0)
    until(lambda: len(lane.unreadable) == 2, lane)
    lane.consumer.seek_to(partition, 1)
    until(lambda: bool(lane.records), lane)
    assert lane.values() == [b"b"]


def test_unreadable_records_may_be_deleted_by_an_operator(rig: Rig, lanes: Any, producer: Producer) -> None:
    """The records are lost, and that is reported."""
    partition = Partition(rig.topic, 0)
    rig.write_unreadable(partition)
    write(producer, rig, 0, [b"b"])
    lane = lanes()
    until(lambda: len(lane.unreadable) == 1, lane)
    rig.expire(partition, lane.unreadable[0].end)
    lane.consumer.seek_to(partition, 0)
    until(lambda: bool(lane.records), lane)
    assert lane.values() == [b"b"]
    assert lane.lost_ranges == [LostRange(partition, 0, 1)]
