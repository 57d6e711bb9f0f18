from __future__ import annotations

import pytest
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, NewTopic

from penstock.broker.base import LostRange, Partition
from penstock.broker.consumer import LaneConsumer
from penstock.broker.topic_findings import FindingKind
from penstock.broker.topics import dead_letter_bytes, ensure_changes_topic, ensure_topics, group_lag
from penstock.config import KafkaSettings
from penstock.errors import PermanentError, UnavailableError
from penstock.processes import free_port
from penstock.records import Modality
from tests.broker.harness import DEADLINE_S, PollLog, until

pytestmark = pytest.mark.services
BOTH = (Modality.TEXT, Modality.IMAGE)


def topic_settings(kafka_settings: KafkaSettings, topic: str) -> dict[str, str]:
    admin = KafkaAdminClient(bootstrap_servers=kafka_settings.bootstrap_servers)
    described = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)], config_filter="all")
    admin.close()
    return {name: config["value"] for name, config in described["topic"][topic].items()}


def test_missing_topics_are_created_as_stated(kafka_settings: KafkaSettings) -> None:
    report = ensure_topics(kafka_settings, BOTH)
    required = {kafka_settings.text_topic, kafka_settings.image_topic, kafka_settings.dead_letter_topic}
    assert set(report.created) == required
    assert report.partitions == dict.fromkeys(required, 4)
    assert report.findings == ()
    assert topic_settings(kafka_settings, kafka_settings.text_topic)["max.message.bytes"] == str(16 * 1024 * 1024)
    dead = topic_settings(kafka_settings, kafka_settings.dead_letter_topic)
    assert (dead["retention.ms"], dead["cleanup.policy"]) == ("-1", "delete")
    assert int(dead["max.message.bytes"]) == dead_letter_bytes(kafka_settings) > 16 * 1024 * 1024


def test_a_second_call_changes_nothing(kafka_settings: KafkaSettings) -> None:
    ensure_topics(kafka_settings, BOTH)
    report = ensure_topics(kafka_settings, BOTH)
    assert report.created == ()
    assert report.findings == ()


def test_wrong_settings_of_existing_topics_are_reported_and_not_changed(kafka_settings: KafkaSettings) -> None:
    admin = KafkaAdminClient(bootstrap_servers=kafka_settings.bootstrap_servers)
    small = {"max.message.bytes": "1000000"}
    compacted = {"cleanup.policy": "compact", "retention.ms": "1000", "max.message.bytes": "99999999"}
    admin.create_topics(
        [
            NewTopic(kafka_settings.text_topic, 7, 1, topic_configs=small),
            NewTopic(kafka_settings.dead_letter_topic, 1, 1, topic_configs=compacted),
        ],
        wait_for_metadata=True,
    )
    admin.close()
    report = ensure_topics(kafka_settings, BOTH)
    assert report.created == (kafka_settings.image_topic,)
    assert report.partitions[kafka_settings.text_topic] == 7
    assert {(finding.topic, finding.kind) for finding in report.findings} == {
        (kafka_settings.text_topic, FindingKind.MAX_MESSAGE_BYTES),
        (kafka_settings.dead_letter_topic, FindingKind.RETENTION),
        (kafka_settings.dead_letter_topic, FindingKind.CLEANUP_POLICY),
    }
    assert all("\n" not in str(finding) and "kafka-configs" in str(finding) for finding in report.findings)
    assert topic_settings(kafka_settings, kafka_settings.text_topic)["max.message.bytes"] == "1000000"


def test_a_replication_that_the_cluster_cannot_give_is_one_clear_line(kafka_settings: KafkaSettings) -> None:
    with pytest.raises(PermanentError, match="InvalidReplicationFactor"):
        ensure_topics(kafka_settings.model_copy(update={"replication_factor": 3}), BOTH)


def test_wrong_bootstrap_servers_are_one_clear_line() -> None:
    server = f"127.0.0.1:{free_port()}"
    with pytest.raises(UnavailableError, match=server):
        ensure_topics(KafkaSettings(bootstrap_servers=server), BOTH)


def test_lag_is_counted_from_the_committed_offset(kafka_settings: KafkaSettings, text_topic: str) -> None:
    producer = KafkaProducer(bootstrap_servers=kafka_settings.bootstrap_servers)
    for partition in (0, 1):
        for _ in range(5):
            producer.send(text_topic, b"x", partition=partition).get(DEADLINE_S)
    producer.close()
    assert [partition.lag for partition in group_lag(kafka_settings)] == [5, 5, 0, 0]

    lane = PollLog(LaneConsumer(kafka_settings, [text_topic], drain_timeout_s=5))
    until(lambda: len(lane.records) == 10, lane)
    lane.consumer.commit({Partition(text_topic, 0): 2, Partition(text_topic, 1): 1}, 5)
    lane.consumer.close(5)
    admin = KafkaAdminClient(bootstrap_servers=kafka_settings.bootstrap_servers)
    admin.delete_records({TopicPartition(text_topic, 1): 3})
    admin.close()

    first, second, third, _ = group_lag(kafka_settings, [text_topic, "no-such-topic"])
    assert (first.committed, first.log_start, first.log_end, first.lag, first.lost) == (2, 0, 5, 3, None)
    assert (second.committed, second.log_start, second.log_end, second.lag) == (1, 3, 5, 2)
    assert second.lost == LostRange(Partition(text_topic, 1), 1, 3)
    assert (third.committed, third.lag) == (None, 0)


def test_the_topic_of_changes_is_created_apart_and_keeps_a_day(kafka_settings: KafkaSettings) -> None:
    topic = f"{kafka_settings.text_topic}.changes"
    settings = kafka_settings.model_copy(update={"changes_topic": topic})
    ensure_changes_topic(settings)
    ensure_changes_topic(settings)
    created = topic_settings(settings, topic)
    assert (created["retention.ms"], created["cleanup.policy"]) == (str(24 * 3_600_000), "delete")
    ensure_changes_topic(KafkaSettings(bootstrap_servers="127.0.0.1:1", changes_topic=""))
