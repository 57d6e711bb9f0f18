"""Records as Kafka delivered them, with their positions and partitions."""

from __future__ import annotations

from dataclasses import dataclass

from penstock.records.fast_pickle import FastPickle

_OVERHEAD_BYTES = 1_024  # record, event and delivery in a queue: 870 measured for a tombstone, 950 for a short text


@dataclass(frozen=True, slots=True, order=True)
class Position(FastPickle):
    """Topic, partition and offset: the identity of a record."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]@{self.offset}"


@dataclass(frozen=True, slots=True)
class Record(FastPickle):
    """A Kafka record as it was delivered. Nothing in it has been checked yet."""

    position: Position
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    timestamp_ms: int

    @property
    def size_bytes(self) -> int:
        """Bytes of key, value and headers."""
        headers = sum(len(name) + len(value) for name, value in self.headers)
        return len(self.key or b"") + len(self.value or b"") + headers

    @property
    def accounted_bytes(self) -> int:
        """Bytes counted against the limit of bytes in flight: the size, and what a lane holds beside each record."""
        return self.size_bytes + _OVERHEAD_BYTES


@dataclass(frozen=True, slots=True)
class Assignment(FastPickle):
    """A partition as assigned to one lane, with the group's generation since which the lane has held it."""

    topic: str
    partition: int
    generation: int
