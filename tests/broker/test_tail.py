"""Holds the follower of a topic in memory and the real one to the same behaviour."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import pytest
from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import NewPartitions
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import KafkaTimeoutError

from penstock.broker.base import Message, Partition
from penstock.broker.memory.broker import MemoryBroker
from penstock.broker.memory.tail import MemoryTail
from penstock.broker.tail import KafkaTail, TopicTail
from penstock.config import KafkaSettings
from penstock.errors import UnavailableError
from penstock.processes import free_port
from tests.broker.harness import DEADLINE_S, PARTITIONS, KafkaRig, MemoryRig, Rig, write

MakeTail = Callable[..., TopicTail]


@pytest.fixture
def tails(rig: Rig) -> Iterator[MakeTail]:
    opened: list[TopicTail] = []

    def make(*, from_start: bool = False) -> TopicTail:
        if isinstance(rig, KafkaRig):
            opened.append(KafkaTail(rig.settings, rig.topic, from_start=from_start))
        else:
            assert isinstance(rig, MemoryRig)
            opened.append(MemoryTail(rig.broker, "media.text", from_start=from_start))
        return opened[-1]

    yield make
    for tail in opened:
        tail.close()


def follow(tail: TopicTail, count: int) -> list[bytes | None]:
    """Returns the values of the next records, once there are as many, and that no more follow."""
    values: list[bytes | None] = []
    deadline_s = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline_s:
        polled = tail.poll(0.2)
        values += [record.value for record in polled.records]
        if len(values) >= count and polled.caught_up and not polled.records:
            return values
    raise AssertionError(f"only {values} followed")


def produce(rig: Rig, partition: int, *values: bytes) -> None:
    producer = rig.producer()
    write(producer, rig, partition, values)
    producer.close(DEADLINE_S)


def test_a_tail_returns_what_follows_its_first_poll(rig: Rig, tails: MakeTail) -> None:
    produce(rig, 0, b"before")
    tail = tails()
    assert follow(tail, 0) == []
    produce(rig, 0, b"a", b"b")
    assert follow(tail, 2) == [b"a", b"b"]
    produce(rig, 3, b"c")
    assert follow(tail, 1) == [b"c"]


def test_a_tail_from_the_start_returns_everything_and_is_then_caught_up(rig: Rig, tails: MakeTail) -> None:
    produce(rig, 0, b"a", b"b")
    produce(rig, 1, b"c")
    tail = tails(from_start=True)
    assert sorted(value or b"" for value in follow(tail, 3)) == [b"a", b"b", b"c"]
    produce(rig, 1, b"d")
    assert follow(tail, 1) == [b"d"]


def test_every_tail_gets_every_record(rig: Rig, tails: MakeTail) -> None:
    first, second = tails(), tails()
    assert follow(first, 0) == follow(second, 0) == []
    produce(rig, 2, b"a")
    assert follow(first, 1) == follow(second, 1) == [b"a"]


@pytest.mark.services
def test_partitions_that_are_added_are_followed_from_their_start(
    kafka_settings: KafkaSettings, text_topic: str
) -> None:
    tail = KafkaTail(kafka_settings, text_topic)
    assert follow(tail, 0) == []
    admin = KafkaAdminClient(bootstrap_servers=kafka_settings.bootstrap_servers)
    admin.create_partitions({text_topic: NewPartitions(PARTITIONS + 1)})
    admin.close()
    produce(KafkaRig(kafka_settings, text_topic), PARTITIONS, b"new")
    tail._client._client.cluster.request_update()  # type: ignore[union-attr]  # instead of its own interval of 5 min
    assert follow(tail, 1) == [b"new"]
    tail.close()


def test_an_absent_broker_or_topic_is_said() -> None:
    tail = KafkaTail(KafkaSettings(bootstrap_servers=f"127.0.0.1:{free_port()}"), "penstock.changes")
    with pytest.raises(UnavailableError, match=r"follow penstock\.changes"):
        tail.poll(0.1)
    tail.close()
    with pytest.raises(UnavailableError):
        MemoryTail(MemoryBroker(), "penstock.changes").poll(0)


@pytest.mark.services
def test_a_topic_that_does_not_exist_yet_is_followed_once_it_does(kafka_settings: KafkaSettings) -> None:
    tail = KafkaTail(kafka_settings, "later", from_start=True)
    with pytest.raises(UnavailableError, match="no such topic"):
        tail.poll(0.1)
    tail.close()


def test_a_broker_that_goes_away_is_noticed_and_nothing_is_missed() -> None:
    broker = MemoryBroker()
    broker.create_topic("t", 1)
    tail = MemoryTail(broker, "t")
    assert not tail.poll(0).records
    broker.append(Message("t", b"k", b"a"))
    broker.available = False
    with pytest.raises(UnavailableError):
        tail.poll(0)
    broker.available = True
    assert [record.value for record in tail.poll(0).records] == [b"a"]
    broker.corrupt(broker.append(Message("t", b"k", b"?")))
    broker.append(Message("t", b"k", b"b"))
    assert [record.value for record in tail.poll(0).records] == [b"b"]
    broker.expire(Partition("t", 0), 3)
    assert not tail.poll(0).records


class LostClient:
    """A client that fetches one record, and does not know its position after it."""

    def __init__(self, topic: str) -> None:
        self.tp = TopicPartition(topic, 0)
        self.fetched = [ConsumerRecord(topic, 0, 0, 4, 0, 0, b"k", b"a", [], None, 1, 1, 0)]

    def partitions_for_topic(self, topic: str) -> set[int]:
        return {0}

    def end_offsets(self, partitions: Sequence[TopicPartition], *, timeout_ms: float) -> dict[TopicPartition, int]:
        return {self.tp: 5}

    beginning_offsets = end_offsets

    def assign(self, partitions: Sequence[TopicPartition]) -> None: ...

    def seek(self, partition: TopicPartition, offset: int) -> None: ...

    def poll(self, *, timeout_ms: float) -> dict[TopicPartition, list[ConsumerRecord]]:
        return {self.tp: self.fetched}

    def position(self, partition: TopicPartition) -> int:
        raise KafkaTimeoutError("no offset in time")

    def close(self, *, autocommit: bool) -> None: ...


def test_records_are_returned_although_the_position_after_them_is_not_known() -> None:
    tail = KafkaTail(KafkaSettings(bootstrap_servers="127.0.0.1:1"), "penstock.changes")
    tail._client = LostClient("penstock.changes")  # type: ignore[assignment]  # instead of a broker that fails just then
    polled = tail.poll(0)
    assert ([record.value for record in polled.records], polled.caught_up) == ([b"a"], False)


def test_a_record_that_nobody_can_read_is_passed_over(rig: Rig, tails: MakeTail) -> None:
    tail = tails()
    assert follow(tail, 0) == []
    produce(rig, 0, b"a")
    rig.write_unreadable(Partition(rig.topic, 0))
    produce(rig, 0, b"b")
    assert follow(tail, 2) == [b"a", b"b"]
