"""The reasons for which a partition stops alone: what cannot be read, and what this client may not read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock.broker.base import Partition


@dataclass(frozen=True, slots=True)
class UnreadableRange:
    """Records that the client cannot read, so that their partition stops. All records before them were delivered.

    Attributes:
        partition: the partition that stops.
        first: the first offset that cannot be read.
        end: where the batch that holds it ends, exclusive: skipping up to here lets the partition continue.
        detail: the cause, in words.
    """

    partition: Partition
    first: int
    end: int
    detail: str

    def __str__(self) -> str:
        return (
            f"{self.partition} cannot be read from offset {self.first}: {self.detail}. Reading is retried. Produce "
            "these records again, compressed with gzip, snappy, lz4, zstd or not at all, and with header names in "
            f"UTF-8. To skip offsets {self.first} to {self.end - 1}, which are then lost: run kafka-delete-records up "
            f"to {self.end}, or stop the ingest plane and set the offset of its consumer group to {self.end}."
        )


@dataclass(frozen=True, slots=True)
class DeniedPartition:
    """A partition that this client may not read now, so that it stops. All records before it were delivered.

    Attributes:
        partition: the partition that stops.
        first: the first offset that was not delivered.
        detail: the right that is missing, and how to grant it.
    """

    partition: Partition
    first: int
    detail: str

    def __str__(self) -> str:
        return denied_reason(self.partition.topic, self.detail)


def denied_reason(topic: str, detail: str) -> str:
    """Returns why all partitions of a topic stop, from the right that is missing."""
    return f"{topic} may not be read: {detail}"
