"""Which offsets may be committed: per partition the first delivered record that is not done, else the position.

Contiguity is over the records that were delivered, not over numbers: compaction and transaction markers leave holes.
A pure state machine without a clock or a lock; the lane owns one and calls it from its own thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from penstock.broker.base import Partition
from penstock.records import Assignment, Position

MAX_INCOMPLETE_OFFSETS = 1_000_000
"""Records of one partition that may wait to be committed behind one that is not settled: some 60 MB, and what would be
delivered again after a crash. Behind a film of ten hours, the longest that was tried, come fewer.
"""


@dataclass(slots=True)
class _Tracked:
    """One assigned partition: what was delivered and is not committable yet, oldest first."""

    assignment: Assignment
    position: int
    committed: int | None  # None: not known, so that what is committable is committed whatever it is
    open: deque[int] = field(default_factory=deque)
    done: set[int] = field(default_factory=set)
    settled: set[int] = field(default_factory=set)  # done before a rewind, and to be delivered once more
    cut: bool = False  # until it is rewound, nothing from `position` on is what it was

    @property
    def committable(self) -> int:
        return self.open[0] if self.open else self.position


class OffsetLedger:
    """Delivered and done records of the partitions that a lane owns."""

    def __init__(self) -> None:
        self._partitions: dict[Partition, _Tracked] = {}

    def assign(self, assignment: Assignment, start: int, committed: int | None = None) -> None:
        """A partition begins (anew) at `start`; whatever was known of it before is forgotten.

        Args:
            assignment: under which it is owned from now on.
            start: the offset that is delivered first.
            committed: what the group has committed, where that is not `start`; it is then committed anew.
        """
        partition = Partition(assignment.topic, assignment.partition)
        known = start if committed is None else committed
        self._partitions[partition] = _Tracked(assignment, position=start, committed=known)

    def rewind(self, partition: Partition, start: int) -> None:
        """An owned partition is delivered again from `start` on. What was done under this assignment stays done.

        Only while nothing of it is under way.
        """
        tracked = self._partitions[partition]
        tracked.settled |= tracked.done
        tracked.open.clear()
        tracked.done.clear()
        tracked.position = start
        tracked.cut = False

    def truncate(self, partition: Partition, end: int) -> None:
        """The log of an owned partition was rolled back to `end`: offsets from there on stand for other records now.

        The lower offset is committable from now on. Nothing that is delivered or done from `end` on counts before
        `rewind`. Records below `end` are what they were: those that are not done are to be delivered again.
        """
        tracked = self._partitions[partition]
        tracked.open = deque(offset for offset in tracked.open if offset < end)
        tracked.done = {offset for offset in tracked.done if offset < end}
        tracked.settled = {offset for offset in tracked.settled if offset < end}
        tracked.position = min(tracked.position, end)
        tracked.committed = None
        tracked.cut = True

    def forget(self, partition: Partition) -> None:
        """The partition is no longer this lane's. Done marks that come later are dropped."""
        self._partitions.pop(partition, None)

    def assignment(self, partition: Partition) -> Assignment | None:
        """The assignment under which the partition is owned now; None if it is not."""
        tracked = self._partitions.get(partition)
        return tracked.assignment if tracked else None

    def assignments(self) -> tuple[Assignment, ...]:
        return tuple(tracked.assignment for tracked in self._partitions.values())

    def track(self, position: Position) -> bool:
        """Notes a delivered record.

        Returns:
            False if it must not be processed: the partition is not owned, or the record was delivered before under the
            same assignment (a fetch answered twice, or a rewind over what is done).
        """
        tracked = self._partitions.get(Partition(position.topic, position.partition))
        if tracked is None or tracked.cut or position.offset < tracked.position:
            return False
        tracked.position = position.offset + 1
        if position.offset in tracked.settled:
            tracked.settled.remove(position.offset)
            if tracked.open:  # else nothing before it holds back the commit
                tracked.open.append(position.offset)
                tracked.done.add(position.offset)
            return False
        tracked.open.append(position.offset)
        return True

    def complete(self, assignment: Assignment, offset: int) -> bool:
        """Notes that a record is settled.

        Returns:
            False if the mark is dropped: it belongs to a former assignment of the partition, or to no open record.
        """
        tracked = self._partitions.get(Partition(assignment.topic, assignment.partition))
        if tracked is None or tracked.assignment != assignment:
            return False
        if not tracked.open or not tracked.open[0] <= offset < tracked.position or offset in tracked.done:
            return False
        tracked.done.add(offset)
        while tracked.open and tracked.open[0] in tracked.done:
            tracked.done.remove(tracked.open.popleft())
        return True

    def offsets_to_commit(self) -> Mapping[Partition, int]:
        """The offsets to commit: those that moved, in either direction, since they were last noted as committed."""
        return {
            partition: tracked.committable
            for partition, tracked in self._partitions.items()
            if tracked.committable != tracked.committed
        }

    def offset_to_commit(self, partition: Partition) -> int:
        """The offset from which an owned partition would have to be read again. Raises KeyError if it is not owned."""
        return self._partitions[partition].committable

    def mark_committed(self, offsets: Mapping[Partition, int]) -> None:
        """Notes a commit that was acknowledged."""
        for partition, offset in offsets.items():
            tracked = self._partitions.get(partition)
            if tracked is not None:
                tracked.committed = offset

    def full_partitions(self) -> set[Partition]:
        """The partitions of which no more can be remembered until something before is settled."""
        return {
            partition for partition, tracked in self._partitions.items() if len(tracked.open) >= MAX_INCOMPLETE_OFFSETS
        }

    def incomplete_count(self, partition: Partition | None = None) -> int:
        """Records delivered that hold back the commit: of one partition, or of all."""
        if partition is None:
            return sum(len(tracked.open) - len(tracked.done) for tracked in self._partitions.values())
        tracked = self._partitions.get(partition)
        return len(tracked.open) - len(tracked.done) if tracked else 0
