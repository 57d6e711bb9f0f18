"""The events of a simulation: as the test wrote them, as Kafka holds them, and as the lane parses them."""

from __future__ import annotations

from dataclasses import dataclass

from penstock.broker.base import Message, Partition
from penstock.broker.headers import ORIGIN, parse_origin
from penstock.broker.wire import parse_record
from penstock.records import Event, Modality, Position, Record, Rejected, Version
from tests.ingest.builders import event
from tests.replays import KEYS

GROUP = "penstock"
DLQ = "media.dlq"
PARTITIONS = (Partition("media.text", 0), Partition("media.text", 1), Partition("media.notes", 0))
FLOODING, BURSTING = "flooding", "bursting"  # the tenants of the keys "a", "b" and "c", "d", which may have a quota
_TENANTS = {"a": FLOODING, "b": FLOODING, "c": BURSTING, "d": BURSTING}
TOPICS = {partition.topic: Modality.TEXT for partition in PARTITIONS}


@dataclass(frozen=True, slots=True)
class ProducedEvent:
    """An event as the test wrote it: `text` is None for a tombstone, `key` is None if it cannot be parsed."""

    position: Position
    timestamp_ms: int
    key: str | None
    text: str | None

    @property
    def asset_id(self) -> str:
        assert self.key is not None
        return event(0, self.key, topic=self.position.topic, tenant=tenant_of_key(self.key)).asset.id

    @property
    def version(self) -> Version:
        return Version(self.timestamp_ms, self.position.partition, self.position.offset)


def to_message(partition: Partition, key: str, kind: str, text: str | None) -> Message:
    """Returns an event of a kind; a claim check has its text as its address, and no value."""
    headers: dict[str, str] = {}
    if kind == "malformed":
        headers = {"ce_id": "it has no source"}
    elif kind == "claim" and text is not None:
        headers = {"ce_id": "1", "ce_source": "/t", "ce_type": "t", "ce_specversion": "1.0", "ce_dataref": text}
    payload = None if text is None else b"" if kind == "claim" else text.encode()
    encoded = tuple((name, value.encode()) for name, value in headers.items())
    return Message(partition.topic, key.encode(), payload, encoded, partition=partition.partition)


def tenant_of_key(key: str) -> str:
    return _TENANTS.get(key, "default")


def parse(record: Record) -> Event | Rejected:
    tenant = tenant_of_key((record.key or b"").decode())
    return parse_record(record, modality=Modality.TEXT, default_tenant=tenant, max_inline_bytes=10_000, replays=KEYS)


def origin_of(record: Record) -> Position:
    origin = dict(record.headers).get(ORIGIN)
    return record.position if origin is None else parse_origin(origin)
