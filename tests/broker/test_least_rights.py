"""Does what each plane and command does with Kafka, with exactly the rights that docs/kafka-security.md lists."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.broker.base import Message, Partition
from penstock.broker.consumer import LaneConsumer
from penstock.broker.deadletters import scan_dead_letters
from penstock.broker.kafka_control import KafkaControlGroup
from penstock.broker.producer import MessageProducer
from penstock.broker.reader import KafkaReader
from penstock.broker.record_times import record_times
from penstock.broker.tail import KafkaTail
from penstock.broker.topics import ensure_changes_topic, ensure_topics, ensure_watch_topics, group_lag
from penstock.config import KafkaSettings
from penstock.records import Modality
from tests.broker.harness import DEADLINE_S, PollLog, until
from tests.secured_kafka import GROUP, TOPIC, SecuredKafka, secured_kafka

pytestmark = [pytest.mark.services, pytest.mark.exhaustive]

PAGE = Path(__file__).parents[2] / "docs" / "kafka-security.md"
ROW = re.compile(
    r"\| `?(?P<who>[a-z ]+)`? \| (?P<kind>topic|group) \| `(?P<name>[a-z.]+)` \| (?P<operations>[A-Za-z, ]+) \|"
)
DEFAULTS = KafkaSettings()


def rights() -> dict[str, list[re.Match[str]]]:
    """Returns the rows of the page by plane and command."""
    rows: dict[str, list[re.Match[str]]] = {}
    for row in ROW.finditer(PAGE.read_text(encoding="utf-8")):
        rows.setdefault(row["who"], []).append(row)
    return rows


@pytest.fixture(scope="module")
def broker() -> Iterator[SecuredKafka]:
    with secured_kafka() as broker:
        yield broker


@pytest.fixture
def settings(broker: SecuredKafka, request: pytest.FixtureRequest) -> Iterator[KafkaSettings]:
    """Existing topics of this test alone, with the rights of the plane or command that the test is a parameter for."""
    prefix = uuid.uuid4().hex[:8]
    names = {
        name: f"{prefix}.{getattr(DEFAULTS, name)}" for name in KafkaSettings.model_fields if name.endswith("_topic")
    }
    settings = broker.settings(group=f"{prefix}.{DEFAULTS.group}", partitions=1, **names)
    existing = [name for name in names.values() if name != settings.watches_topic]
    broker.create_topics(*existing)
    broker.admin().create_topics(
        {settings.watches_topic: {"num_partitions": 1, "configs": {"cleanup.policy": "compact"}}}
    )
    for topic in (settings.text_topic, settings.dead_letter_topic):
        configs = {"max.message.bytes": "33554432", "retention.ms": "-1", "cleanup.policy": "delete"}
        broker.configure(topic, configs)
    for row in rights()[request.param]:
        kind = TOPIC if row["kind"] == "topic" else GROUP
        operations = [re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).upper() for name in row["operations"].split(", ")]
        broker.grant(kind, f"{prefix}.{row['name']}", *operations)
    yield settings
    broker.revoke_all()


def send(settings: KafkaSettings, topic: str) -> None:
    producer = MessageProducer(settings)
    try:
        producer.send(Message(topic, b"k", b"v")).result(DEADLINE_S)
    finally:
        producer.close(1)


def consume(settings: KafkaSettings, *topics: str) -> None:
    """Joins the group, receives what there is, and commits."""
    lane = PollLog(LaneConsumer(settings, topics, drain_timeout_s=5))
    try:
        until(lambda: {at.topic for at in lane.owned} == set(topics), lane)
        assert (dict(lane.denied), lane.refusal) == ({}, "")
        lane.consumer.commit(dict.fromkeys(lane.owned, 0), 5)
    finally:
        lane.consumer.close(5)


def follow(settings: KafkaSettings, topic: str) -> None:
    tail = KafkaTail(settings, topic, from_start=True)
    try:
        tail.poll(0.1)
    finally:
        tail.close()


def ingest(settings: KafkaSettings) -> None:
    media = [settings.topic_of(modality) for modality in Modality]
    report = ensure_topics(settings, list(Modality))
    assert [line for line in map(str, report.findings) if "the right" in line] == []
    ensure_changes_topic(settings)
    control = KafkaControlGroup(settings, 3.0)
    try:
        assert control.state().members == 0
        member = PollLog(control.join())
        until(lambda: bool(member.owned), member)
        member.consumer.commit({control.partition: 0}, 5, note="x")
        member.consumer.close(5)
    finally:
        control.close()
    consume(settings, *media)
    send(settings, settings.dead_letter_topic)
    send(settings, settings.changes_topic)
    assert list(scan_dead_letters(settings)) == []
    assert len(group_lag(settings)) == len(media)
    record_times(settings, {Partition(settings.text_topic, 0): 0})


def query(settings: KafkaSettings) -> None:
    ensure_watch_topics(settings)
    follow(settings, settings.changes_topic)
    follow(settings, settings.watches_topic)
    send(settings, settings.watches_topic)
    send(settings, settings.matches_topic)
    send(settings, settings.text_topic)
    consume(settings.model_copy(update={"group": f"{settings.group}.watches"}), settings.changes_topic)


def status(settings: KafkaSettings) -> None:
    assert [lag.lag for lag in group_lag(settings, [settings.text_topic, settings.dead_letter_topic])] == [0, 0]
    assert list(scan_dead_letters(settings)) == []


def audit(settings: KafkaSettings) -> None:
    with KafkaReader(settings) as reader:
        reader.lag([settings.text_topic])
        reader.compacted([settings.text_topic])
        for topic in (settings.text_topic, settings.dead_letter_topic):
            for partition, log in reader.bounds([topic]).items():
                assert list(reader.read(partition, log.start, log.end)) == []


def replay(settings: KafkaSettings) -> None:
    assert list(scan_dead_letters(settings)) == []
    group_lag(settings, [settings.text_topic])
    send(settings, settings.text_topic)


DOES: dict[str, Callable[[KafkaSettings], Any]] = {
    "ingest plane": ingest,
    "query plane": query,
    "penstock produce": lambda settings: send(settings, settings.text_topic),
    "penstock status": status,
    "penstock audit": audit,
    "penstock deadletters list": lambda settings: list(scan_dead_letters(settings)),
    "penstock deadletters replay": replay,
    "penstock watch tail": lambda settings: follow(settings, settings.matches_topic),
}


def test_every_plane_and_command_of_the_page_is_tested() -> None:
    assert list(rights()) == list(DOES)


@pytest.mark.parametrize("settings", DOES, indirect=True)
def test_the_rights_of_the_page_are_enough(
    settings: KafkaSettings, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    DOES[request.node.callspec.params["settings"]](settings)
    assert "the right" not in caplog.text
