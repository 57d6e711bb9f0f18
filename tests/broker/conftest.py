"""One embedded Kafka for all tests of this folder; every test has topics and a group of its own."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import pytest
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import NewTopic

from penstock.broker.base import Producer
from penstock.broker.memory.broker import MemoryBroker
from penstock.config import KafkaSettings
from tests.broker.harness import PARTITIONS, KafkaRig, MemoryRig, PollLog, Rig
from tests.services import kafka_server


@pytest.fixture(scope="package")
def bootstrap_servers() -> Iterator[str]:
    with kafka_server() as servers:
        yield servers


@pytest.fixture
def kafka_settings(bootstrap_servers: str) -> KafkaSettings:
    """Topics and group that no other test knows; a short session, so that a lost member is noticed soon."""
    name = uuid.uuid4().hex[:8]
    return KafkaSettings(
        bootstrap_servers=bootstrap_servers,
        group=f"group-{name}",
        text_topic=f"text-{name}",
        image_topic=f"image-{name}",
        audio_topic=f"audio-{name}",
        video_topic=f"video-{name}",
        dead_letter_topic=f"dlq-{name}",
        partitions=4,
        session_timeout_ms=3_000,
        max_poll_interval_ms=30_000,
    )


@pytest.fixture
def text_topic(kafka_settings: KafkaSettings) -> str:
    """The text topic of `kafka_settings`, created with its partitions and Kafka's own limit of 1 MiB, empty."""
    admin = KafkaAdminClient(bootstrap_servers=kafka_settings.bootstrap_servers)
    configs = {"max.message.bytes": "1048588"}
    admin.create_topics([NewTopic(kafka_settings.text_topic, kafka_settings.partitions, 1, topic_configs=configs)])
    admin.close()
    return kafka_settings.text_topic


@pytest.fixture(scope="package")
def raw_producer(bootstrap_servers: str) -> Iterator[KafkaProducer]:
    """A producer of another Kafka client, whose records must be readable."""
    producer = KafkaProducer(bootstrap_servers=bootstrap_servers, max_request_size=64 * 1024 * 1024)
    yield producer
    producer.close(timeout=5)


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.services)])
def rig(request: pytest.FixtureRequest) -> Rig:
    if request.param == "memory":
        broker = MemoryBroker()
        broker.create_topic("media.text", PARTITIONS, max_message_bytes=1_048_588)
        return MemoryRig(broker)
    topic = request.getfixturevalue("text_topic")
    return KafkaRig(request.getfixturevalue("kafka_settings"), topic)


@pytest.fixture
def lanes(rig: Rig) -> Iterator[Callable[..., PollLog]]:
    """Makes consumers of the rig's topic, and closes them in the end."""
    lanes: list[PollLog] = []

    def make(**arguments: float) -> PollLog:
        lanes.append(PollLog(rig.consumer(**arguments)))
        return lanes[-1]

    yield make
    for lane in lanes:
        lane.consumer.close(5)


@pytest.fixture
def producer(rig: Rig) -> Iterator[Producer]:
    producer = rig.producer()
    yield producer
    producer.close(5)
