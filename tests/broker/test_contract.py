"""What consumer, producer and dead letters promise: the real ones and the doubles pass the same tests."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pytest
from kafka import KafkaAdminClient, TopicPartition
from kafka import KafkaProducer as RawProducer

from penstock.broker.base import (
    AssignedPartition,
    Consumer,
    LostRange,
    Message,
    MessageTooLargeError,
    Partition,
    Producer,
    UnreadableRange,
)
from penstock.broker.consumer import LaneConsumer
from penstock.broker.deadletters import DeadLetterWriter, parse_dead_letter
from penstock.broker.memory.broker import MemoryBroker
from penstock.broker.memory.consumer import MemoryConsumer
from penstock.broker.producer import MessageProducer as KafkaProducer
from penstock.config import KafkaSettings
from penstock.errors import FencedError, PermanentError, Reason
from penstock.records import Position, Record, Rejected

DEADLINE_S = 20.0
PARTITIONS = 4
TOO_LARGE = 1_100_000  # above Kafka's default limit of a topic


class Rig(Protocol):
    """A broker with one empty topic of four partitions, and what no client can do to it."""

    topic: str

    def consumer(self, *, drain_timeout_s: float = 10.0) -> Consumer: ...
    def producer(self) -> Producer: ...
    def expire(self, partition: Partition, before: int) -> None: ...
    def write_unreadable(self, partition: Partition) -> None: ...
    def evict(self, consumer: Consumer) -> None: ...


@dataclass
class MemoryRig:
    broker: MemoryBroker
    topic: str = "media.text"

    def consumer(self, *, drain_timeout_s: float = 10.0) -> Consumer:
        return self.broker.consumer("group", [self.topic], drain_timeout_s=drain_timeout_s)

    def producer(self) -> Producer:
        return self.broker.producer()

    def expire(self, partition: Partition, before: int) -> None:
        self.broker.expire(partition, before)

    def write_unreadable(self, partition: Partition) -> None:
        message = Message(self.topic, None, b"?", partition=partition.partition)
        self.broker.corrupt(self.broker.append(message))

    def evict(self, consumer: Consumer) -> None:
        assert isinstance(consumer, MemoryConsumer)
        self.broker.evict(consumer)


@dataclass
class KafkaRig:
    settings: KafkaSettings
    topic: str

    def consumer(self, *, drain_timeout_s: float = 10.0) -> Consumer:
        return LaneConsumer(self.settings, [self.topic], drain_timeout_s=drain_timeout_s)

    def producer(self) -> Producer:
        return KafkaProducer(self.settings, max_request_bytes=2 * TOO_LARGE)

    def expire(self, partition: Partition, before: int) -> None:
        with self._admin() as admin:
            admin.delete_records({TopicPartition(partition.topic, partition.partition): before})

    def write_unreadable(self, partition: Partition) -> None:
        """A header name that is not UTF-8: brokers do not look at it."""
        producer = RawProducer(bootstrap_servers=self.settings.bootstrap_servers)
        headers = [(NotUtf8("name"), b"x")]
        producer.send(partition.topic, b"?", partition=partition.partition, headers=headers).get(DEADLINE_S)
        producer.close()

    def evict(self, consumer: Consumer) -> None:
        """What a session timeout does, without the wait."""
        assert isinstance(consumer, LaneConsumer)
        from kafka.admin import MemberToRemove

        member_id = consumer._membership.client.group_metadata().member_id
        with self._admin() as admin:
            admin.remove_group_members(self.settings.group, [MemberToRemove(member_id=member_id)])

    def _admin(self) -> Any:
        from contextlib import closing

        return closing(KafkaAdminClient(bootstrap_servers=self.settings.bootstrap_servers))


class NotUtf8(str):
    """What kafka-python takes for a header name, and writes as bytes that are none."""

    def encode(self, encoding: str = "", errors: str = "") -> bytes:
        return b"\xff" * len(self)


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.services)])
def rig(request: pytest.FixtureRequest) -> Rig:
    if request.param == "memory":
        broker = MemoryBroker()
        broker.create_topic("media.text", PARTITIONS, max_message_bytes=1_048_588)
        return MemoryRig(broker)
    topic = request.getfixturevalue("text_topic")
    return KafkaRig(request.getfixturevalue("kafka_settings"), topic)


class Lane:
    """A consumer with a memory of what it was told, as a lane has."""

    def __init__(self, consumer: Consumer) -> None:
        self.consumer = consumer
        self.records: list[Record] = []
        self.assigned: list[AssignedPartition] = []
        self.revoking: list[Partition] = []
        self.lost: list[Partition] = []
        self.lost_ranges: list[LostRange] = []
        self.truncated: list[tuple[Partition, int]] = []
        self.unreadable: list[UnreadableRange] = []

    @property
    def owned(self) -> set[Partition]:
        return set(self.consumer.assignments())

    def turn(self) -> None:
        polled = self.consumer.poll(0.1, 100)
        self.records += polled.records
        self.assigned += polled.assigned
        self.revoking += polled.revoking
        self.lost += polled.revoked_without_drain
        self.lost_ranges += polled.lost_ranges
        self.truncated += polled.truncated
        self.unreadable += polled.unreadable

    def values(self) -> list[bytes | None]:
        return [record.value for record in self.records]

    def of(self, partition: Partition) -> list[Record]:
        return [
            found for found in self.records if Partition(found.position.topic, found.position.partition) == partition
        ]


def until(condition: Callable[[], bool], *lanes: Lane) -> None:
    """Lets the lanes poll in turns until it holds."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        for lane in lanes:
            lane.turn()


@pytest.fixture
def lanes(rig: Rig) -> Iterator[Callable[..., Lane]]:
    made: list[Lane] = []

    def make(**arguments: Any) -> Lane:
        made.append(Lane(rig.consumer(**arguments)))
        return made[-1]

    yield make
    for lane in made:
        lane.consumer.close(5)


@pytest.fixture
def producer(rig: Rig) -> Iterator[Producer]:
    producer = rig.producer()
    yield producer
    producer.close(5)


def write(producer: Producer, rig: Rig, partition: int, values: Sequence[bytes]) -> list[Position]:
    sent = [producer.send(Message(rig.topic, None, value, partition=partition)) for value in values]
    return [future.result(DEADLINE_S) for future in sent]


def write_everywhere(producer: Producer, rig: Rig, each: int = 3) -> None:
    for number in range(PARTITIONS):
        write(producer, rig, number, [b"%d-%d" % (number, index) for index in range(each)])


# ---- reading and committing ----


def test_a_lone_member_gets_every_partition_before_its_first_record(rig: Rig, lanes: Any, producer: Producer) -> None:
    write_everywhere(producer, rig)
    lane = lanes()
    until(lambda: len(lane.assigned) == PARTITIONS, lane)
    assert {one.partition for one in lane.assigned} == lane.owned
    assert {(one.start, one.lost) for one in lane.assigned} == {(0, None)}
    assert len({one.assignment.generation for one in lane.assigned}) == 1
    until(lambda: len(lane.records) == 3 * PARTITIONS, lane)
    for partition in lane.owned:
        assert [record.position.offset for record in lane.of(partition)] == [0, 1, 2]


def test_a_record_comes_as_it_was_written(rig: Rig, lanes: Any, producer: Producer) -> None:
    headers = (("a", b"1"), ("a", b"2"), ("b", b""))
    sent = producer.send(Message(rig.topic, b"key", b"value", headers, timestamp_ms=1_234))
    producer.send(Message(rig.topic, b"key", None))
    lane = lanes()
    until(lambda: len(lane.records) == 2, lane)
    assert lane.records[0] == Record(sent.result(DEADLINE_S), b"key", b"value", headers, 1_234)
    assert lane.records[1].value is None
    assert lane.records[1].position.partition == lane.records[0].position.partition  # one key, one partition


def test_the_next_member_goes_on_from_what_was_committed(rig: Rig, lanes: Any, producer: Producer) -> None:
    write(producer, rig, 0, [b"a", b"b", b"c"])
    first = lanes()
    until(lambda: len(first.records) == 3, first)
    first.consumer.commit({Partition(rig.topic, 0): 2}, 5)
    first.consumer.close(5)
    second = lanes()
    until(lambda: bool(second.records), second)
    assert second.values() == [b"c"]
    assert {one.start for one in second.assigned if one.partition == Partition(rig.topic, 0)} == {2}


def test_nothing_is_committed_unless_asked_for(rig: Rig, lanes: Any, producer: Producer) -> None:
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


# ---- rebalancing ----


def test_a_revocation_is_held_open_until_released(rig: Rig, lanes: Any, producer: Producer) -> None:
    """Meanwhile: kept partitions are delivered, revoked ones are not, and both can be committed."""
    first, second = lanes(), lanes()
    until(lambda: len(first.owned) == PARTITIONS, first)
    kept_since = {one.partition: one.assignment for one in first.assigned}
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
    assert {one.start for one in second.assigned} == {1}
    assert first.owned == kept
    assert {partition: first.consumer.assignments()[partition] for partition in kept} == {
        partition: kept_since[partition] for partition in kept
    }
    assert all(one.assignment.generation > kept_since[one.partition].generation for one in second.assigned)
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


def test_a_member_that_leaves_frees_its_partitions_at_once(rig: Rig, lanes: Any) -> None:
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


def test_a_member_that_was_thrown_out_cannot_commit_and_is_told(rig: Rig, lanes: Any) -> None:
    lane = lanes()
    until(lambda: len(lane.owned) == PARTITIONS, lane)
    before = {one.partition: one.assignment.generation for one in lane.assigned}
    rig.evict(lane.consumer)
    with pytest.raises(FencedError):
        lane.consumer.commit(dict.fromkeys(lane.owned, 1), 5)
    until(lambda: len(lane.assigned) == 2 * PARTITIONS, lane)
    assert set(lane.lost) == set(before)
    after = {one.partition: one.assignment.generation for one in lane.assigned[PARTITIONS:]}
    assert all(after[partition] > before[partition] for partition in before)
    assert {one.start for one in lane.assigned} == {0}
    lane.consumer.commit(dict.fromkeys(lane.owned, 1), 5)


def test_a_member_thrown_out_while_draining_loses_what_it_held(rig: Rig, lanes: Any) -> None:
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


# ---- retention ----


def test_offsets_removed_before_they_were_committed_are_told_on_assignment(
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
    told = {one.partition: one for one in second.assigned}
    assert told[partition].lost == LostRange(partition, 1, 3)
    assert told[partition].start == 3
    assert all(one.lost is None for one in second.assigned if one.partition != partition)


def test_offsets_removed_under_the_reader_are_told(rig: Rig, lanes: Any, producer: Producer) -> None:
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


# ---- logs that were cut: no client can roll one back, but one can be where it would be then ----


def test_a_log_that_ends_before_what_was_committed_is_told_on_assignment(
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
    told = {one.partition: (one.start, one.truncated_from) for one in second.assigned}
    assert told == {Partition(rig.topic, number): (0, 10 if number == 1 else None) for number in range(PARTITIONS)}
    second.consumer.commit({partition: 0}, 5)  # the lower one
    second.consumer.close(5)
    third = lanes()
    until(lambda: len(third.records) == 3, third)
    assert {one.truncated_from for one in third.assigned} == {None}


def test_a_log_that_ends_before_the_reader_is_told_with_where_it_goes_on(
    rig: Rig, lanes: Any, producer: Producer
) -> None:
    partition = Partition(rig.topic, 1)
    write(producer, rig, 1, [b"a", b"b", b"c"])
    lane = lanes()
    until(lambda: len(lane.records) == 3, lane)
    lane.consumer.seek_to(partition, 10)
    until(lambda: bool(lane.truncated), lane)
    ((told, offset),) = lane.truncated
    assert told == partition
    assert offset <= 3
    write(producer, rig, 1, [b"d"])
    until(lambda: len(lane.records) == 7 - offset, lane)
    assert [record.position.offset for record in lane.records[3:]] == list(range(offset, 4))


# ---- what cannot be read ----


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
    assert [(one.partition, one.first, one.end) for one in lane.unreadable] == [(partition, 2, 3)]
    lane.consumer.commit({partition: 2}, 5)


def test_a_partition_that_stopped_goes_on_where_it_is_sent(rig: Rig, lanes: Any, producer: Producer) -> None:
    partition = Partition(rig.topic, 0)
    rig.write_unreadable(partition)
    write(producer, rig, 0, [b"b"])
    lane = lanes()
    until(lambda: len(lane.unreadable) == 1, lane)
    lane.consumer.pause([partition])
    lane.turn()
    lane.consumer.resume([partition])
    lane.turn()
    assert lane.records == []
    lane.consumer.seek_to(partition, 0)
    until(lambda: len(lane.unreadable) == 2, lane)
    lane.consumer.seek_to(partition, 1)
    until(lambda: bool(lane.records), lane)
    assert lane.values() == [b"b"]


def test_what_stands_before_what_cannot_be_read_may_be_removed(rig: Rig, lanes: Any, producer: Producer) -> None:
    """What people do to go on: the records are lost, and that is told."""
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


# ---- writing ----


def test_a_message_too_large_for_its_topic_fails_alone(rig: Rig, producer: Producer) -> None:
    large = producer.send(Message(rig.topic, b"k", b"x" * TOO_LARGE))
    small = producer.send(Message(rig.topic, b"k", b"x"))
    with pytest.raises(MessageTooLargeError, match=r"max\.message\.bytes"):
        large.result(DEADLINE_S)
    assert small.result(DEADLINE_S).offset == 0
    producer.flush(5)


@pytest.mark.parametrize(
    "wrong", [{"key": None, "value": None}, {"key": b"k", "value": b"v", "partition": 99}], ids=str
)
def test_a_message_that_can_never_be_sent_fails_permanently(rig: Rig, producer: Producer, wrong: Any) -> None:
    future = producer.send(Message(**({"topic": rig.topic} | wrong)))
    with pytest.raises(PermanentError):
        future.result(DEADLINE_S)


def test_a_dead_letter_keeps_the_original_and_says_why(rig: Rig, lanes: Any, producer: Producer) -> None:
    origin = Position("media.image", 5, 17)
    record = Record(origin, b"key", b"value", (("ce_id", b"1"), ("x", b"\xff")), 1_234)
    sink = DeadLetterWriter(producer, rig.topic, offload=lambda _: "", now=lambda: 7.5)
    sent = sink.send(record, Rejected(origin, "decode", Reason.CORRUPT, "no picture: é"))
    lane = lanes()
    until(lambda: bool(lane.records), lane)
    letter = parse_dead_letter(lane.records[0])
    assert letter is not None
    assert letter.position == sent.result(DEADLINE_S)
    assert (letter.origin, letter.reason, letter.step) == (origin, Reason.CORRUPT, "decode")
    assert (letter.detail, letter.failed_at_ms, letter.timestamp_ms) == ("no picture: é", 7_500, 1_234)
    assert (letter.key, letter.value, letter.headers) == (b"key", b"value", record.headers)
    assert (letter.value_bytes, letter.offloaded_uri) == (5, None)
    sink.close()


@pytest.mark.parametrize("key", [b"key", None])
def test_a_value_too_large_for_the_dead_letter_topic_is_stashed(
    rig: Rig, lanes: Any, producer: Producer, key: bytes | None
) -> None:
    stashed: list[bytes] = []

    def stash(value: bytes) -> str:
        stashed.append(value)
        return "asset:1"

    here = Position("media.image", 0, 0)
    sink = DeadLetterWriter(producer, rig.topic, offload=stash)
    sink.send(Record(here, key, b"x" * TOO_LARGE, (), 1), Rejected(here, "fetch", Reason.TOO_LARGE, "")).result(
        DEADLINE_S
    )
    lane = lanes()
    until(lambda: bool(lane.records), lane)
    letter = parse_dead_letter(lane.records[0])
    assert letter is not None
    assert (letter.key, letter.value, letter.value_bytes, letter.offloaded_uri) == (key, None, TOO_LARGE, "asset:1")
    assert stashed == [b"x" * TOO_LARGE]
    sink.close()


def test_a_dead_letter_whose_value_cannot_be_stashed_fails(rig: Rig, producer: Producer) -> None:
    def stash(_: bytes) -> str:
        raise OSError("disk full")

    here = Position("media.image", 0, 0)
    sink = DeadLetterWriter(producer, rig.topic, offload=stash)
    sent = sink.send(Record(here, b"k", b"x" * TOO_LARGE, (), 1), Rejected(here, "fetch", Reason.TOO_LARGE, ""))
    with pytest.raises(OSError, match="disk full"):
        sent.result(DEADLINE_S)
    sink.close()


def test_a_null_value_without_key_becomes_a_dead_letter_too(rig: Rig, lanes: Any, producer: Producer) -> None:
    here = Position("media.image", 0, 0)
    sink = DeadLetterWriter(producer, rig.topic, offload=lambda _: "")
    sink.send(Record(here, None, None, (), 1), Rejected(here, "receive", Reason.MALFORMED, "")).result(DEADLINE_S)
    lane = lanes()
    until(lambda: bool(lane.records), lane)
    letter = parse_dead_letter(lane.records[0])
    assert letter is not None
    assert (letter.key, letter.value, letter.value_bytes) == (None, None, 0)
    sink.close()
