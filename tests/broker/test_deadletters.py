"""Reads dead letters back; test_contract_writing.py writes them."""

from __future__ import annotations

import pytest
from kafka import KafkaProducer as RawProducer

from penstock.broker.deadletters import DeadLetterWriter, scan_dead_letters, to_message
from penstock.broker.headers import ORIGIN, ORIGIN_TIMESTAMP
from penstock.broker.producer import MessageProducer
from penstock.broker.topics import dead_letter_bytes, ensure_topics
from penstock.config import KafkaSettings
from penstock.errors import ConfigError, Reason
from penstock.records import Modality, Position, Record, Rejected
from tests.broker.harness import DEADLINE_S
from tests.replays import keys_of

HERE = Position("media.text", 1, 2)


def rejected(position: Position, reason: Reason = Reason.CORRUPT, detail: str = "") -> Rejected:
    return Rejected(position, "decode", reason, detail)


@pytest.mark.services
def test_dead_letters_are_selected_by_each_condition(kafka_settings: KafkaSettings) -> None:
    ensure_topics(kafka_settings, [Modality.TEXT])
    producer = MessageProducer(kafka_settings, max_request_bytes=dead_letter_bytes(kafka_settings))
    now = [100.0]
    sink = DeadLetterWriter(producer, kafka_settings.dead_letter_topic, offload=lambda _: "", now=lambda: now[0])
    sent = []
    for number in range(6):
        now[0] += 1
        position = Position("media.image" if number % 2 else "media.text", 0, number)
        record = Record(position, b"k%d" % number, b"v" * number, (("a", b"1"),), 1_000 + number)
        reason = Reason.TOO_LARGE if number < 2 else Reason.CORRUPT
        sent.append(sink.send(record, rejected(position, reason)).result(DEADLINE_S))
    largest = Record(HERE, b"large", b"x" * kafka_settings.max_message_bytes, (), 7)
    sink.send(largest, rejected(HERE)).result(DEADLINE_S)
    sink.close()
    producer.close(5)
    raw = RawProducer(bootstrap_servers=kafka_settings.bootstrap_servers)
    raw.send(kafka_settings.dead_letter_topic, b"somebody else's").get(DEADLINE_S)
    raw.close()

    def offsets(**conditions: object) -> set[int]:
        letters = scan_dead_letters(kafka_settings, **conditions)  # type: ignore[arg-type]
        return {letter.origin.offset for letter in letters if letter.key != b"large"}

    assert offsets() == set(range(6))
    assert offsets(reason=Reason.TOO_LARGE) == {0, 1}
    assert offsets(topic="media.image") == {1, 3, 5}
    assert offsets(key=b"k4") == {4}
    assert offsets(since_ms=104_000) == {3, 4, 5}
    assert len(list(scan_dead_letters(kafka_settings, limit=2))) == 2
    (letter,) = scan_dead_letters(kafka_settings, key=b"k3")
    assert letter.position == sent[3]
    assert (letter.value, letter.value_bytes, letter.headers, letter.timestamp_ms) == (b"vvv", 3, (("a", b"1"),), 1_003)
    (whole,) = scan_dead_letters(kafka_settings, key=b"large")  # any message of a media topic fits
    assert whole.value == largest.value
    assert whole.offloaded_uri is None


@pytest.mark.services
def test_a_missing_dead_letter_topic_is_named(kafka_settings: KafkaSettings) -> None:
    with pytest.raises(ConfigError, match=kafka_settings.dead_letter_topic):
        list(scan_dead_letters(kafka_settings))


def test_a_replay_that_fails_again_keeps_its_origin() -> None:
    headers = ((ORIGIN, b"media.text/7/8"), (ORIGIN_TIMESTAMP, b"99"), ("penstock-reason", b"corrupt"), ("x", b""))
    message = to_message(
        Record(HERE, b"k", b"v", headers, 1),
        rejected(HERE),
        topic="dlq",
        failed_at_ms=5,
        replays=keys_of(allow_unsigned=True),
    )
    written = dict(message.headers)
    assert len(written) == len(message.headers)
    assert (written[ORIGIN], written[ORIGIN_TIMESTAMP], written["x"]) == (b"media.text/7/8", b"99", b"")
    assert message.timestamp_ms == 99


def test_a_record_with_a_forged_origin_is_named_by_its_own_position() -> None:
    record = Record(HERE, b"k", b"v", ((ORIGIN, b"nonsense"),), 1)
    message = to_message(record, rejected(HERE), topic="dlq", failed_at_ms=5, replays=keys_of(allow_unsigned=True))
    assert dict(message.headers)[ORIGIN] == b"media.text/1/2"


def test_a_long_detail_is_cut() -> None:
    message = to_message(
        Record(HERE, b"k", b"v", (), 1),
        rejected(HERE, detail="é" * 9_999),
        topic="d",
        failed_at_ms=5,
        replays=keys_of(allow_unsigned=True),
    )
    assert dict(message.headers)["penstock-detail"].decode() == "é" * 2_000
