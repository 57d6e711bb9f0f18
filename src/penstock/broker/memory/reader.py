"""The reader of topics in memory."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from penstock.broker.base import LogRange, Partition, PartitionLag
from penstock.broker.memory.broker import MemoryBroker
from penstock.errors import PermanentError, UnavailableError
from penstock.records import Record

_READ_RECORDS = 100


class MemoryReader:
    """Reads a `MemoryBroker` outside of any group (`broker.base.TopicReader`).

    Args:
        broker: the broker to read.
        group: the group whose committed offsets `lag` reports.
        compacted: the topics to be reported as cleaned by compaction.
    """

    def __init__(self, broker: MemoryBroker, group: str, *, compacted: Collection[str] = ()) -> None:
        self._broker = broker
        self._group = group
        self._compacted = frozenset(compacted)

    def lag(self, topics: Collection[str]) -> Sequence[PartitionLag]:
        """See `broker.base.TopicReader.lag`."""
        committed = self._broker.committed(self._group)
        return [
            PartitionLag(partition, committed.get(partition), log.start, log.end)
            for partition, log in self.bounds(topics).items()
        ]

    def bounds(self, topics: Collection[str]) -> Mapping[Partition, LogRange]:
        """See `broker.base.TopicReader.bounds`."""
        self._check_available()
        partitions = [partition for topic in sorted(topics) for partition in self._broker.partitions(topic)]
        return {partition: self._broker.log_range(partition) for partition in partitions}

    def read(self, partition: Partition, first: int, end: int) -> Iterator[Record]:
        """See `broker.base.TopicReader.read`."""
        while True:
            self._check_available()
            records = list(self._broker.read(partition, first, _READ_RECORDS))
            for record in records:
                if record.position.offset < end:
                    if not self._broker.is_readable(record.position):
                        raise PermanentError(f"could not read on: {record.position} was corrupted")
                    yield record
            if not records or records[-1].position.offset >= end:
                return
            first = records[-1].position.offset + 1

    def compacted(self, topics: Collection[str]) -> frozenset[str]:
        """See `broker.base.TopicReader.compacted`."""
        return self._compacted.intersection(topics)

    def _check_available(self) -> None:
        if not self._broker.available:
            raise UnavailableError("could not read: the broker does not answer.")
