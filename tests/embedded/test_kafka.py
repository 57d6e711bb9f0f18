from __future__ import annotations

import os
import socket
from pathlib import Path

import psutil
import pytest
from cloudevents.core.bindings import kafka as ce_kafka
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.structs import OffsetAndMetadata
from pydantic import SecretStr

from penstock.broker.base import Partition
from penstock.broker.consumer import LaneConsumer
from penstock.broker.reader import KafkaReader
from penstock.broker.topics import ensure_topics
from penstock.broker.users import set_password
from penstock.broker.wire import parse_record
from penstock.config import Endpoints, KafkaSettings
from penstock.config.endpoints import kafka_of
from penstock.embedded.kafka import EmbeddedKafka
from penstock.errors import ConfigError, PermanentError, UnavailableError
from penstock.records import Event, Inline, Modality
from tests.broker.harness import DEADLINE_S, PollLog, until
from tests.services import console_producer


@pytest.mark.services
def test_records_and_committed_offsets_survive_a_restart_and_a_kill(tmp_path: Path) -> None:
    broker = EmbeddedKafka(tmp_path / "kafka", heap_mb=384)
    settings = KafkaSettings(bootstrap_servers=broker.start(), partitions=1)
    try:
        ensure_topics(settings, [Modality.TEXT])
        tp = TopicPartition(settings.text_topic, 0)
        for number, end in enumerate((broker.stop, broker.kill, lambda: None)):
            producer = KafkaProducer(bootstrap_servers=settings.bootstrap_servers)
            assert producer.send(tp.topic, b"%d" % number).get(DEADLINE_S).offset == number
            producer.close()
            consumer = KafkaConsumer(bootstrap_servers=settings.bootstrap_servers, group_id="g")
            consumer.assign([tp])
            assert consumer.committed(tp) == (number or None)
            consumer.commit({tp: OffsetAndMetadata(number + 1, "", -1)})
            consumer.close()
            end()
            if broker.pid is None:
                assert broker.start() == settings.bootstrap_servers  # the same port
    finally:
        broker.kill()


@pytest.mark.services
@pytest.mark.exhaustive
def test_a_broker_with_a_password_lets_in_who_reads_the_folder_and_no_other(tmp_path: Path) -> None:
    broker = EmbeddedKafka(tmp_path / "kafka", heap_mb=384, secured=True)
    try:
        address = broker.start()
        endpoints = Endpoints(
            pid=os.getpid(),
            bootstrap_servers=address,
            store_uri="",
            ray_address="",
            query_url="",
            kafka_password_file=broker.password_file,
        )
        settings = kafka_of(endpoints, KafkaSettings(partitions=1))
        ensure_topics(settings, [Modality.TEXT])
        with pytest.raises(UnavailableError):
            ensure_topics(KafkaSettings(bootstrap_servers=address), [Modality.TEXT])
        with pytest.raises(PermanentError, match=r"could not set the password of '': the broker says"):
            set_password(settings, "", "password")
        wrong = {"sasl_password": SecretStr("wrong"), "sasl_password_file": None}
        with pytest.raises(ConfigError, match="refuses the user penstock by SCRAM-SHA-512"):
            ensure_topics(settings.model_copy(update=wrong), [Modality.TEXT])
        client = tmp_path / "kafka" / "client.properties"
        console_producer(address, settings.text_topic, b"greeting:hello\n", client)
        broker.kill()
        assert broker.start() == address
        assert KafkaReader(settings).bounds([settings.text_topic])[Partition(settings.text_topic, 0)].end == 1
        for file in ("password", "client.properties", "server.properties"):
            assert (tmp_path / "kafka" / file).stat().st_mode & 0o777 == 0o600
    finally:
        broker.kill()


@pytest.mark.services
def test_a_broker_is_alone_on_its_folder_listens_on_loopback_and_leaves_no_process(tmp_path: Path) -> None:
    with EmbeddedKafka(tmp_path, heap_mb=384) as broker:
        pid = broker.pid
        assert pid is not None
        assert psutil.Process(pid).name() == "java"
        addresses = {listening.laddr.ip for listening in psutil.Process(pid).net_connections() if not listening.raddr}
        assert {address.removeprefix("::ffff:") for address in addresses} == {"127.0.0.1"}

        second = EmbeddedKafka(tmp_path, heap_mb=384)
        with pytest.raises(UnavailableError, match=r"kafka\.log"):
            second.start()
        assert second.pid is None
    assert broker.pid is None
    assert not psutil.pid_exists(pid)


@pytest.mark.services
def test_a_bare_value_of_kafkas_console_producer_is_understood(kafka_settings: KafkaSettings, text_topic: str) -> None:
    assert kafka_settings.bootstrap_servers is not None
    console_producer(kafka_settings.bootstrap_servers, text_topic, b"greeting:hello there\n")
    lane = PollLog(LaneConsumer(kafka_settings, [text_topic], drain_timeout_s=5))
    until(lambda: bool(lane.records), lane)
    lane.consumer.close(5)
    event = parse_record(lane.records[0], modality=Modality.TEXT, default_tenant="default", max_inline_bytes=100)
    assert isinstance(event, Event)
    assert (event.asset.key, event.payload) == ("greeting", Inline(b"hello there"))


@pytest.mark.services
def test_a_structured_event_of_the_cloudevents_sdk_is_understood(
    kafka_settings: KafkaSettings, text_topic: str, raw_producer: KafkaProducer
) -> None:
    event = CloudEvent({"type": "note", "source": "desk", "subject": "memo", "datacontenttype": "text/plain"}, "hello")
    message = ce_kafka.to_structured(event, JSONFormat())
    raw_producer.send(text_topic, message.value, headers=list(message.headers.items())).get(DEADLINE_S)
    lane = PollLog(LaneConsumer(kafka_settings, [text_topic], drain_timeout_s=5))
    until(lambda: bool(lane.records), lane)
    lane.consumer.close(5)
    parsed = parse_record(lane.records[0], modality=Modality.TEXT, default_tenant="default", max_inline_bytes=1_000)
    assert isinstance(parsed, Event)
    assert (parsed.asset.key, parsed.payload, parsed.content_type) == ("memo", Inline(b"hello"), "text/plain")


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"{port}: the port is in use"):
            EmbeddedKafka(tmp_path).start(port)
