"""Holds the producer in memory and the real one, and the dead letters on both, to the same behaviour."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.broker.base import Message, MessageTooLargeError, Producer
from penstock.broker.deadletters import DeadLetterWriter, parse_dead_letter
from penstock.errors import PermanentError, Reason
from penstock.records import Position, Record, Rejected
from tests.broker.harness import DEADLINE_S, TOO_LARGE, Rig, until


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


def test_a_dead_letter_keeps_the_original_and_its_reason(rig: Rig, lanes: Any, producer: Producer) -> None:
    origin = Position("media.image", 5, 17)
    record = Record(origin, b"key", b"value", (("ce_id", b"1"), ("x", b"\xff")), 1_234)
    sink = DeadLetterWriter(producer, rig.topic, offload=lambda _: "", now=lambda: 7.5)
    sent = sink.send(record, Rejected(origin, "decode", Reason.CORRUPT, "not an image: é"))
    lane = lanes()
    until(lambda: bool(lane.records), lane)
    letter = parse_dead_letter(lane.records[0])
    assert letter is not None
    assert letter.position == sent.result(DEADLINE_S)
    assert (letter.origin, letter.reason, letter.step) == (origin, Reason.CORRUPT, "decode")
    assert (letter.detail, letter.failed_at_ms, letter.timestamp_ms) == ("not an image: é", 7_500, 1_234)
    assert (letter.key, letter.value, letter.headers) == (b"key", b"value", record.headers)
    assert (letter.value_bytes, letter.offloaded_uri) == (5, None)
    sink.close()


@pytest.mark.parametrize("key", [b"key", None])
def test_a_value_too_large_for_the_dead_letter_topic_is_offloaded(
    rig: Rig, lanes: Any, producer: Producer, key: bytes | None
) -> None:
    offloaded: list[bytes] = []

    def offload(value: bytes) -> str:
        offloaded.append(value)
        return "asset:1"

    here = Position("media.image", 0, 0)
    sink = DeadLetterWriter(producer, rig.topic, offload=offload)
    sink.send(Record(here, key, b"x" * TOO_LARGE, (), 1), Rejected(here, "fetch", Reason.TOO_LARGE, "")).result(
        DEADLINE_S
    )
    lane = lanes()
    until(lambda: bool(lane.records), lane)
    letter = parse_dead_letter(lane.records[0])
    assert letter is not None
    assert (letter.key, letter.value, letter.value_bytes, letter.offloaded_uri) == (key, None, TOO_LARGE, "asset:1")
    assert offloaded == [b"x" * TOO_LARGE]
    sink.close()


def test_a_dead_letter_whose_value_cannot_be_offloaded_fails(rig: Rig, producer: Producer) -> None:
    def offload(_: bytes) -> str:
        raise OSError("disk full")

    here = Position("media.image", 0, 0)
    sink = DeadLetterWriter(producer, rig.topic, offload=offload)
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
