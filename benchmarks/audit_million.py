"""`penstock audit` over many events: its time and its peak memory, as a process of its own.

    python -m benchmarks.audit_million --events 1000000 --store standalone

A real Kafka takes the events and the offsets, a real store the entries (8 dimensions, from a hash) and asset rows. They
are written straight, as the writer would write them, because filling an index is not what is measured. Of a hundred
events one is a dead letter, one a deletion, one superseded by the next; the others are indexed with one entry each.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from penstock.assembly import open_store
from penstock.broker.base import Message
from penstock.broker.consumer import LaneConsumer
from penstock.broker.deadletters import to_message
from penstock.broker.producer import MessageProducer
from penstock.broker.topics import ensure_topics, group_lag
from penstock.broker.wire import parse_record
from penstock.config import Settings, load_settings, to_environment
from penstock.embedded.kafka import EmbeddedKafka
from penstock.embedded.milvus import EmbeddedMilvus
from penstock.encoders.base import Fingerprint, Space
from penstock.encoders.null import NullEncoder
from penstock.encoders.profiles import NullSpec, clip_image_spec
from penstock.errors import Reason
from penstock.records import (
    AssetRow,
    Collection,
    EncoderInput,
    Entry,
    Event,
    Field,
    Modality,
    Outcome,
    Record,
    Rejected,
    bare_entry,
)
from penstock.store.base import IndexSpec, VectorSpec
from penstock.store.milvus.store import MilvusStore

DIM = 8
CHUNK = 10_000
DEADLINE_S = 60.0
SPACE, MADE_BY = Space("null", DIM), Fingerprint("null", "0" * 16, "0" * 16)
SPEC = IndexSpec(
    vectors={
        Collection.TEXT: {Field.PASSAGE: VectorSpec(SPACE, MADE_BY)},
        Collection.IMAGE: {Field.JOINT: VectorSpec(SPACE, MADE_BY)},
    },
    model_slug={Collection.TEXT: "null", Collection.IMAGE: "null"},
    version=1,
    num_shards=2,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--store", choices=("lite", "standalone"), default="standalone")
    parser.add_argument("--sample", type=float, help="audit this share of the assets instead of all")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="penstock-bench-", ignore_cleanup_errors=True))
        )
        settings = serve(stack, folder, arguments.store)
        began = time.monotonic()
        fill(settings, arguments.events)
        print(f"filled with {arguments.events:,} events in {time.monotonic() - began:.0f} s", file=sys.stderr)
        options = [] if arguments.sample is None else ["--sample", str(arguments.sample)]
        print(json.dumps(measure(settings, folder, options), indent=2))


def serve(stack: ExitStack, folder: Path, kind: str) -> Settings:
    """Starts Kafka and the store; both end with the stack."""
    kafka = EmbeddedKafka(folder / "kafka")
    stack.callback(kafka.kill)
    kafka.start()
    if kind == "lite":
        milvus: Any = EmbeddedMilvus(folder / "milvus")
    else:
        from tests.store.servers import Standalone

        milvus = Standalone(folder / "milvus")
    stack.callback(milvus.kill)
    milvus.start()
    return load_settings(
        data_dir=folder,
        kafka={"bootstrap_servers": kafka.bootstrap_servers},
        store={"uri": milvus.uri, "timeout_s": 120.0},
    )


# ---- filling ----


def fill(settings: Settings, events: int) -> None:
    ensure_topics(settings.kafka, settings.ingest.modalities)
    store = open_store(settings.store)
    store.ensure(SPEC)
    producer = MessageProducer(settings.kafka)
    encoder = NullEncoder("passage.text", NullSpec("null", SPACE, clip_image_spec(8)), MADE_BY, cache_size=0)
    for first in range(0, events, CHUNK):
        numbers = range(first, min(first + CHUNK, events))
        records = produce(producer, settings.kafka.text_topic, numbers)
        settle(settings, producer, store, encoder, records)
        print(f"\r{numbers.stop:,}", end="", file=sys.stderr, flush=True)
    producer.close(DEADLINE_S)
    commit(settings)
    store.close()


def produce(producer: MessageProducer, topic: str, numbers: Sequence[int]) -> list[tuple[int, Record]]:
    now_ms = time.time_ns() // 1_000_000
    sent = []
    for number in numbers:
        key = b"key-%d" % (number - 1 if number % 100 == 3 else number)
        value = None if number % 100 == 1 else b"The text of event %d, which is not long." % number
        sent.append((number, key, value, producer.send(Message(topic, key, value, timestamp_ms=now_ms))))
    return [(number, Record(future.result(DEADLINE_S), key, value, (), now_ms)) for number, key, value, future in sent]


def settle(
    settings: Settings,
    producer: MessageProducer,
    store: MilvusStore,
    encoder: NullEncoder,
    records: list[tuple[int, Record]],
) -> None:
    """Dead letters, entries and rows of these events."""
    events: list[Event] = []
    letters = []
    for number, record in records:
        if number % 100 == 0:
            rejected = Rejected(record.position, "decode", Reason.CORRUPT, "every hundredth is")
            letters.append(
                producer.send(to_message(record, rejected, topic=settings.kafka.dead_letter_topic, failed_at_ms=1))
            )
        elif number % 100 != 2:
            event = parse_record(
                record,
                modality=Modality.TEXT,
                default_tenant=settings.tenant,
                max_inline_bytes=settings.fetch.max_bytes,
            )
            assert isinstance(event, Event)
            events.append(event)
    for letter in letters:
        letter.result(DEADLINE_S)
    store.upsert(Collection.TEXT, list(entries(encoder, [event for event in events if not event.is_tombstone])))
    store.put_asset_rows([row(event) for event in events])


def entries(encoder: NullEncoder, events: list[Event]) -> Iterator[Entry]:
    texts = tuple(event.asset.key for event in events)
    vectors = encoder.encode(EncoderInput(encoder.name, texts, texts)).vectors
    for event, vector in zip(events, vectors, strict=True):
        yield replace(
            bare_entry(event.asset, Collection.TEXT),
            text=event.asset.key,
            uri="asset:" + "0" * 64,
            mime="text/plain",
            event_time_ms=event.timestamp_ms,
            indexed_at_ms=event.timestamp_ms,
            origin=event.origin,
            vectors={Field.PASSAGE: vector},
        )


def row(event: Event) -> AssetRow:
    if event.is_tombstone:
        return AssetRow(event.asset, event.version, Outcome.DELETED, {}, "", event.timestamp_ms)
    uri, counts = "asset:" + "0" * 64, {Collection.TEXT: 1}
    return AssetRow(event.asset, event.version, Outcome.INDEXED, counts, uri, event.timestamp_ms)


def commit(settings: Settings) -> None:
    """The group's offsets at the ends of the topic."""
    ends = {lag.partition: lag.log_end for lag in group_lag(settings.kafka, [settings.kafka.text_topic])}
    consumer = LaneConsumer(settings.kafka, [settings.kafka.text_topic], drain_timeout_s=1.0)
    while set(ends) - set(consumer.assignments()):
        consumer.poll(0.2, 1)
    consumer.commit(ends, DEADLINE_S)
    consumer.close(DEADLINE_S)


# ---- measuring ----


def measure(settings: Settings, folder: Path, arguments: list[str]) -> dict[str, Any]:
    """Runs the command. Peak memory is the kernel's word: the largest resident set that the process ever had."""
    answer = folder / "audit.json"
    command = [sys.executable, "-m", "penstock.cli.main", "audit", "--json", *arguments]
    began = time.monotonic()
    with answer.open("wb") as out:
        child = subprocess.Popen(command, env=os.environ | to_environment(settings), stdout=out)
        _, status, usage = os.wait4(child.pid, 0)
    took_s = time.monotonic() - began
    report = json.loads(answer.read_text())
    kept = {name: value for name, value in report.items() if name not in ("partitions", "problems", "unseen")}
    return {
        **kept,
        "problems": report["problems"][:3],
        "exit_code": os.waitstatus_to_exitcode(status),
        "took_s": round(took_s, 1),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_rss_mb": round(usage.ru_maxrss / 1024),
    }


if __name__ == "__main__":
    main()
