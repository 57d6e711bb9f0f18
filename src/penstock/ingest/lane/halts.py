"""Keeps the partitions that are halted: why, and when each is tried again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Set
from dataclasses import dataclass

from penstock.broker.base import Consumer, Partition
from penstock.broker.stops import DeniedPartition, UnreadableRange, denied_reason
from penstock.errors import FencedError
from penstock.ingest.lane.offsets import OffsetLedger

_RETRY_S = 30.0


@dataclass(frozen=True, slots=True)
class Halt:
    """Why a partition receives nothing, and when it is read again from the offset to commit.

    Attributes:
        name: what is halted: the partition, or the topic of those that may not be read.
        reason: for `penstock status`.
        retry_at_s: by the lane's clock.
        drains: whether the events that the lane holds of it continue: the fault lies behind them.
    """

    name: str
    reason: str
    retry_at_s: float
    drains: bool = False


class PartitionHalts:
    """The halted partitions of a lane.

    Args:
        offsets: the lane's ledger.
        consumer: the lane's group member.
        clock: monotonic seconds.
        retry_s: time after which a halted partition is tried again from its offset to commit.
    """

    def __init__(
        self,
        offsets: OffsetLedger,
        consumer: Consumer,
        clock: Callable[[], float],
        *,
        retry_s: float = _RETRY_S,
    ) -> None:
        self._offsets = offsets
        self._consumer = consumer
        self._clock = clock
        self._retry_s = retry_s
        self._halts: dict[Partition, Halt] = {}
        self._denied: Mapping[str, str] = {}

    def __contains__(self, partition: Partition) -> bool:
        return partition in self._halts

    @property
    def partitions(self) -> Set[Partition]:
        """Returns the halted partitions."""
        return self._halts.keys()

    @property
    def reasons(self) -> Mapping[str, str]:
        """Returns why each partition is halted, by its name, or that of its topic if that may not be read."""
        denied = {topic: denied_reason(topic, detail) for topic, detail in self._denied.items()}
        return {halt.name: halt.reason for halt in self._halts.values()} | denied

    def stops_events(self, partition: Partition) -> bool:
        """Returns whether the events that the lane holds of a partition must not continue."""
        halt = self._halts.get(partition)
        return halt is not None and not halt.drains

    def add(self, partition: Partition, reason: str) -> None:
        """Halts a partition with an event that can be neither processed nor dead-lettered."""
        self._halts[partition] = Halt(str(partition), reason, self._clock() + self._retry_s)

    def add_truncated(self, partition: Partition) -> None:
        """Halts a partition whose log was rolled back, until it is idle and can be read again."""
        reason = f"the log of {partition} was rolled back or created again"
        self._halts[partition] = Halt(str(partition), reason, self._clock())

    def add_unreadable(self, unreadable: Collection[UnreadableRange | DeniedPartition]) -> None:
        """Halts partitions before what cannot or may not be read, since to skip it would be to lose it.

        The events before it continue and are committed.
        """
        for stop in unreadable:
            if self._offsets.assignment(stop.partition) is not None and stop.partition not in self._halts:
                name = stop.partition.topic if isinstance(stop, DeniedPartition) else str(stop.partition)
                self._halts[stop.partition] = Halt(name, str(stop), self._clock() + self._retry_s, drains=True)

    def follow_denied(self, denied: Mapping[str, str]) -> None:
        """Halts the partitions of topics that this client may not know of now, and names those without partitions.

        Args:
            denied: the right that is missing, by topic (`PollResult.denied`).
        """
        self._denied = denied
        for assignment in self._offsets.assignments() if denied else ():
            if detail := denied.get(assignment.topic):
                partition = Partition(assignment.topic, assignment.partition)
                self.add_unreadable([DeniedPartition(partition, self._offsets.offset_to_commit(partition), detail)])

    def forget(self, partition: Partition) -> None:
        """Forgets a partition that is no longer owned."""
        self._halts.pop(partition, None)

    def retry_due(self, is_idle: Callable[[Partition], bool]) -> None:
        """Reads halted partitions again from the offset to commit, once they are idle and their time has come.

        Args:
            is_idle: whether the lane holds no event of a partition.
        """
        if not self._halts:
            return
        now_s = self._clock()
        for partition, halt in list(self._halts.items()):
            if now_s < halt.retry_at_s or not is_idle(partition):
                continue
            start = self._offsets.offset_to_commit(partition)
            try:
                self._consumer.seek_to(partition, start)
            except FencedError:
                continue  # the next poll reports that it is lost
            self._offsets.rewind(partition, start)
            del self._halts[partition]
