"""Writes and reads dead letters: events that can never be indexed, kept with the step and reason of their failure.

A dead letter has the original's key, value, headers and timestamp, and the headers of `broker.headers` beside them. A
value too large even for the dead-letter topic is offloaded to the asset store, and the dead letter holds its address.
"""

from __future__ import annotations

import itertools
import logging
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from penstock.broker import headers as names
from penstock.broker.base import DeadLetter, Message, MessageTooLargeError, Producer
from penstock.broker.reader import KafkaReader
from penstock.broker.replay_keys import NO_KEYS, ReplayKeys
from penstock.config import KafkaSettings
from penstock.errors import BadInputError, ConfigError, Reason
from penstock.records import Position, Record, Rejected

logger = logging.getLogger(__name__)

_MAX_DETAIL_CHARS = 2_000
_NULL_VALUE_BYTES = -1  # as Kafka's own protocol writes the length of a null

# --- writing ---------------------------------------------------------------------------------------------------------


class DeadLetterWriter:
    """Writes dead letters (`broker.base.DeadLetterSink`). Safe to call from several threads.

    Args:
        producer: its limit should be that of the dead-letter topic (`topics.dead_letter_bytes`).
        topic: the dead-letter topic.
        offload: puts a value that is too large into the asset store and returns its address; called on a thread of the
            writer.
        now: seconds since the epoch.
        replays: the keys by which a replay is known, whose dead letter has the origin of the first.
    """

    def __init__(
        self,
        producer: Producer,
        topic: str,
        *,
        offload: Callable[[bytes], str],
        now: Callable[[], float] = time.time,
        replays: ReplayKeys = NO_KEYS,
    ) -> None:
        self._producer = producer
        self._topic = topic
        self._offload = offload
        self._now = now
        self._replays = replays
        # Offloading may use a network; it must hold up neither the lane nor the producer's thread.
        self._offloading = ThreadPoolExecutor(1, thread_name_prefix="dead-letter-offload")

    def send(self, record: Record, rejected: Rejected) -> Future[Position]:
        """See `broker.base.DeadLetterSink.send`."""
        failed_at_ms = round(self._now() * 1000)
        message = to_message(record, rejected, topic=self._topic, failed_at_ms=failed_at_ms, replays=self._replays)
        outcome: Future[Position] = Future()
        self._producer.send(message).add_done_callback(lambda sent: self._on_sent(sent, message, outcome))
        return outcome

    def close(self) -> None:
        """Waits for values that are being offloaded. Does not close the producer, which belongs to the caller."""
        self._offloading.shutdown()

    def _on_sent(self, sent: Future[Position], message: Message, outcome: Future[Position]) -> None:
        error = sent.exception()
        if error is None:
            outcome.set_result(sent.result())
        elif isinstance(error, MessageTooLargeError) and message.value:
            self._offloading.submit(self._send_offloaded, message, outcome)
        else:
            outcome.set_exception(error)

    def _send_offloaded(self, message: Message, outcome: Future[Position]) -> None:
        """Sends the message without its value. A failure fails the future: the partition halts, and is retried."""
        try:
            outcome.set_result(self._producer.send(_without_value(message, self._offload)).result())
        except Exception as exc:
            outcome.set_exception(exc)


def to_message(
    record: Record, rejected: Rejected, *, topic: str, failed_at_ms: int, replays: ReplayKeys = NO_KEYS
) -> Message:
    """Returns the dead letter of a record. A replay that failed again keeps its origin; a forged one has none."""
    origin, origin_ms = replays.first_seen(record)
    added: tuple[tuple[str, bytes], ...] = (
        (names.REASON, rejected.reason.value.encode()),
        (names.STEP, rejected.step.encode()),
        (names.DETAIL, rejected.detail[:_MAX_DETAIL_CHARS].encode(errors="replace")),
        (names.ORIGIN, names.format_origin(origin)),
        (names.ORIGIN_TIMESTAMP, str(origin_ms).encode()),
        (names.FAILED_AT, str(failed_at_ms).encode()),
    )
    value = record.value
    if value is None and record.key is None:  # no client can write that: note the null in a header, and write nothing
        added, value = (*added, (names.OFFLOADED_BYTES, str(_NULL_VALUE_BYTES).encode())), b""
    timestamp_ms = origin_ms if origin_ms >= 0 else None
    return Message(topic, record.key, value, (*original_headers(record.headers), *added), timestamp_ms)


def original_headers(headers: tuple[tuple[str, bytes], ...]) -> tuple[tuple[str, bytes], ...]:
    """Returns the headers without those that Penstock adds."""
    return tuple((name, value) for name, value in headers if not name.startswith(names.PREFIX))


def _without_value(message: Message, offload: Callable[[bytes], str]) -> Message:
    """Offloads the value, and returns the message with its address instead."""
    value = message.value or b""
    added = ((names.OFFLOADED_URI, offload(value).encode()), (names.OFFLOADED_BYTES, str(len(value)).encode()))
    empty = b"" if message.key is None else None
    return Message(message.topic, message.key, empty, message.headers + added, message.timestamp_ms)


# --- reading ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """A selection of dead letters; a condition that is None matches all.

    Attributes:
        reason: only of this reason.
        topic: only those that came from this topic.
        key: only those with this key.
        since_ms: only those that failed at this time or later, milliseconds since the epoch.
    """

    reason: Reason | None = None
    topic: str | None = None
    key: bytes | None = None
    since_ms: int | None = None

    def matches(self, letter: DeadLetter) -> bool:
        """Returns whether the dead letter meets all conditions."""
        return (
            (self.reason is None or letter.reason is self.reason)
            and (self.topic is None or letter.origin.topic == self.topic)
            and (self.key is None or letter.key == self.key)
            and (self.since_ms is None or letter.failed_at_ms >= self.since_ms)
        )


def scan_dead_letters(
    kafka_settings: KafkaSettings,
    *,
    reason: Reason | None = None,
    topic: str | None = None,
    key: bytes | None = None,
    since_ms: int | None = None,
    limit: int | None = None,
) -> Iterator[DeadLetter]:
    """Yields the present dead letters that match, partition by partition, oldest first, in bounded memory.

    Args:
        kafka_settings: names broker and dead-letter topic.
        reason, topic, key, since_ms: see `DeadLetterFilter`.
        limit: the largest number of dead letters; None for all.

    Raises:
        UnavailableError: no broker answers.
        ConfigError: the dead-letter topic does not exist.
    """
    selected = DeadLetterFilter(reason, topic, key, since_ms)
    return itertools.islice((letter for letter in read_dead_letters(kafka_settings) if selected.matches(letter)), limit)


def read_dead_letters(
    kafka_settings: KafkaSettings, within: Callable[[int], range] = lambda _: range(sys.maxsize)
) -> Iterator[DeadLetter]:
    """Yields the present dead letters within a range of offsets of each partition; an empty range skips it.

    Partition by partition, oldest first, in bounded memory. Raises as `scan_dead_letters` does.
    """
    with KafkaReader(kafka_settings) as reader:
        for record in _until_end(reader, kafka_settings.dead_letter_topic, within):
            letter = parse_dead_letter(record)
            if letter is None:
                logger.warning("%s is not a dead letter of Penstock: skipped", record.position)
            else:
                yield letter


def _until_end(reader: KafkaReader, topic: str, within: Callable[[int], range]) -> Iterator[Record]:
    """Yields every record of the ranges, up to the end that the topic had at this call."""
    logs = reader.bounds([topic])
    if not logs:
        raise ConfigError(f"there is no dead-letter topic {topic}; it is created when the ingest plane starts.")
    for partition, log in logs.items():
        selected = within(partition.partition)
        first, end = max(selected.start, log.start), min(selected.stop, log.end)
        if first < end:
            yield from reader.read(partition, first, end)


def parse_dead_letter(record: Record) -> DeadLetter | None:
    """Parses a record of the dead-letter topic; returns None if Penstock did not write it."""
    added = {name: value for name, value in record.headers if name.startswith(names.PREFIX)}
    try:
        reason = Reason(added[names.REASON].decode())
        origin = names.parse_origin(added[names.ORIGIN])
        timestamp_ms = int(added.get(names.ORIGIN_TIMESTAMP, record.timestamp_ms))
        failed_at_ms = int(added[names.FAILED_AT])
        offloaded_bytes = int(added[names.OFFLOADED_BYTES]) if names.OFFLOADED_BYTES in added else None
    except (KeyError, ValueError, BadInputError):
        return None
    purged = names.PURGED in added
    value = None if offloaded_bytes is not None or purged else record.value
    return DeadLetter(
        position=record.position,
        origin=origin,
        reason=reason,
        step=added.get(names.STEP, b"").decode(errors="replace"),
        detail=added.get(names.DETAIL, b"").decode(errors="replace"),
        failed_at_ms=failed_at_ms,
        timestamp_ms=timestamp_ms,
        key=record.key,
        headers=original_headers(record.headers),
        value=value,
        value_bytes=len(value or b"") if offloaded_bytes is None else max(0, offloaded_bytes),
        offloaded_uri=added[names.OFFLOADED_URI].decode(errors="replace") if names.OFFLOADED_URI in added else None,
        purged=purged,
    )
