"""Offsets that a program sets for a group, in memory and on a real broker."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from penstock.broker.base import Consumer, Message, Partition, TopicReader
from penstock.broker.group_offsets import ActiveGroupError, GroupOffsets, KafkaGroupOffsets
from penstock.broker.memory.broker import MemoryBroker
from penstock.broker.memory.offsets import MemoryGroupOffsets
from penstock.broker.memory.reader import MemoryReader
from penstock.broker.reader import KafkaReader
from penstock.config import KafkaSettings
from penstock.errors import UnavailableError
from tests.broker.harness import DEADLINE_S, KafkaRig, MemoryRig, Rig


@dataclass
class Group:
    rig: Rig
    offsets: GroupOffsets
    reader: TopicReader

    def committed(self) -> dict[int, int | None]:
        return {lag.partition.partition: lag.committed for lag in self.reader.lag([self.rig.topic])}


@pytest.fixture(
    params=["memory", pytest.param("kafka", marks=[pytest.mark.services, pytest.mark.exhaustive])],
)
def group(request: pytest.FixtureRequest) -> Iterator[Group]:
    if request.param == "memory":
        broker = MemoryBroker()
        rig: Rig = MemoryRig(broker)
        broker.create_topic(rig.topic, 4)
        yield Group(rig, MemoryGroupOffsets(broker, "group"), MemoryReader(broker, "group"))
        return
    settings: KafkaSettings = request.getfixturevalue("kafka_settings")
    rig = KafkaRig(settings, request.getfixturevalue("text_topic"))
    with KafkaReader(settings) as reader:
        yield Group(rig, KafkaGroupOffsets(settings), reader)


def produce(group: Group, count: int) -> None:
    producer = group.rig.producer()
    for number in range(count):
        producer.send(Message(group.rig.topic, b"k", b"%d" % number, partition=0)).result(DEADLINE_S)
    producer.close(DEADLINE_S)


def read(consumer: Consumer, count: int) -> list[bytes | None]:
    values: list[bytes | None] = []
    deadline_s = time.monotonic() + DEADLINE_S
    while len(values) < count:
        assert time.monotonic() < deadline_s
        values += [record.value for record in consumer.poll(0.2, 100).records]
    return values


def test_a_group_that_never_had_a_member_gets_offsets(group: Group) -> None:
    produce(group, 5)
    assert group.offsets.members() == 0
    group.offsets.set({Partition(group.rig.topic, 0): 3, Partition(group.rig.topic, 2): 0})
    assert group.committed() == {0: 3, 1: None, 2: 0, 3: None}
    consumer = group.rig.consumer()
    assert read(consumer, 2) == [b"3", b"4"]
    consumer.close(DEADLINE_S)


def test_offsets_go_back_once_the_members_have_left(group: Group) -> None:
    produce(group, 4)
    partition = Partition(group.rig.topic, 0)
    consumer = group.rig.consumer()
    read(consumer, 4)
    consumer.commit({partition: 4}, DEADLINE_S)
    with pytest.raises(ActiveGroupError, match="stop it"):
        group.offsets.set({partition: 1})
    assert group.offsets.members() == 1
    assert group.committed()[0] == 4
    consumer.close(DEADLINE_S)
    group.offsets.set({partition: 1})
    assert group.committed()[0] == 1
    following = group.rig.consumer()
    assert read(following, 3) == [b"1", b"2", b"3"]
    following.close(DEADLINE_S)


def test_nothing_to_set_is_no_request(group: Group) -> None:
    group.offsets.set({})
    assert set(group.committed().values()) == {None}


def test_a_broker_that_does_not_answer_is_unavailable() -> None:
    broker = MemoryBroker()
    broker.available = False
    offsets = MemoryGroupOffsets(broker, "group")
    for call in (offsets.members, lambda: offsets.set({Partition("t", 0): 1})):
        with pytest.raises(UnavailableError):
            call()
