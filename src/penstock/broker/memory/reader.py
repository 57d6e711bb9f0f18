"""The reader of topics in memory: `broker.base.TopicReader` on a `MemoryBroker`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from penstock.broker.base import LogRange, Partition, PartitionLag
from penstock.broker.memory.broker import MemoryBroker
from penstock.errors import PermanentError, UnavailableError
from penstock.records import Record

_RECORDS_A_POLL = 100


class MemoryReader:
    """Reads a `MemoryBroker`, and tells how far a group of it is.

    Args:
        broker: what to read.
        group: whose committed offsets to tell.
        compacted: the topics that compaction is said to clean.
    """

    def __init__(self, broker: MemoryBroker, group: str, *, compacted: Collection[str] = ()) -> None:
        self._broker = broker
        self._group = group
        self._compacted = frozenset(compacted)

    def lag(self, topics: Collection[str]) -> Sequence[PartitionLag]:
        """See `broker.base.TopicReader.lag`."""
        committed = self._broker.committed(self._group)
        return [
            PartitionLag(partition, committed.get(partition), held.start, held.end)
            for partition, held in self.bounds(topics).items()
        ]

    def bounds(self, topics: Collection[str]) -> Mapping[Partition, LogRange]:
        """See `broker.base.TopicReader.bounds`."""
        self._check_available()
        found = [partition for topic in sorted(topics) for partition in self._broker.partitions(topic)]
        return {partition: LogRange(*self._broker.log_range(partition)) for partition in found}

    def read(self, partition: Partition, first: int, end: int) -> Iterator[Record]:
        """See `broker.base.TopicReader.read`."""
        while True:
            self._check_available()
            found = list(self._broker.read(partition, first, _RECORDS_A_POLL))
            for record in found:
                if record.position.offset < end:
                    if not self._broker.is_readable(record.position):
                        raise PermanentError(f"could not read on: {record.position} was spoiled")
                    yield record
            if not found or found[-1].position.offset >= end:
                return
            first = found[-1].position.offset + 1

    def compacted(self, topics: Collection[str]) -> frozenset[str]:
        """See `broker.base.TopicReader.compacted`."""
        return self._compacted.intersection(topics)

    def _check_available(self) -> None:
        if not self._broker.available:
            raise UnavailableError("could not read: the broker does not answer.")
