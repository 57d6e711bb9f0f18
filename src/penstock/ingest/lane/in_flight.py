"""Counts the batches that are in the steps, by partition."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from penstock.broker.base import Partition
from penstock.ingest.delivery import Batch


class InFlight:
    """The batches of a lane that were dispatched and have not reported.

    Attributes:
        batches: their number.
        accounted_bytes: the memory of their records.
    """

    def __init__(self) -> None:
        self.batches = 0
        self.accounted_bytes = 0
        self._deliveries: Counter[Partition] = Counter()
        self._continuations: Counter[Partition] = Counter()  # of the deliveries those of long media
        self._highest_dispatched: dict[Partition, int] = {}

    @property
    def highest_dispatched(self) -> Mapping[Partition, int]:
        """Returns the highest offset that ever went into a batch, of each owned partition that has one."""
        return self._highest_dispatched

    @property
    def deliveries(self) -> int:
        """Returns the number of deliveries in flight."""
        return self._deliveries.total()

    @property
    def continuations(self) -> int:
        """Returns the number of deliveries in flight that are continuations."""
        return self._continuations.total()

    def add(self, batch: Batch) -> None:
        """Counts a batch that is dispatched."""
        self.batches += 1
        self.accounted_bytes += batch.accounted_bytes
        for delivery in batch.deliveries:
            partition, offset = delivery.partition, delivery.record.position.offset
            self._deliveries[partition] += 1
            if batch.is_continuation:
                self._continuations[partition] += 1
            if offset > self._highest_dispatched.get(partition, -1):
                self._highest_dispatched[partition] = offset

    def remove(self, batch: Batch) -> None:
        """Counts a batch that has reported."""
        self.batches -= 1
        self.accounted_bytes -= batch.accounted_bytes
        for delivery in batch.deliveries:
            partition = delivery.partition
            self._deliveries[partition] -= 1
            if batch.is_continuation:
                self._continuations[partition] -= 1

    def has(self, partition: Partition) -> bool:
        """Returns whether any delivery of a partition is in flight."""
        return self._deliveries[partition] > 0

    def delays_revocation(self, partition: Partition) -> bool:
        """Returns whether deliveries of a partition are in flight that a drain waits for.

        No drain waits for continuations: the next owner of the partition continues them, and the writer fences the
        segment that is in flight.
        """
        return self._deliveries[partition] > self._continuations[partition]

    def forget_dispatched(self, partition: Partition) -> None:
        """Forgets the highest offset of a partition that is lost, or whose offsets stand for other records now."""
        self._highest_dispatched.pop(partition, None)
