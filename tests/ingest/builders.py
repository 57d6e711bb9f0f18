"""Small makers of records, events and items for the tests of the ingest plane."""

from __future__ import annotations

from penstock.ingest.delivery import Delivery
from penstock.records import AssetRef, Assignment, ClaimCheck, Event, Inline, Modality, Position, Record, Rejected

TOPIC = "media.text"


def record(
    offset: int, key: str = "k", *, partition: int = 0, topic: str = TOPIC, value: bytes | None = b"v"
) -> Record:
    return Record(Position(topic, partition, offset), key.encode(), value, (), timestamp_ms=1_000 + offset)


def event(
    offset: int,
    key: str = "k",
    *,
    partition: int = 0,
    topic: str = TOPIC,
    data: bytes | None = b"v",
    claim: str | None = None,
    timestamp_ms: int | None = None,
    tenant: str = "default",
) -> Event:
    position = Position(topic, partition, offset)
    payload = ClaimCheck(claim) if claim else Inline(data) if data is not None else None
    return Event(
        AssetRef(tenant, topic, key),
        position,
        position,
        1_000 + offset if timestamp_ms is None else timestamp_ms,
        Modality.TEXT,
        payload,
    )


def item(
    offset: int,
    key: str = "k",
    *,
    partition: int = 0,
    generation: int = 1,
    topic: str = TOPIC,
    data: bytes | None = b"v",
    claim: str | None = None,
    rejected: Rejected | None = None,
) -> Delivery:
    parsed = rejected or event(offset, key, partition=partition, topic=topic, data=data, claim=claim)
    return Delivery(
        record(offset, key, partition=partition, topic=topic, value=data),
        Assignment(topic, partition, generation),
        parsed,
    )
