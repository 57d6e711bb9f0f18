"""Runs one test on the broker in memory and on a real one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka.admin import MemberToRemove

from penstock.broker.base import (
    AssignedPartition,
    Consumer,
    LostRange,
    Message,
    Partition,
    Producer,
    Truncation,
    partition_of,
)
from penstock.broker.consumer import LaneConsumer
from penstock.broker.memory.broker import MemoryBroker
from penstock.broker.memory.consumer import MemoryConsumer
from penstock.broker.producer import MessageProducer
from penstock.broker.stops import DeniedPartition, UnreadableRange
from penstock.config import KafkaSettings
from penstock.records import Position, Record

DEADLINE_S = 20.0
PARTITIONS = 4
TOO_LARGE = 1_100_000  # above Kafka's default limit of a topic


class Rig(Protocol):
    """A broker with one empty topic of four partitions, and events that no client can cause."""

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
        return MessageProducer(self.settings, max_request_bytes=2 * TOO_LARGE)

    def expire(self, partition: Partition, before: int) -> None:
        with self._admin() as admin:
            admin.delete_records({TopicPartition(partition.topic, partition.partition): before})

    def write_unreadable(self, partition: Partition) -> None:
        """Writes a record with a header name that is not UTF-8, which brokers do not check."""
        producer = KafkaProducer(bootstrap_servers=self.settings.bootstrap_servers)
        headers = [(NotUtf8("name"), b"x")]
        producer.send(partition.topic, b"?", partition=partition.partition, headers=headers).get(DEADLINE_S)
        producer.close()

    def evict(self, consumer: Consumer) -> None:
        """Removes a member from its group as a session timeout does, without the wait."""
        assert isinstance(consumer, LaneConsumer)
        member_id = consumer._member.client.group_metadata().member_id
        with self._admin() as admin:
            admin.remove_group_members(self.settings.group, [MemberToRemove(member_id=member_id)])

    @contextmanager
    def _admin(self) -> Iterator[KafkaAdminClient]:
        admin = KafkaAdminClient(bootstrap_servers=self.settings.bootstrap_servers)
        try:
            yield admin
        finally:
            admin.close()


class NotUtf8(str):
    """A header name for kafka-python, which writes it as bytes that are not UTF-8."""

    def encode(self, encoding: str = "", errors: str = "") -> bytes:
        return b"\xff" * len(self)


class PollLog:
    """A consumer with everything that its polls returned."""

    def __init__(self, consumer: Consumer) -> None:
        self.consumer = consumer
        self.records: list[Record] = []
        self.assigned: list[AssignedPartition] = []
        self.revoking: list[Partition] = []
        self.lost: list[Partition] = []
        self.lost_ranges: list[LostRange] = []
        self.truncated: list[Truncation] = []
        self.unreadable: list[UnreadableRange | DeniedPartition] = []
        self.denied: Mapping[str, str] = {}
        self.available = False
        self.refusal = ""

    @property
    def owned(self) -> set[Partition]:
        return set(self.consumer.assignments())

    def poll(self) -> None:
        polled = self.consumer.poll(0.1, 100)
        self.records += polled.records
        self.assigned += polled.assigned
        self.revoking += polled.revoking
        self.lost += polled.revoked_without_drain
        self.lost_ranges += polled.lost_ranges
        self.truncated += polled.truncated
        self.unreadable += polled.unreadable
        self.denied, self.available, self.refusal = polled.denied, polled.broker_available, polled.refusal

    def values(self) -> list[bytes | None]:
        return [record.value for record in self.records]

    def of(self, partition: Partition) -> list[Record]:
        return [record for record in self.records if partition_of(record.position) == partition]


def until(condition: Callable[[], bool], *lanes: PollLog) -> None:
    """Polls with each lane in turn until the condition holds."""
    deadline_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline_s, "did not happen in time"
        for lane in lanes:
            lane.poll()


def write(producer: Producer, rig: Rig, partition: int, values: Sequence[bytes]) -> list[Position]:
    sent = [producer.send(Message(rig.topic, None, value, partition=partition)) for value in values]
    return [future.result(DEADLINE_S) for future in sent]


def write_everywhere(producer: Producer, rig: Rig, count: int = 3) -> None:
    """Writes records to every partition."""
    for number in range(PARTITIONS):
        write(producer, rig, number, [b"%d-%d" % (number, index) for index in range(count)])
