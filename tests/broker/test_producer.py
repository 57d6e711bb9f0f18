"""Tests the behaviour of the real producer that the double does not have; test_contract_writing.py has the rest."""

from __future__ import annotations

import time

import pytest

from penstock.broker.base import Message, MessageTooLargeError
from penstock.broker.producer import MessageProducer
from penstock.broker.topics import ensure_topics
from penstock.config import KafkaSettings
from penstock.errors import UnavailableError
from penstock.processes import free_port
from tests.broker.harness import DEADLINE_S
from tests.services import kafka_broker

pytestmark = pytest.mark.services


def test_wrong_bootstrap_servers_are_one_clear_line_within_ten_seconds() -> None:
    where = f"127.0.0.1:{free_port()}"
    started = time.monotonic()
    with pytest.raises(UnavailableError, match=where) as caught:
        MessageProducer(KafkaSettings(bootstrap_servers=where), max_request_bytes=1_000)
    assert time.monotonic() - started < 12
    assert "\n" not in str(caught.value)


def test_a_message_above_the_producers_own_limit_is_not_sent(kafka_settings: KafkaSettings, text_topic: str) -> None:
    producer = MessageProducer(kafka_settings, max_request_bytes=10_000)
    with pytest.raises(MessageTooLargeError, match="10,000"):
        producer.send(Message(text_topic, b"k", b"x" * 10_000)).result(DEADLINE_S)
    fits = producer.send(Message(text_topic, b"k", b"x" * 9_900))
    assert fits.result(DEADLINE_S).offset == 0
    producer.close(5)


def test_a_topic_that_does_not_exist_fails_the_message(kafka_settings: KafkaSettings) -> None:
    producer = MessageProducer(kafka_settings)
    with pytest.raises(UnavailableError, match=kafka_settings.text_topic):
        producer.send(Message(kafka_settings.text_topic, b"k", b"v")).result(DEADLINE_S)
    producer.close(5)


def test_messages_of_one_partition_keep_their_order(kafka_settings: KafkaSettings, text_topic: str) -> None:
    producer = MessageProducer(kafka_settings)
    sent = [producer.send(Message(text_topic, None, b"%d" % number, partition=0)) for number in range(500)]
    assert [future.result(DEADLINE_S).offset for future in sent] == list(range(500))
    producer.flush(1)
    producer.close(5)


def test_messages_wait_while_the_broker_is_unavailable_and_then_arrive() -> None:
    with kafka_broker() as broker:
        settings = KafkaSettings(bootstrap_servers=broker.bootstrap_servers)
        ensure_topics(settings, [])
        producer = MessageProducer(settings)
        producer.send(Message(settings.dead_letter_topic, b"k", b"1")).result(DEADLINE_S)
        broker.kill()
        waiting = producer.send(Message(settings.dead_letter_topic, b"k", b"2"))
        with pytest.raises(UnavailableError, match="1 messages"):
            producer.flush(0.5)
        broker.start()
        assert waiting.result(DEADLINE_S).offset == 1
        broker.kill()
        lost = producer.send(Message(settings.dead_letter_topic, b"k", b"3"))
        producer.close(0.5)
        with pytest.raises(UnavailableError):
            lost.result(1)
