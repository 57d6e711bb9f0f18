"""Reads when single records were produced, from a real broker."""

from __future__ import annotations

import pytest
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import NewTopic

from penstock.broker.base import Partition
from penstock.broker.record_times import record_times
from penstock.config import KafkaSettings
from penstock.errors import UnavailableError
from penstock.processes import free_port

pytestmark = pytest.mark.services


def test_the_record_at_the_offset_is_dated_however_large_the_log_and_the_records(
    kafka_settings: KafkaSettings,
) -> None:
    topic = kafka_settings.image_topic
    admin = KafkaAdminClient(bootstrap_servers=kafka_settings.bootstrap_servers)
    admin.create_topics([NewTopic(topic, 3, 1, topic_configs={"max.message.bytes": "4000000"})], wait_for_metadata=True)
    admin.close()
    producer = KafkaProducer(bootstrap_servers=kafka_settings.bootstrap_servers, max_request_size=4_000_000)
    for number in range(20):
        for partition in (0, 1):
            producer.send(topic, b"x" * 500_000, partition=partition, timestamp_ms=1_000 * number + partition)
        producer.flush()
    producer.close()
    early, late, empty = (Partition(topic, number) for number in range(3))
    assert record_times(kafka_settings, {early: 7, late: 19, empty: 0}) == {early: 7_000, late: 19_001}
    assert record_times(kafka_settings, {}) == {}


def test_an_absent_broker_is_an_error() -> None:
    absent = KafkaSettings(bootstrap_servers=f"127.0.0.1:{free_port()}")
    with pytest.raises(UnavailableError):
        record_times(absent, {Partition("media.text", 0): 0})
