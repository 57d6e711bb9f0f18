"""Follows a topic in memory."""

from __future__ import annotations

import time

from penstock.broker.base import Partition
from penstock.broker.memory.logs import MemoryLogs
from penstock.broker.tail import TailPoll
from penstock.errors import UnavailableError
from penstock.records import Record

_POLL_RECORDS = 1_000


class MemoryTail:
    """Follows a topic of a `MemoryBroker` (`broker.tail.TopicTail`).

    Args:
        logs: the broker.
        topic: the topic.
        from_start: begins with the first record, and not with the next one.
    """

    def __init__(self, logs: MemoryLogs, topic: str, *, from_start: bool = False) -> None:
        self._logs = logs
        self._topic = topic
        self._from_start = from_start
        self._positions: dict[Partition, int] = {}

    def poll(self, timeout_s: float) -> TailPoll:
        """See `broker.tail.TopicTail.poll`."""
        deadline_s = time.monotonic() + timeout_s
        with self._logs.changed:
            while True:
                records = self._read()
                left_s = deadline_s - time.monotonic()
                if records or not self._logs.blocking or left_s <= 0:
                    return TailPoll(records, self._caught_up())
                self._logs.changed.wait(left_s)

    def close(self) -> None:
        """See `broker.tail.TopicTail.close`."""

    def _read(self) -> list[Record]:
        partitions = self._logs.partitions(self._topic)
        if not self._logs.available or not partitions:
            raise UnavailableError(f"could not follow {self._topic}: no broker answers, or it has no such topic.")
        from_start = self._from_start or bool(self._positions)
        records: list[Record] = []
        for partition in partitions:
            log = self._logs.log_range(partition)
            position = max(self._positions.setdefault(partition, log.start if from_start else log.end), log.start)
            for record in self._logs.read(partition, min(position, log.end), _POLL_RECORDS - len(records)):
                position = record.position.offset + 1
                if self._logs.is_readable(record.position):
                    records.append(record)
            self._positions[partition] = position
        return records

    def _caught_up(self) -> bool:
        return all(position >= self._logs.log_range(at).end for at, position in self._positions.items())
