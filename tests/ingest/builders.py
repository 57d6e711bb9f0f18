"""Makers of records, events, deliveries and batches for the tests of the ingest plane."""

from __future__ import annotations

from penstock.ingest.delivery import Batch, Delivery
from penstock.ingest.pipeline.types import BatchReport
from penstock.records import (
    AssetRef,
    Assignment,
    ClaimCheck,
    Event,
    Inline,
    Modality,
    Outcome,
    Position,
    Record,
    Rejected,
)

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


def delivery(
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


def batch(*deliveries: Delivery) -> Batch:
    return Batch(1, TOPIC, deliveries)


def outcomes(report: BatchReport) -> dict[int, Outcome | None]:
    """Returns the outcome by offset; None for fenced and halted deliveries."""
    by_offset = {
        settlement.delivery.record.position.offset: getattr(settlement, "outcome", None)
        for settlement in report.settlements
    }
    assert len(by_offset) == len(report.settlements), "a delivery was settled twice"
    return by_offset
