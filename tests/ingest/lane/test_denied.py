"""Takes rights away from a lane: the partitions of that topic halt alone, and continue once the right is back."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from kafka import KafkaProducer

from penstock.broker.base import Message
from penstock.broker.consumer import LaneConsumer
from penstock.ingest.lane.lane import Lane
from penstock.records import Modality, Outcome
from tests.ingest.lane.harness import GROUP as MEMORY_GROUP
from tests.ingest.lane.harness import GatedMedia, LaneHarness, eventually, running
from tests.secured_kafka import GROUP, TOPIC, SecuredKafka, secured_kafka

ALLOWED, DENIED = "allowed", "denied"


@dataclass
class Rig:
    """Two topics of one partition, a lane on both, and how the right to read the second one changes."""

    lane: Lane
    topics: tuple[str, str]
    produce: Callable[[str, int], object]
    deny: Callable[[], object]
    allow: Callable[[], object]
    right: str


@pytest.fixture
def harness() -> LaneHarness:
    return LaneHarness()


@pytest.fixture(scope="module")
def broker() -> Iterator[SecuredKafka]:
    with secured_kafka() as broker:
        yield broker


@pytest.fixture(params=["memory", pytest.param("kafka", marks=[pytest.mark.services, pytest.mark.exhaustive])])
def rig(request: pytest.FixtureRequest, harness: LaneHarness) -> Iterator[Rig]:
    if request.param == "memory":
        yield _memory_rig(harness)
    else:
        broker: SecuredKafka = request.getfixturevalue("broker")
        producer = KafkaProducer(bootstrap_servers=broker.bootstrap_servers)
        yield _kafka_rig(harness, broker, producer)
        producer.close(5)
        broker.revoke_all()


def _memory_rig(harness: LaneHarness) -> Rig:
    broker = harness.broker
    for topic in (ALLOWED, DENIED):
        broker.create_topic(topic, 1)

    def produce(topic: str, number: int) -> None:
        broker.append(Message(topic, f"{topic}-{number}".encode(), b"v"))

    lane = harness.lane(topics=(ALLOWED, DENIED))
    return Rig(
        lane,
        (ALLOWED, DENIED),
        produce,
        lambda: broker.denied.add(DENIED),
        lambda: broker.denied.discard(DENIED),
        "Read is denied",
    )


def _kafka_rig(harness: LaneHarness, broker: SecuredKafka, producer: KafkaProducer) -> Rig:
    name = uuid.uuid4().hex[:8]
    topics = (f"{ALLOWED}-{name}", f"{DENIED}-{name}")
    settings = broker.settings(group=f"group-{name}", text_topic=topics[0], image_topic=topics[1])
    broker.create_topics(*topics)
    broker.grant(GROUP, settings.group, "READ")
    for topic in topics:
        broker.grant(TOPIC, topic, "READ")

    def produce(topic: str, number: int) -> None:
        producer.send(topic, b"v", key=f"{topic}-{number}".encode()).get(20)

    lane = harness.lane(topics=topics, consumer=LaneConsumer(settings, topics, drain_timeout_s=5))
    return Rig(
        lane,
        topics,
        produce,
        lambda: broker.revoke(TOPIC, topics[1], "READ"),
        lambda: broker.grant(TOPIC, topics[1], "READ"),
        "denies this client (User:plain) the right",
    )


def test_the_partitions_of_a_topic_that_may_not_be_read_halt_alone_and_continue(rig: Rig) -> None:
    allowed, denied = rig.topics
    lane = rig.lane
    lane._halts._retry_s = 0.2
    with running(lane):
        for topic in rig.topics:
            rig.produce(topic, 0)
        eventually(lambda: _indexed(lane) == 2, "both topics are read")
        rig.deny()
        rig.produce(denied, 1)
        eventually(lambda: f"halted {denied}" in lane.status().held, "it says so")
        assert list(lane.status().halted) == [denied]
        assert f"{denied} may not be read" in lane.status().held[f"halted {denied}"]
        assert rig.right in lane.status().halted[denied]
        rig.produce(allowed, 1)
        eventually(lambda: _indexed(lane) == 3, "the other topic goes on")
        assert lane.status().broker_available
        rig.allow()
        eventually(lambda: _indexed(lane) == 4, "it continues")
        eventually(lambda: lane.status().halted == {}, "and says so")
    assert lane.status().outcomes == {(Modality.TEXT, Outcome.INDEXED): 4}, "nothing is lost or done twice"
    assert lane.status().lost_offsets == 0


def _indexed(lane: Lane) -> int:
    return lane.status().outcomes.get((Modality.TEXT, Outcome.INDEXED), 0)


def test_events_in_flight_of_a_topic_that_may_not_be_committed_do_not_hold_up_others(harness: LaneHarness) -> None:
    for topic in (ALLOWED, DENIED):
        harness.broker.create_topic(topic, 1)
        harness.broker.append(Message(topic, topic.encode(), b"v"))
    media = GatedMedia()
    lane = harness.lane(topics=(ALLOWED, DENIED), media=media)

    def committed() -> dict[str, int]:
        return {at.topic: offset for at, offset in harness.broker.committed(MEMORY_GROUP).items()}

    with running(lane):
        eventually(lambda: lane._in_flight.deliveries == 2, "both are in flight")
        harness.broker.denied.add(DENIED)
        media.open.set()
        eventually(lambda: committed() == {ALLOWED: 1}, "the other topic is committed")
        harness.broker.denied.clear()
        eventually(lambda: committed() == {ALLOWED: 1, DENIED: 1}, "what was denied is committed later")


def test_a_broker_that_refuses_a_running_lane_is_waited_for_and_named(harness: LaneHarness) -> None:
    harness.produce(2)
    lane = harness.lane()
    with running(lane):
        eventually(lambda: harness.committed() == 2, "all committed")
        harness.broker.refusal = "it refuses the user p by PLAIN"
        harness.produce(2)
        eventually(lambda: "broker" in lane.status().held, "it says so")
        assert lane.status().held["broker"] == "it refuses the user p by PLAIN"
        harness.broker.refusal = ""
        eventually(lambda: harness.committed() == 4, "all committed")
        eventually(lambda: lane.status().held == {}, "and says so")
