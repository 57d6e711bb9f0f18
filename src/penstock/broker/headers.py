"""Reads and writes the Kafka headers that Penstock adds. All others belong to the producer."""

from __future__ import annotations

from penstock.errors import BadInputError, Reason
from penstock.records import Position, Record

PREFIX = "penstock-"

# The position at which the event was first produced, `topic/partition/offset`; on dead letters and replays.
ORIGIN = "penstock-origin"

# Kafka's timestamp of the record at its origin, milliseconds since the epoch; beside `ORIGIN`.
ORIGIN_TIMESTAMP = "penstock-origin-timestamp"

# The signature of both, on replays; see `broker.replay_keys`.
ORIGIN_MAC = "penstock-origin-mac"

REASON = "penstock-reason"
STEP = "penstock-step"
DETAIL = "penstock-detail"

# The time at which the event failed, milliseconds since the epoch.
FAILED_AT = "penstock-failed-at"

# On a dead letter whose contents were purged: it has no key, value, detail and headers of its event any more.
PURGED = "penstock-purged"

# The address of a value in the asset store that is too large for the dead-letter topic; the value itself is null.
OFFLOADED_URI = "penstock-stashed"

# The size of that value; -1 for a null without a key, which no client can write.
OFFLOADED_BYTES = "penstock-stashed-bytes"


def format_origin(position: Position) -> bytes:
    """Writes a position as `topic/partition/offset`."""
    return f"{position.topic}/{position.partition}/{position.offset}".encode()


def parse_origin(value: bytes) -> Position:
    """Reads a position that `format_origin` wrote.

    Raises:
        BadInputError: `MALFORMED`, it is not a position.
    """
    try:
        topic, partition, offset = value.decode().split("/")
        position = Position(topic, int(partition), int(offset))
    except ValueError as exc:
        raise BadInputError(Reason.MALFORMED, f"{ORIGIN} is not topic/partition/offset: {value!r}") from exc
    if not (0 <= position.partition < 2**31 and 0 <= position.offset < 2**63):
        raise BadInputError(Reason.MALFORMED, f"{ORIGIN} has a number out of Kafka's range: {value!r}")
    return position


def origin_of(record: Record) -> tuple[Position, int]:
    """Returns what a record says of its origin and Kafka's timestamp (ms) there: its own, unless it is a replay.

    Anyone may write these headers: `ReplayKeys.origin_of` checks whether they are to be believed.

    Raises:
        BadInputError: `MALFORMED`, the headers of a replay are not those that a replay writes.
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


def parse_ms(name: str, value: bytes) -> int:
    """Reads a header of milliseconds since the epoch.

    Raises:
        BadInputError: `MALFORMED`, it is not a number.
    """
    try:
        milliseconds = int(value)
    except ValueError as exc:
        raise BadInputError(Reason.MALFORMED, f"{name} is not a number of milliseconds: {value!r}") from exc
    if abs(milliseconds) >= 2**62:  # Kafka has 64 bits for it
        raise BadInputError(Reason.MALFORMED, f"{name} is not a time that Kafka can hold: {value!r}")
    return milliseconds
