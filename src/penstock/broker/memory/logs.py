"""Topics in memory, and the faults that can be injected into their logs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count, islice

from kafka.partitioner.default import murmur2

from penstock.broker.base import LogRange, Message, MessageTooLargeError, Partition, partition_of
from penstock.errors import PermanentError, UnavailableError
from penstock.records import Position, Record


@dataclass(slots=True)
class _Log:
    """The log of one partition. Records may be missing at its start and in between."""

    records: list[Record] = field(default_factory=list)
    start: int = 0
    end: int = 0
    unreadable: set[int] = field(default_factory=set)


class MemoryLogs:
    """The topics of a broker in memory. Safe to call from several threads.

    `expire`, `truncate_to`, `corrupt`, `leave_gap`, `compact_away`, `available`, `denied` and `refusal` are faults and
    events that no client can cause.

    Args:
        clock: monotonic seconds, for the deadlines of held revocations.
        now_ms: Kafka's timestamp of a message that has none.
        blocking: whether `poll` waits for something to report; False for tests that own the clock.

    Attributes:
        available: set to False, nothing answers: polls are empty, commits and sends fail. Memberships continue.
        denied: topics that no client may read or commit for.
        refusal: why no client is let in; empty if they are.
        changed: notified after every change.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        blocking: bool = True,
    ) -> None:
        self.available = True
        self.denied: set[str] = set()
        self.refusal = ""
        self.clock = clock
        self.blocking = blocking
        self.changed = threading.Condition(threading.RLock())
        self._now_ms = now_ms
        self._logs: dict[Partition, _Log] = {}
        self._max_bytes: dict[str, int] = {}
        self._round_robin = count()

    def create_topic(self, topic: str, partitions: int = 1, *, max_message_bytes: int = 1 << 30) -> None:
        """Creates a topic, or adds partitions to it."""
        with self.changed:
            self._max_bytes[topic] = max_message_bytes
            for number in range(partitions):
                self._logs.setdefault(Partition(topic, number), _Log())

    def partitions(self, topic: str) -> Sequence[Partition]:
        """Returns the partitions of a topic, in order; none if it does not exist."""
        return [partition for partition in sorted(self._logs) if partition.topic == topic]

    # --- records -----------------------------------------------------------------------------------------------------

    def append(self, message: Message) -> Position:
        """Writes a message, as a producer's `send` eventually does.

        Raises:
            UnavailableError: the broker is not available, or the topic does not exist.
            PermanentError: the message has neither key nor value, or is too large.
        """
        with self.changed:
            if not self.available:
                raise UnavailableError(f"could not write to {message.topic}: the broker does not answer.")
            partition = self._partition_of(message)
            log = self._logs[partition]
            position = Position(partition.topic, partition.partition, log.end)
            timestamp_ms = self._now_ms() if message.timestamp_ms is None else message.timestamp_ms
            record = Record(position, message.key, message.value, message.headers, timestamp_ms)
            if record.size_bytes > self._max_bytes[message.topic]:
                raise MessageTooLargeError(
                    f"a message of {record.size_bytes:,} bytes is more than max.message.bytes of {message.topic} "
                    f"allows ({self._max_bytes[message.topic]:,})."
                )
            log.records.append(record)
            log.end += 1
            self.changed.notify_all()
            return position

    def records(self, topic: str) -> Sequence[Record]:
        """Returns all records of a topic, ordered by partition and offset."""
        with self.changed:
            return [record for partition in self.partitions(topic) for record in self._logs[partition].records]

    def read(self, partition: Partition, offset: int, limit: int) -> Iterator[Record]:
        """Yields up to `limit` records at and above an offset."""
        return islice((record for record in self._logs[partition].records if record.position.offset >= offset), limit)

    def log_range(self, partition: Partition) -> LogRange:
        """Returns the first offset, and the one that the next record will get."""
        log = self._logs[partition]
        return LogRange(log.start, log.end)

    def is_readable(self, position: Position) -> bool:
        """Returns whether clients can read the record."""
        return position.offset not in self._logs[partition_of(position)].unreadable

    # --- faults ------------------------------------------------------------------------------------------------------

    def expire(self, partition: Partition, before: int) -> None:
        """Removes the records below an offset, as retention does."""
        with self.changed:
            log = self._logs[partition]
            log.start = max(log.start, before)
            log.end = max(log.end, log.start)
            log.records = [record for record in log.records if record.position.offset >= log.start]

    def truncate_to(self, partition: Partition, end: int) -> None:
        """Removes the records from an offset on, as an unclean leader election does. Their offsets are used again."""
        with self.changed:
            log = self._logs[partition]
            log.end = min(log.end, end)
            log.start = min(log.start, log.end)
            log.records = [record for record in log.records if record.position.offset < log.end]
            log.unreadable = {offset for offset in log.unreadable if offset < log.end}

    def corrupt(self, position: Position) -> None:
        """Makes a record unreadable for every client."""
        with self.changed:
            self._logs[partition_of(position)].unreadable.add(position.offset)

    def leave_gap(self, partition: Partition, offsets: int) -> None:
        """Skips a number of offsets at the end of the log, as compaction and control records do."""
        with self.changed:
            self._logs[partition].end += offsets

    def compact_away(self, position: Position) -> None:
        """Removes one record and leaves a gap, as compaction does."""
        with self.changed:
            log = self._logs[partition_of(position)]
            log.records = [record for record in log.records if record.position != position]

    def _partition_of(self, message: Message) -> Partition:
        partitions = self.partitions(message.topic)
        if not partitions:
            raise UnavailableError(f"could not write to {message.topic}: there is no such topic (yet).")
        if message.key is None and message.value is None:
            raise PermanentError(f"could not write to {message.topic}: a message needs a key or a value.")
        if message.partition is not None:
            partition = Partition(message.topic, message.partition)
            if partition not in partitions:
                raise PermanentError(f"could not write to {partition}: there is no such partition.")
            return partition
        number = next(self._round_robin) if message.key is None else murmur2(message.key) & 0x7FFFFFFF
        return partitions[number % len(partitions)]
