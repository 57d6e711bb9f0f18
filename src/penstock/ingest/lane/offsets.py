"""Tracks which offsets a lane may commit: per partition the first incomplete offset, or the position if there is none.

Contiguity is over the records that were delivered, not over numbers: compaction and control records leave holes.
A pure state machine without a clock or a lock. The lane owns one and calls it from its own thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from penstock.broker.base import Partition
from penstock.records import Assignment, Position

# Offsets that a lane keeps behind incomplete ones: some 60 MB, and the records that would be delivered again after a
# crash. Fewer arrive behind a video of ten hours, the longest that was tried.
MAX_INCOMPLETE_OFFSETS = 1_000_000


@dataclass(slots=True)
class _PartitionOffsets:
    """The offsets of one assigned partition that cannot be committed yet.

    Attributes:
        assignment: the assignment under which the partition is owned.
        position: the offset after the last delivered record.
        committed: the offset that the group has; None if that is unknown, so that the next one is committed whatever
            it is.
        incomplete: delivered offsets from the first that has no outcome, oldest first. Those after the first may be
            complete.
        completed: the offsets among them that have an outcome.
        completed_before_rewind: offsets that had an outcome before a rewind and will be delivered once more.
        truncated: whether offsets from `position` on stand for other records until the next rewind.
    """

    assignment: Assignment
    position: int
    committed: int | None
    incomplete: deque[int] = field(default_factory=deque)
    completed: set[int] = field(default_factory=set)
    completed_before_rewind: set[int] = field(default_factory=set)
    truncated: bool = False

    @property
    def offset_to_commit(self) -> int:
        """Returns the first incomplete offset, or the position if all are complete."""
        return self.incomplete[0] if self.incomplete else self.position


class OffsetLedger:
    """The delivered and the completed offsets of the partitions that a lane owns."""

    def __init__(self) -> None:
        self._partitions: dict[Partition, _PartitionOffsets] = {}

    # --- the life of a partition ------------------------------------------------------------------------------------

    def assign(self, assignment: Assignment, start: int, committed: int | None = None) -> None:
        """Starts to track a partition at `start`, and forgets all that was known of it.

        Args:
            assignment: the assignment under which the partition is owned after this call.
            start: the offset that is delivered first.
            committed: the offset that the group has committed if it is not `start`, which is then committed.
        """
        partition = Partition(assignment.topic, assignment.partition)
        known = start if committed is None else committed
        self._partitions[partition] = _PartitionOffsets(assignment, position=start, committed=known)

    def rewind(self, partition: Partition, start: int) -> None:
        """Expects an owned partition to be delivered again from `start`; what was completed stays complete.

        Call it only while no delivery of the partition is in flight.
        """
        tracked = self._partitions[partition]
        tracked.completed_before_rewind |= tracked.completed
        tracked.incomplete.clear()
        tracked.completed.clear()
        tracked.position = start
        tracked.truncated = False

    def truncate(self, partition: Partition, end: int) -> None:
        """Forgets the offsets from `end` on, because the log was rolled back and they stand for other records.

        After this call the lower offset is to be committed. No delivery or completion from `end` on counts before
        `rewind`. Records below `end` are unchanged: those that are incomplete have to be delivered again.
        """
        tracked = self._partitions[partition]
        tracked.incomplete = deque(offset for offset in tracked.incomplete if offset < end)
        tracked.completed = {offset for offset in tracked.completed if offset < end}
        tracked.completed_before_rewind = {offset for offset in tracked.completed_before_rewind if offset < end}
        tracked.position = min(tracked.position, end)
        tracked.committed = None
        tracked.truncated = True

    def forget(self, partition: Partition) -> None:
        """Stops to track a partition that is no longer owned; later completions of it are dropped."""
        self._partitions.pop(partition, None)

    def assignment(self, partition: Partition) -> Assignment | None:
        """Returns the assignment under which a partition is owned, or None if it is not."""
        tracked = self._partitions.get(partition)
        return tracked.assignment if tracked else None

    def assignments(self) -> tuple[Assignment, ...]:
        """Returns the assignments of all owned partitions."""
        return tuple(tracked.assignment for tracked in self._partitions.values())

    # --- the life of a record ---------------------------------------------------------------------------------------

    def track(self, position: Position) -> bool:
        """Records a delivery, and returns whether it is to be processed.

        Returns:
            False if the partition is not owned, or if the record was delivered before under the same assignment (a
            fetch answered twice, or a rewind over completed offsets).
        """
        tracked = self._partitions.get(Partition(position.topic, position.partition))
        if tracked is None or tracked.truncated or position.offset < tracked.position:
            return False
        tracked.position = position.offset + 1
        if position.offset in tracked.completed_before_rewind:
            tracked.completed_before_rewind.remove(position.offset)
            if tracked.incomplete:  # else no lower offset holds back the commit
                tracked.incomplete.append(position.offset)
                tracked.completed.add(position.offset)
            return False
        tracked.incomplete.append(position.offset)
        return True

    def complete(self, assignment: Assignment, offset: int) -> bool:
        """Records that an event has its outcome, and returns whether that counts.

        Returns:
            False if it is dropped: it belongs to a former assignment of the partition, or to no incomplete offset.
        """
        tracked = self._partitions.get(Partition(assignment.topic, assignment.partition))
        if tracked is None or tracked.assignment != assignment:
            return False
        incomplete, completed = tracked.incomplete, tracked.completed
        if not incomplete or not incomplete[0] <= offset < tracked.position or offset in completed:
            return False
        completed.add(offset)
        while incomplete and incomplete[0] in completed:
            completed.remove(incomplete.popleft())
        return True

    # --- commits ----------------------------------------------------------------------------------------------------

    def offsets_to_commit(self) -> Mapping[Partition, int]:
        """Returns the offsets that moved, in either direction, since they were last marked as committed."""
        return {
            partition: tracked.offset_to_commit
            for partition, tracked in self._partitions.items()
            if tracked.offset_to_commit != tracked.committed
        }

    def offset_to_commit(self, partition: Partition) -> int:
        """Returns the offset from which an owned partition would have to be read again.

        Raises:
            KeyError: the partition is not owned.
        """
        return self._partitions[partition].offset_to_commit

    def position(self, partition: Partition) -> int:
        """Returns the offset after the last new record of an owned partition.

        Raises:
            KeyError: the partition is not owned.
        """
        return self._partitions[partition].position

    def mark_committed(self, offsets: Mapping[Partition, int]) -> None:
        """Records a commit that was acknowledged."""
        for partition, offset in offsets.items():
            tracked = self._partitions.get(partition)
            if tracked is not None:
                tracked.committed = offset

    def full_partitions(self) -> set[Partition]:
        """Returns the partitions that can take no record before one of theirs completes.

        Once all of them together have `MAX_INCOMPLETE_OFFSETS`, those are full that have more than an even share of
        them. The others may take their share, so that one flooded topic stops no other: together at most twice as many.
        """
        counts = {partition: len(tracked.incomplete) for partition, tracked in self._partitions.items()}
        if sum(counts.values()) < MAX_INCOMPLETE_OFFSETS:
            return set()
        share = MAX_INCOMPLETE_OFFSETS / len(counts)
        return {partition for partition, count in counts.items() if count >= share}
