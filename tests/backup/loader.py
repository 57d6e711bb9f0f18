"""Fills an index as an ingest plane does, with vectors that follow from the keys: 20,000 entries in seconds."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from penstock.assets import AssetStore, asset_uri
from penstock.broker.base import Message, Partition
from penstock.broker.consumer import LaneConsumer
from penstock.broker.deadletters import DeadLetterWriter
from penstock.broker.producer import MessageProducer
from penstock.broker.wire import parse_record
from penstock.config import Settings
from penstock.encoders.base import Fingerprint, Space
from penstock.errors import Reason
from penstock.records import (
    AssetRow,
    Collection,
    Entry,
    Event,
    Field,
    Float32,
    Inline,
    Modality,
    Outcome,
    Record,
    Rejected,
    bare_entry,
)
from penstock.store.base import IndexSpec, VectorSpec
from penstock.store.milvus.store import MilvusStore

DIM = 384
GROUP = 20  # ten texts and ten images
DEADLINE_S = 60.0
_AT_A_TIME = 500


def spec_of() -> IndexSpec:
    """Returns collections of texts and images whose first fields have `DIM` dimensions."""
    joint = VectorSpec(Space("joint", DIM), Fingerprint("joint", "a" * 16, "b" * 16))
    passage = VectorSpec(Space("passage", DIM), Fingerprint("passage", "c" * 16, "d" * 16))
    return IndexSpec(
        vectors={Collection.TEXT: {Field.PASSAGE: passage, Field.JOINT: joint}, Collection.IMAGE: {Field.JOINT: joint}},
        model_slug={Collection.TEXT: "passage", Collection.IMAGE: "joint"},
        version=1,
        num_shards=2,
    )


def centre_of(group: int, field: Field) -> Float32:
    """Returns the vector around which those of ten entries of a collection lie: float32[DIM], L2-normalised."""
    return _unit(f"group {group} {field}")


def vector_of(number: int, field: Field) -> Float32:
    """Returns the vector of an entry: float32[DIM], L2-normalised, always the same for a number.

    Entries of a group lie at ten distinct distances from its centre, so that every index of a backend, exact or not,
    has the same first ten for the centre.
    """
    group, member = divmod(number, GROUP)
    vector = centre_of(group, field) + np.float32(0.03 * (member // 2 + 1)) * _unit(f"entry {number} {field}")
    return vector / np.float32(np.linalg.norm(vector))


def _unit(name: str) -> Float32:
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    vector = np.random.default_rng(seed).standard_normal(DIM).astype(np.float32)
    return vector / np.float32(np.linalg.norm(vector))


def media_of(key: str) -> bytes:
    """Returns the media of an image."""
    return f"the media of {key}".encode() * 20


def load(settings: Settings, store: MilvusStore, assets: AssetStore, count: int) -> None:
    """Settles that number of events of both modalities, and some tombstones and dead letters; images have media."""
    for number in range(1, count, 2):
        assets.put(media_of(f"k{number}"))
    topics = (settings.kafka.text_topic, settings.kafka.image_topic)
    messages = [Message(topics[number % 2], b"k%d" % number, b"%d" % number) for number in range(count)]
    messages += [Message(topics[0], b"gone%d" % (count + number), b"1") for number in range(20)]
    messages += [Message(topics[0], b"gone%d" % (count + number), None) for number in range(20)]
    messages += [Message(topics[1], b"bad%d" % number, b"bad") for number in range(10)]
    producer = MessageProducer(settings.kafka)
    for sent in [producer.send(message) for message in messages]:
        sent.result(DEADLINE_S)
    producer.close(DEADLINE_S)
    settle(settings, store, len(messages))


def settle(settings: Settings, store: MilvusStore, count: int) -> None:
    """Settles a number of records and commits them."""
    topics = {settings.kafka.text_topic: Modality.TEXT, settings.kafka.image_topic: Modality.IMAGE}
    consumer = LaneConsumer(settings.kafka, list(topics), drain_timeout_s=1.0)
    producer = MessageProducer(settings.kafka)
    letters = DeadLetterWriter(producer, settings.kafka.dead_letter_topic, offload=lambda _: "")
    offsets: dict[Partition, int] = {}
    done, deadline_s = 0, time.monotonic() + 10 * DEADLINE_S
    while done < count:
        assert time.monotonic() < deadline_s
        records = consumer.poll(0.5, _AT_A_TIME).records
        events = []
        for record in records:
            parsed = _parse(settings, record, topics[record.position.topic])
            if isinstance(parsed, Rejected):
                letters.send(record, parsed).result(DEADLINE_S)
            else:
                events.append(parsed)
            offsets[Partition(record.position.topic, record.position.partition)] = record.position.offset + 1
        _write(store, events)
        done += len(records)
    consumer.commit(offsets, DEADLINE_S)
    consumer.close(DEADLINE_S)
    letters.close()
    producer.close(DEADLINE_S)


def _parse(settings: Settings, record: Record, modality: Modality) -> Event | Rejected:
    parsed = parse_record(record, modality=modality, default_tenant=settings.tenant, max_inline_bytes=1_000)
    if isinstance(parsed, Event) and parsed.payload == Inline(b"bad"):
        return Rejected(record.position, "decode", Reason.CORRUPT, "it is bad")
    return parsed


def _write(store: MilvusStore, events: Sequence[Event]) -> None:
    """Writes a batch; a tombstone that follows its asset within the batch takes its place."""
    newest = {event.asset.id: event for event in events}
    rows: list[AssetRow] = []
    for collection, topic_part in ((Collection.TEXT, "text"), (Collection.IMAGE, "image")):
        own = [event for event in newest.values() if topic_part in event.asset.topic]
        entries = [_entry(event, collection) for event in own if not event.is_tombstone]
        store.upsert(collection, entries)
        deleted = [event.asset.id for event in own if event.is_tombstone]
        ids = [id_ for stored in store.entry_ids(collection, deleted).values() for id_ in stored] if deleted else []
        store.delete(collection, ids)
        for event in own:
            outcome = Outcome.DELETED if event.is_tombstone else Outcome.INDEXED
            counts = {} if event.is_tombstone else {collection: 1}
            uri = _uri(event) if counts else ""
            rows.append(AssetRow(event.asset, event.version, outcome, counts, uri, 1))
    store.put_asset_rows(rows)


def _uri(event: Event) -> str:
    if "image" not in event.asset.topic:
        return ""
    return asset_uri(hashlib.sha256(media_of(event.asset.key)).hexdigest())


def _entry(event: Event, collection: Collection) -> Entry:
    key = event.asset.key
    number = int(key.lstrip("gonek"))
    vectors = {Field.JOINT: vector_of(number, Field.JOINT)}
    if collection is Collection.TEXT:
        vectors[Field.PASSAGE] = vector_of(number, Field.PASSAGE)
    entry = bare_entry(event.asset, collection)
    return replace(
        entry,
        title=key,
        text=f"The text of {key}, a sentence of some words about nothing in particular.",
        uri=_uri(event),
        origin=event.origin,
        attributes_json='{"price": 3.5}',
        vectors=vectors,
    )
