"""Tests the behaviour of the real consumer that the double does not have; test_contract.py has the rest."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka.admin import NewTopic
from kafka.errors import KafkaTimeoutError, LogTruncationError
from kafka.structs import OffsetAndMetadata

from penstock.broker.base import Partition
from penstock.broker.consumer import LaneConsumer
from penstock.config import KafkaSettings
from penstock.embedded.kafka import EmbeddedKafka
from penstock.errors import ConfigError, FencedError, UnavailableError
from penstock.processes import free_port
from tests.broker.harness import DEADLINE_S, PollLog, until
from tests.services import kafka_broker

pytestmark = pytest.mark.services


@pytest.fixture
def broker() -> Iterator[EmbeddedKafka]:
    with kafka_broker() as broker:
        yield broker


def settings_of(broker: EmbeddedKafka) -> KafkaSettings:
    """Creates one text topic of two partitions, and returns the settings of its broker."""
    settings = KafkaSettings(
        bootstrap_servers=broker.bootstrap_servers, session_timeout_ms=3_000, max_poll_interval_ms=30_000
    )
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
    admin.create_topics([NewTopic(settings.text_topic, 2, 1)], wait_for_metadata=True)
    admin.close()
    return settings


def write(broker: EmbeddedKafka, topic: str, values: list[bytes]) -> None:
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap_servers)
    for value in values:
        producer.send(topic, value, partition=0).get(DEADLINE_S)
    producer.close()


def test_an_outage_of_the_broker_loses_nothing(broker: EmbeddedKafka) -> None:
    settings = settings_of(broker)
    partition = Partition(settings.text_topic, 0)
    write(broker, settings.text_topic, [b"a", b"b"])
    lane = PollLog(LaneConsumer(settings, [settings.text_topic], drain_timeout_s=5))
    until(lambda: len(lane.records) == 2, lane)
    lane.consumer.commit({partition: 1}, 5)

    broker.kill()
    until(lambda: not lane.consumer.poll(0.1, 10).broker_available)
    with pytest.raises(UnavailableError, match="commit"):
        lane.consumer.commit({partition: 2}, 1)

    broker.start()
    write(broker, settings.text_topic, [b"c"])
    until(lambda: bool(lane.records) and lane.values()[-1] == b"c", lane)
    until(lambda: len(lane.owned) == 2, lane)
    lane.consumer.commit({partition: 3}, 10)
    lane.consumer.close(5)

    again = PollLog(LaneConsumer(settings, [settings.text_topic], drain_timeout_s=5))
    until(lambda: len(again.owned) == 2, again)
    assert {assigned.start for assigned in again.assigned if assigned.partition == partition} == {3}
    again.consumer.close(5)


def test_a_consumer_may_start_before_its_broker() -> None:
    port = free_port()
    settings = KafkaSettings(bootstrap_servers=f"127.0.0.1:{port}", session_timeout_ms=3_000)
    consumer = LaneConsumer(settings, [settings.text_topic], drain_timeout_s=5)
    threads = threading.active_count()
    started = time.monotonic()
    for _ in range(3):
        polled = consumer.poll(0.5, 10)
        assert not polled.broker_available
        assert not polled.records
    assert time.monotonic() - started < 10
    assert consumer.generation() == -1
    assert threading.active_count() == threads  # nothing is left behind by attempts that failed
    consumer.close(1)


def test_a_lane_that_slept_through_its_session_cannot_commit(kafka_settings: KafkaSettings, text_topic: str) -> None:
    """As after SIGSTOP and SIGCONT: it still believes that it owns its partitions."""
    lane = PollLog(LaneConsumer(kafka_settings, [text_topic], drain_timeout_s=5))
    until(lambda: len(lane.owned) == 4, lane)
    stopped, resume = threading.Event(), threading.Event()

    def sleep() -> None:
        stopped.set()
        resume.wait()

    client = lane.consumer._member.client
    client._net.call_soon_threadsafe(sleep)  # the network thread does nothing, so no heartbeats
    stopped.wait()
    other = PollLog(LaneConsumer(kafka_settings, [text_topic], drain_timeout_s=5))
    until(lambda: len(other.owned) == 4, other)
    resume.set()
    with pytest.raises(FencedError):
        lane.consumer.commit({Partition(text_topic, 0): 1}, 10)
    until(lambda: len(lane.lost) == 4, lane, other)
    lane.consumer.close(5)
    other.consumer.close(5)


def test_members_that_poll_in_short_steps_reach_a_stable_generation(
    kafka_settings: KafkaSettings, text_topic: str
) -> None:
    """kafka-python alone discards a join that was answered between two polls, and starts again, without end."""
    lanes = [PollLog(LaneConsumer(kafka_settings, [text_topic], drain_timeout_s=5)) for _ in range(3)]
    until(lambda: len(lanes[0].owned) == 4, lanes[0])

    def settled() -> bool:
        for lane in lanes:
            lane.consumer.release(lane.revoking)
        return [len(lane.owned) for lane in lanes] == [2, 1, 1]

    until(settled, *lanes)
    generation = max(lane.consumer.generation() for lane in lanes)
    assert generation < 12  # three joins and their follow-ups; a storm has dozens
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        for lane in lanes:
            lane.poll()
    assert {lane.consumer.generation() for lane in lanes} == {generation}
    for lane in lanes:
        lane.consumer.close(5)


def test_a_slow_lane_keeps_its_partitions_as_long_as_it_polls(kafka_settings: KafkaSettings, text_topic: str) -> None:
    settings = kafka_settings.model_copy(update={"max_poll_interval_ms": 4_000})
    lane = PollLog(LaneConsumer(settings, [text_topic], drain_timeout_s=1))
    until(lambda: len(lane.owned) == 4, lane)
    lane.consumer.pause(list(lane.owned))
    deadline = time.monotonic() + 6
    while time.monotonic() < deadline:
        lane.poll()
    assert lane.lost == lane.revoking == []
    lane.consumer.commit({Partition(text_topic, 0): 0}, 5)
    lane.consumer.close(5)


def test_large_messages_are_delivered(kafka_settings: KafkaSettings) -> None:
    settings = kafka_settings.model_copy(update={"max_message_bytes": 8 * 1024 * 1024})
    admin = KafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
    configs = {"max.message.bytes": str(12 * 1024 * 1024)}
    admin.create_topics([NewTopic(settings.text_topic, 1, 1, topic_configs=configs)], wait_for_metadata=True)
    admin.close()
    producer = KafkaProducer(bootstrap_servers=settings.bootstrap_servers, max_request_size=16 * 1024 * 1024)
    sizes = [10 * 1024 * 1024, 1, 7 * 1024 * 1024]  # the first is above what the settings expect
    for size in sizes:
        producer.send(settings.text_topic, b"x" * size).get(DEADLINE_S)
    producer.close()
    lane = PollLog(LaneConsumer(settings, [settings.text_topic], drain_timeout_s=5))
    until(lambda: len(lane.records) == 3, lane)
    assert [len(value or b"") for value in lane.values()] == sizes
    lane.consumer.close(5)


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_every_compression_that_producers_offer_is_read(
    kafka_settings: KafkaSettings, text_topic: str, codec: str
) -> None:
    producer = KafkaProducer(
        bootstrap_servers=kafka_settings.bootstrap_servers, compression_type=codec, linger_ms=200, batch_size=1 << 20
    )
    sent = [producer.send(text_topic, b"heron " * 20_000, partition=0) for _ in range(3)]
    for future in sent:
        future.get(DEADLINE_S)
    producer.close()
    lane = PollLog(LaneConsumer(kafka_settings, [text_topic], drain_timeout_s=5))
    until(lambda: len(lane.records) == 3, lane)
    assert set(lane.values()) == {b"heron " * 20_000}
    assert lane.unreadable == []
    lane.consumer.close(5)


def test_a_log_truncated_to_an_unknown_offset_is_looked_up_until_it_is_found(
    kafka_settings: KafkaSettings, text_topic: str
) -> None:
    """kafka-python reports a truncation once: records would be skipped once the log has grown past the position."""
    producer = KafkaProducer(bootstrap_servers=kafka_settings.bootstrap_servers)
    for number in (0, 1):
        for _ in range(3):
            producer.send(text_topic, b"v", partition=number).get(DEADLINE_S)
    lane = PollLog(LaneConsumer(kafka_settings, [text_topic], drain_timeout_s=5))
    until(lambda: len(lane.records) == 6, lane)
    client = lane.consumer._member.client
    starts = client.beginning_offsets
    client.beginning_offsets = lambda *_, **__: (_ for _ in ()).throw(KafkaTimeoutError())
    divergent = {TopicPartition(text_topic, 0): None, TopicPartition(text_topic, 1): OffsetAndMetadata(2, "", 0)}
    not_owned = {TopicPartition(text_topic, 99): OffsetAndMetadata(1, "", 0)}
    client._fetcher._cached_log_truncation = LogTruncationError(divergent | not_owned)
    truncated = list(lane.consumer.poll(1, 100).truncated)
    assert truncated == [(Partition(text_topic, 1), 2)]
    for number in (0, 1):
        producer.send(text_topic, b"w", partition=number).get(DEADLINE_S)
    until(lambda: len(lane.of(Partition(text_topic, 1))) == 5, lane)
    lane.consumer.resume([Partition(text_topic, 0)])
    lane.poll()
    assert len(lane.of(Partition(text_topic, 0))) == 3
    client.beginning_offsets = starts
    until(lambda: len(lane.of(Partition(text_topic, 0))) == 7, lane)
    lane.consumer.close(5)
    producer.close()


def test_a_drain_as_long_as_the_group_waits_is_refused() -> None:
    with pytest.raises(ConfigError, match="drain_timeout_s"):
        LaneConsumer(
            KafkaSettings(bootstrap_servers="localhost:1", max_poll_interval_ms=5_000), ["t"], drain_timeout_s=5
        )


def test_no_bootstrap_servers_are_one_clear_line() -> None:
    with pytest.raises(ConfigError, match=r"kafka\.bootstrap_servers"):
        LaneConsumer(KafkaSettings(), ["t"], drain_timeout_s=5)
