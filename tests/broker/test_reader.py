"""Holds the reader of topics in memory and the real one to the same behaviour."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import pytest
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

from penstock.broker.base import LogRange, Message, Partition, PartitionLag, TopicReader
from penstock.broker.consumer import LaneConsumer
from penstock.broker.memory.broker import MemoryBroker
from penstock.broker.memory.reader import MemoryReader
from penstock.broker.producer import MessageProducer
from penstock.broker.reader import KafkaReader
from penstock.config import KafkaSettings
from penstock.errors import PermanentError, UnavailableError
from penstock.processes import free_port
from tests.broker.harness import DEADLINE_S
from tests.broker.harness import KafkaRig as HarnessRig

GROUP = "group"


class Rig(Protocol):
    """A topic of two partitions, with a reader."""

    topic: str
    reader: TopicReader

    def produce(self, partition: int, values: list[bytes]) -> None: ...
    def expire(self, partition: int, before: int) -> None: ...
    def write_unreadable(self, partition: int) -> None: ...
    def commit(self, partition: int, offset: int) -> None: ...


@dataclass
class MemoryRig:
    broker: MemoryBroker
    reader: TopicReader
    topic: str = "media.text"

    def produce(self, partition: int, values: list[bytes]) -> None:
        for value in values:
            self.broker.append(Message(self.topic, b"k", value, partition=partition))

    def expire(self, partition: int, before: int) -> None:
        self.broker.expire(Partition(self.topic, partition), before)

    def write_unreadable(self, partition: int) -> None:
        self.broker.corrupt(self.broker.append(Message(self.topic, b"k", b"?", partition=partition)))

    def commit(self, partition: int, offset: int) -> None:
        self.broker.group(GROUP).committed[Partition(self.topic, partition)] = offset


@dataclass
class KafkaRig:
    settings: KafkaSettings
    reader: TopicReader
    topic: str

    def produce(self, partition: int, values: list[bytes]) -> None:
        producer = MessageProducer(self.settings)
        for value in values:
            producer.send(Message(self.topic, b"k", value, partition=partition)).result(DEADLINE_S)
        producer.close(DEADLINE_S)

    def expire(self, partition: int, before: int) -> None:
        admin = KafkaAdminClient(bootstrap_servers=self.settings.bootstrap_servers)
        admin.delete_records({TopicPartition(self.topic, partition): before})
        admin.close()

    def write_unreadable(self, partition: int) -> None:
        HarnessRig(self.settings, self.topic).write_unreadable(Partition(self.topic, partition))

    def commit(self, partition: int, offset: int) -> None:
        consumer = LaneConsumer(self.settings, [self.topic], drain_timeout_s=0.0)
        target = Partition(self.topic, partition)
        while target not in consumer.assignments():
            consumer.poll(0.1, 1)
        consumer.commit({target: offset}, DEADLINE_S)
        consumer.close(DEADLINE_S)


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.services)])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    if request.param == "memory":
        broker = MemoryBroker()
        broker.create_topic("media.text", 2)
        yield MemoryRig(broker, MemoryReader(broker, GROUP))
        return
    settings: KafkaSettings = request.getfixturevalue("kafka_settings")
    admin = KafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
    admin.create_topics([NewTopic(settings.text_topic, 2, 1)], wait_for_metadata=True)
    admin.close()
    with KafkaReader(settings) as reader:
        yield KafkaRig(settings, reader, settings.text_topic)


def values(rig: Rig, partition: int, first: int, end: int) -> list[bytes | None]:
    return [record.value for record in rig.reader.read(Partition(rig.topic, partition), first, end)]


def test_a_partition_is_read_up_to_the_stated_end(rig: Rig) -> None:
    rig.produce(0, [b"a", b"b", b"c"])
    rig.produce(1, [b"z"])
    held = rig.reader.bounds([rig.topic])
    assert held == {Partition(rig.topic, 0): LogRange(0, 3), Partition(rig.topic, 1): LogRange(0, 1)}
    rig.produce(0, [b"later"])
    assert values(rig, 0, 0, 3) == [b"a", b"b", b"c"]
    assert values(rig, 1, 0, 1) == [b"z"]
    assert values(rig, 0, 1, 2) == [b"b"]
    assert values(rig, 0, 3, 4) == [b"later"]
    assert values(rig, 1, 1, 1) == []


def test_what_retention_removed_is_passed_over(rig: Rig) -> None:
    rig.produce(0, [b"a", b"b", b"c"])
    rig.expire(0, 2)
    assert rig.reader.bounds([rig.topic])[Partition(rig.topic, 0)] == LogRange(2, 3)
    assert values(rig, 0, 0, 3) == [b"c"]


def test_a_topic_that_does_not_exist_is_left_out(rig: Rig) -> None:
    assert rig.reader.bounds(["no-such-topic"]) == {}
    assert rig.reader.lag(["no-such-topic"]) == []
    assert rig.reader.compacted(["no-such-topic"]) == frozenset()


def test_lag_tells_what_the_group_committed(rig: Rig) -> None:
    rig.produce(0, [b"a", b"b", b"c"])
    rig.commit(0, 2)
    assert rig.reader.lag([rig.topic]) == [
        PartitionLag(Partition(rig.topic, 0), 2, 0, 3),
        PartitionLag(Partition(rig.topic, 1), None, 0, 0),
    ]


@pytest.mark.services
def test_only_topics_that_compaction_cleans_are_told(kafka_settings: KafkaSettings) -> None:
    plain, both = kafka_settings.text_topic, kafka_settings.image_topic
    admin = KafkaAdminClient(bootstrap_servers=kafka_settings.bootstrap_servers)
    policies = {"cleanup.policy": "compact,delete"}
    admin.create_topics([NewTopic(plain, 1, 1), NewTopic(both, 1, 1, topic_configs=policies)], wait_for_metadata=True)
    admin.close()
    with KafkaReader(kafka_settings) as reader:
        assert reader.compacted([plain, both]) == {both}


@pytest.mark.services
def test_aborted_and_open_transactions_are_not_read(kafka_settings: KafkaSettings, text_topic: str) -> None:
    servers = kafka_settings.bootstrap_servers
    producer = KafkaProducer(bootstrap_servers=servers, transactional_id=f"t-{text_topic}")
    producer.init_transactions()
    for value, commit in ((b"aborted", False), (b"committed", True)):
        producer.begin_transaction()
        producer.send(text_topic, value, partition=0)
        producer.flush()
        producer.commit_transaction() if commit else producer.abort_transaction()
    producer.begin_transaction()
    producer.send(text_topic, b"open", partition=0)
    producer.flush()
    with KafkaReader(kafka_settings) as reader:
        partition = Partition(text_topic, 0)
        held = reader.bounds([text_topic])[partition]
        assert held == LogRange(0, 4)  # two records and their markers
        assert [record.value for record in reader.read(partition, held.start, held.end)] == [b"committed"]
    producer.abort_transaction()
    producer.close()


def test_an_absent_broker_is_said() -> None:
    settings = KafkaSettings(bootstrap_servers=f"127.0.0.1:{free_port()}")
    with KafkaReader(settings) as reader, pytest.raises(UnavailableError):
        reader.bounds(["media.text"])


def test_what_cannot_be_read_is_an_error_after_all_that_lies_before_it(rig: Rig) -> None:
    partition = Partition(rig.topic, 0)
    rig.produce(0, [b"a", b"b"])
    rig.write_unreadable(0)
    rig.produce(0, [b"d"])
    assert [record.value for record in rig.reader.read(partition, 0, 2)] == [b"a", b"b"]
    read: list[bytes | None] = []
    with pytest.raises(PermanentError, match="could not read on"):
        read.extend(record.value for record in rig.reader.read(partition, 0, 4))
    assert read == [b"a", b"b"]
    assert [record.value for record in rig.reader.read(partition, 3, 4)] == [b"d"]
