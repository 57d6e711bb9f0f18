"""The audit of a real Kafka and a real store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from penstock.audit import run_audit
from penstock.broker.base import Message, Partition
from penstock.broker.consumer import LaneConsumer
from penstock.broker.deadletters import DeadLetterWriter
from penstock.broker.producer import MessageProducer
from penstock.broker.topics import ensure_topics
from penstock.broker.wire import parse_record
from penstock.config import Settings, load_settings, to_environment
from penstock.errors import ConfigError, Reason
from penstock.records import (
    AssetRow,
    Collection,
    Event,
    Inline,
    Modality,
    Outcome,
    Record,
    Rejected,
)
from penstock.store.milvus.store import MilvusStore
from tests.audit.simulated_plane import kinds
from tests.services import kafka_server
from tests.store.builders import entry, spec
from tests.store.scans import all_entries
from tests.store.servers import milvus_lite_server

pytestmark = pytest.mark.services
DEADLINE_S = 20.0


@pytest.fixture(scope="module")
def servers() -> Iterator[Settings]:
    with kafka_server() as kafka, milvus_lite_server() as milvus:
        yield load_settings(
            kafka={"bootstrap_servers": kafka, "group": f"g-{uuid.uuid4().hex[:8]}", "partitions": 2},
            store={"uri": milvus.uri, "timeout_s": 20.0},
        )


def ingest(settings: Settings, store: MilvusStore, count: int) -> None:
    """Settles a number of records in the order of an ingest plane, without its precautions, and commits them."""
    consumer = LaneConsumer(
        settings.kafka, [settings.kafka.text_topic, settings.kafka.image_topic], drain_timeout_s=1.0
    )
    producer = MessageProducer(settings.kafka)
    dead_letters = DeadLetterWriter(producer, settings.kafka.dead_letter_topic, offload=lambda _: "")
    offsets: dict[Partition, int] = {}
    records: list[Record] = []
    while len(records) < count:
        records += consumer.poll(0.2, 500).records
    for record in records:
        modality = settings.kafka.topics()[record.position.topic]
        parsed = parse_record(record, modality=modality, default_tenant="default", max_inline_bytes=1_000)
        if isinstance(parsed, Rejected) or parsed.payload == Inline(b"bad"):
            rejected = Rejected(record.position, "decode", Reason.CORRUPT, "it is bad")
            dead_letters.send(record, rejected).result(DEADLINE_S)
        else:
            write(store, parsed, modality)
        offsets[Partition(record.position.topic, record.position.partition)] = record.position.offset + 1
    consumer.commit(offsets, DEADLINE_S)
    consumer.close(DEADLINE_S)
    dead_letters.close()
    producer.close(DEADLINE_S)


def write(store: MilvusStore, event: Event, modality: Modality) -> None:
    collection = Collection.TEXT if modality is Modality.TEXT else Collection.IMAGE
    count = int(event.payload.data) if isinstance(event.payload, Inline) else 0
    entries = [replace(entry(event.asset, part, collection=collection), origin=event.origin) for part in range(count)]
    present = store.entry_ids(collection, [event.asset.id]).get(event.asset.id, frozenset())
    store.upsert(collection, entries)
    store.delete(collection, sorted(present - {written.id for written in entries}))
    outcome = Outcome.DELETED if event.is_tombstone else Outcome.INDEXED
    store.put_asset_rows([AssetRow(event.asset, event.version, outcome, {collection: count} if count else {}, "", 0)])


def run_command(settings: Settings, code: int, *arguments: str) -> dict[str, Any]:
    """Runs the command as a process of its own, and returns its JSON."""
    command = [sys.executable, "-m", "penstock.cli.main", "audit", "--json", *arguments]
    environment = os.environ | to_environment(settings)
    done = subprocess.run(command, env=environment, capture_output=True, timeout=120, check=False)
    assert done.returncode == code, done.stderr.decode()
    output: dict[str, Any] = json.loads(done.stdout)
    return output


def test_real_servers_balance_until_an_entry_is_removed(servers: Settings) -> None:
    ensure_topics(servers.kafka, servers.ingest.modalities)
    with pytest.raises(ConfigError, match="no collection asset of version 1"):
        run_audit(servers)
    store = MilvusStore(servers.store)
    store.ensure(spec())
    producer = MessageProducer(servers.kafka)
    values = [b"1", b"3", None, b"bad", b"2"]
    topics = [servers.kafka.text_topic, servers.kafka.image_topic]
    for number in range(60):
        message = Message(topics[number % 2], b"k%d" % (number % 14), values[number % 5])
        producer.send(message).result(DEADLINE_S)
    ingest(servers, store, 60)
    producer.send(Message(topics[0], b"k0", b"1")).result(DEADLINE_S)
    producer.close(DEADLINE_S)

    report = run_audit(servers)
    assert kinds(report) == {}
    assert report.balanced
    assert (report.produced, report.in_flight) == (60, 1)
    assert report.produced == report.indexed + report.deleted + report.superseded + report.dead_lettered
    assert min(report.indexed, report.deleted, report.superseded, report.dead_lettered) > 0
    assert report.entries == store.count(Collection.TEXT) + store.count(Collection.IMAGE)
    whole = run_audit(servers, sample=1.0)
    assert (whole.produced, whole.indexed, whole.entries) == (60, report.indexed, report.entries)

    taken = all_entries(store, Collection.IMAGE)[0]
    store.delete(Collection.IMAGE, [taken.id])
    store.upsert(Collection.TEXT, [replace(taken, collection=Collection.TEXT, id="f" * 32)])
    output = run_command(servers, 1)
    assert output["problem_counts"] == {"incomplete": 1, "misnamed": 1, "leftover": 1}
    assert {problem["entry"] for problem in output["problems"]} == {taken.id, "f" * 32}
    store.close()
