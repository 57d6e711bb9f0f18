"""The Kafka headers that Penstock adds, and how they are written. All others belong to the producer."""

from __future__ import annotations

from penstock.errors import BadInputError, Reason
from penstock.records import Position, Record

PREFIX = "penstock-"

ORIGIN = "penstock-origin"
"""Where the event first was: `topic/partition/offset`. On dead letters, and on replays of them."""

ORIGIN_TIMESTAMP = "penstock-origin-timestamp"
"""Kafka's timestamp of the record at its origin, milliseconds since the epoch. Comes with `ORIGIN`."""

REASON = "penstock-reason"
STEP = "penstock-step"
DETAIL = "penstock-detail"
FAILED_AT = "penstock-failed-at"
"""When the event failed, milliseconds since the epoch."""

OFFLOADED_URI = "penstock-stashed"
"""Address of the value in the asset store, where it did not fit the dead-letter topic; the value itself is null."""

OFFLOADED_BYTES = "penstock-stashed-bytes"
"""Size of that value."""


def format_origin(position: Position) -> bytes:
    return f"{position.topic}/{position.partition}/{position.offset}".encode()


def parse_origin(value: bytes) -> Position:
    """The position written by `format_origin`.

    Raises:
        BadInputError: `MALFORMED`, it is none.
    """
    try:
        topic, partition, offset = value.decode().split("/")
        position = Position(topic, int(partition), int(offset))
    except ValueError as exc:
        raise BadInputError(Reason.MALFORMED, f"{ORIGIN} is not topic/partition/offset: {value!r}") from exc
    if not (0 <= position.partition < 2**31 and 0 <= position.offset < 2**63):
        raise BadInputError(Reason.MALFORMED, f"{ORIGIN} has a number that Kafka has not: {value!r}")
    return position


def origin_of(record: Record) -> tuple[Position, int]:
    """The event's first position and Kafka's timestamp (ms) there: the record's own, unless it is a replay.

    Raises:
        BadInputError: `MALFORMED`, the headers of a replay are not what a replay writes.
    """
    origin: Position | None = None
    timestamp_ms = record.timestamp_ms
    for name, value in record.headers:
        if name == ORIGIN:
            origin = parse_origin(value)
        elif name == ORIGIN_TIMESTAMP:
            timestamp_ms = parse_ms(name, value)
    if origin is None:
        return record.position, record.timestamp_ms
    if origin.topic != record.position.topic:
        raise BadInputError(
            Reason.MALFORMED,
            f"{ORIGIN} says the event was first in {origin}, but a replay goes to the topic it came from, not to "
            f"{record.position.topic}.",
        )
    if origin.partition == record.position.partition and origin.offset >= record.position.offset:
        raise BadInputError(Reason.MALFORMED, f"{ORIGIN} says the event was first in {origin}, which is yet to come.")
    return origin, timestamp_ms


def first_seen(record: Record) -> tuple[Position, int]:
    """The same for a record that may be malformed: one whose headers are not what a replay writes is named by where it
    stands, as its dead letter is.
    """
    try:
        return origin_of(record)
    except BadInputError:
        return record.position, record.timestamp_ms


def parse_ms(name: str, value: bytes) -> int:
    """A header of milliseconds since the epoch.

    Raises:
        BadInputError: `MALFORMED`, it is no number.
    """
    try:
        milliseconds = int(value)
    except ValueError as exc:
        raise BadInputError(Reason.MALFORMED, f"{name} is not a number of milliseconds: {value!r}") from exc
    if abs(milliseconds) >= 2**62:  # Kafka has 64 bits for it
        raise BadInputError(Reason.MALFORMED, f"{name} is no time that Kafka can hold: {value!r}")
    return milliseconds
