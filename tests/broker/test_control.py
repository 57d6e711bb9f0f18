"""Holds the control group in memory and the one on Kafka to the same behaviour."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kafka import KafkaAdminClient
from kafka.admin import MemberToRemove, NewTopic

from penstock.broker.base import Consumer
from penstock.broker.consumer import LaneConsumer
from penstock.broker.control import ControlGroup
from penstock.broker.kafka_control import KafkaControlGroup
from penstock.broker.memory.broker import MemoryBroker
from penstock.broker.memory.consumer import MemoryConsumer
from penstock.broker.memory.control import MemoryControlGroup
from penstock.config import KafkaSettings
from penstock.errors import ConfigError, FencedError, UnavailableError
from tests.broker.harness import PollLog, until

_SESSION_S = 6.0


class ControlRig:
    """A control group, and the removal of a member, which no client causes."""

    def __init__(self, group: ControlGroup, evict: Callable[[Any], None]) -> None:
        self.group = group
        self.evict = evict
        self._members: list[Consumer] = []

    def member(self) -> PollLog:
        member = self.group.join()
        self._members.append(member)
        return PollLog(member)

    def await_coordinator(self) -> None:
        """Returns once the group can be looked up: a new broker creates the topic of its groups first."""

        def answers() -> bool:
            try:
                self.group.state()
            except UnavailableError:
                return False
            return True

        until(answers)

    def close(self) -> None:
        for member in self._members:
            member.close(5)
        self.group.close()

    def note(self, member: PollLog, text: str) -> None:
        """Commits a note; again after a rebalance, in which none is accepted."""

        def accepted() -> bool:
            try:
                member.consumer.commit({self.group.partition: 0}, 5, note=text)
            except UnavailableError:
                return False
            return True

        until(accepted, member)


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.services)])
def control(request: pytest.FixtureRequest) -> Iterator[ControlRig]:
    if request.param == "memory":
        broker = MemoryBroker()
        broker.create_topic("media.control", 1)

        def evict_from_memory(consumer: MemoryConsumer) -> None:
            broker.evict(consumer)

        rig = ControlRig(MemoryControlGroup(broker, "penstock.control", "media.control"), evict_from_memory)
    else:
        settings: KafkaSettings = request.getfixturevalue("kafka_settings")
        settings = settings.model_copy(update={"control_topic": f"control-{settings.group}"})

        def evict_from_kafka(consumer: LaneConsumer) -> None:
            admin = KafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
            member_id = consumer._member.client.group_metadata().member_id
            admin.remove_group_members(f"{settings.group}.control", [MemberToRemove(member_id=member_id)])
            admin.close()

        rig = ControlRig(KafkaControlGroup(settings, _SESSION_S), evict_from_kafka)
    rig.await_coordinator()
    yield rig
    rig.close()


def test_a_group_without_a_driver_has_neither_members_nor_a_note(control: ControlRig) -> None:
    state = control.group.state()
    assert (state.members, state.note) == (0, "")


def test_the_first_member_owns_the_partition_and_its_note_is_seen_from_outside(control: ControlRig) -> None:
    first = control.member()
    until(lambda: bool(first.assigned), first)
    assert first.owned == {control.group.partition}
    control.note(first, "this is the first")
    state = control.group.state()
    assert (state.members, state.note) == (1, "this is the first")


def test_a_second_member_gets_nothing_before_the_first_leaves_and_then_a_higher_generation(
    control: ControlRig,
) -> None:
    first, second = control.member(), control.member()
    until(lambda: bool(first.assigned), first)
    until(lambda: control.group.state().members == 2, first, second)
    generation = first.consumer.generation()
    until(lambda: first.consumer.generation() == second.consumer.generation() >= generation, first, second)
    assert not second.assigned
    control.note(first, "still here")
    first.consumer.close(5)
    until(lambda: bool(second.assigned), second)
    assert second.assigned[0].assignment.generation > first.assigned[0].assignment.generation
    assert control.group.state().note == "still here"


def test_no_commit_of_a_removed_member_is_accepted(control: ControlRig) -> None:
    first = control.member()
    until(lambda: bool(first.assigned), first)
    control.note(first, "before")
    control.evict(first.consumer)
    second = control.member()
    until(lambda: bool(second.assigned), second)
    with pytest.raises(FencedError):
        control.note(first, "after")
    control.note(second, "the successor")
    assert control.group.state().note == "the successor"


def test_a_member_that_joins_again_owns_the_partition_in_a_higher_generation(control: ControlRig) -> None:
    first = control.member()
    until(lambda: bool(first.assigned), first)
    control.evict(first.consumer)
    until(lambda: len(first.assigned) == 2, first)
    before, after = (assigned.assignment.generation for assigned in first.assigned)
    assert after > before
    control.note(first, "again")


@pytest.mark.services
def test_a_control_topic_of_several_partitions_is_refused(kafka_settings: KafkaSettings) -> None:
    settings = kafka_settings.model_copy(update={"control_topic": f"control-{kafka_settings.group}"})
    admin = KafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
    admin.create_topics([NewTopic(settings.control_topic, 2, 1)])
    admin.close()
    with pytest.raises(ConfigError, match=r"has 2 partitions.*kafka\.control_topic"):
        KafkaControlGroup(settings, _SESSION_S)
