"""Tests what the records of another topic become, and that a topic continues behind any of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext

import pytest

from penstock.broker.base import Message
from penstock.broker.given_vectors import given_vector
from penstock.broker.memory.broker import MemoryBroker
from penstock.broker.memory.reader import MemoryReader
from penstock.broker.wire import encode_event
from penstock.config import Settings
from penstock.errors import UsageError
from penstock.produce.items import ProduceOptions
from penstock.produce.topics import TopicSource
from penstock.records import ClaimCheck, Event, Inline
from tests.produce.conftest import check_continues, messages, reasons

TOPIC = "old.media"


@pytest.fixture
def broker() -> MemoryBroker:
    broker = MemoryBroker()
    broker.create_topic(TOPIC, partitions=2)
    return broker


def source_of(
    broker: MemoryBroker, settings: Settings, topic: str = TOPIC, *, target: str | None = None
) -> TopicSource:
    return TopicSource(
        f"kafka:{topic}",
        topic,
        settings,
        ProduceOptions(topic=target),
        open_reader=lambda: nullcontext(MemoryReader(broker, "group")),
    )


def test_records_keep_their_key_labels_times_and_vectors(
    broker: MemoryBroker, settings: Settings, event_of: Callable[[Message], Event], png: bytes
) -> None:
    sent = encode_event(
        topic=TOPIC,
        key="a",
        payload=Inline(png),
        source="test",
        tenant="acme",
        title="A dot",
        attributes={"n": 1},
        acl=["hr"],
        time_ms=1_767_225_600_000,
        vectors=[given_vector("clip/1/2", [1.0])],
    )
    broker.append(sent)
    broker.append(Message(TOPIC, b"bare", b"Only words.", partition=1))
    first, bare = messages(list(source_of(broker, settings).items(None)))
    if first.key != b"a":
        first, bare = bare, first
    parsed = event_of(first)
    assert (first.topic, parsed.asset.tenant, parsed.asset.key) == ("media.image", "acme", "a")
    assert (parsed.title, parsed.acl, parsed.event_time_ms) == ("A dot", ("hr",), 1_767_225_600_000)
    assert (parsed.payload, json.loads(parsed.attributes_json)) == (Inline(png), {"n": 1})
    assert parsed.vectors == (given_vector("clip/1/2", [1.0]),)
    assert (bare.topic, bare.value, event_of(bare).asset.tenant) == ("media.text", b"Only words.", settings.tenant)


def test_a_topic_continues_behind_any_record(broker: MemoryBroker, settings: Settings) -> None:
    for number in range(7):
        broker.append(Message(TOPIC, str(number).encode(), b"words", partition=number % 2))
    check_continues(lambda: source_of(broker, settings))
    assert source_of(broker, settings).total() == 7


def test_what_has_no_bytes_needs_a_topic(broker: MemoryBroker, settings: Settings) -> None:
    for payload in (ClaimCheck("s3://b/a.png"), None):
        broker.append(encode_event(topic=TOPIC, key="a", payload=payload, source="test"))
    refused = reasons(list(source_of(broker, settings).items(None)))
    assert ["name the topic" in reason for reason in refused] == [True, True]
    sent = messages(list(source_of(broker, settings, target="media.image").items(None)))
    assert [(message.topic, message.value) for message in sent] == [("media.image", b""), ("media.image", None)]


def test_a_topic_is_not_written_to_itself(settings: Settings) -> None:
    broker = MemoryBroker()
    broker.create_topic("media.text")
    broker.append(Message("media.text", b"a", b"words"))
    assert "would be written to it again" in reasons(list(source_of(broker, settings, "media.text").items(None)))[0]
    with pytest.raises(UsageError, match="both the topic"):
        source_of(broker, settings, target=TOPIC)


def test_replays_and_absent_topics_are_not_sent(broker: MemoryBroker, settings: Settings) -> None:
    origin = (("penstock-origin", b"old.media:0:0"), ("penstock-origin-timestamp", b"1"))
    broker.append(Message(TOPIC, b"a", b"words", origin))
    assert len(reasons(list(source_of(broker, settings).items(None)))) == 1
    with pytest.raises(UsageError, match="no topic absent"):
        list(source_of(broker, settings, "absent").items(None))
