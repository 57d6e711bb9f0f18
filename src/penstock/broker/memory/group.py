"""Consumer groups in memory, with cooperative rebalancing: no partition moves before its owner has released it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from penstock.broker.base import Partition, partition_of
from penstock.broker.memory.logs import MemoryLogs
from penstock.records import Assignment


@dataclass(slots=True, eq=False)
class MemoryMember:
    """A member as its group knows it, with the changes that its consumer has not taken yet.

    Attributes:
        topics: the topics it subscribes to.
        drain_timeout_s: how long it may hold a revocation.
        owned: its partitions, including those being revoked.
        revoking: the partitions being revoked, with their deadline by the broker's clock.
        to_assign, to_revoke: the changes that its consumer has not taken yet.
    """

    topics: frozenset[str]
    drain_timeout_s: float
    owned: dict[Partition, Assignment] = field(default_factory=dict)
    revoking: dict[Partition, float] = field(default_factory=dict)
    to_assign: list[Assignment] = field(default_factory=list)
    to_revoke: list[Partition] = field(default_factory=list)

    def take_revocations(self) -> list[Partition]:
        """Returns the partitions to be revoked since the last call."""
        taken, self.to_revoke = self.to_revoke, []
        return taken

    def take_assignments(self) -> list[Assignment]:
        """Returns the assignments since the last call."""
        taken, self.to_assign = self.to_assign, []
        return taken

    def cancel_assignments(self, partitions: Collection[Partition]) -> None:
        """Drops assignments that the consumer has not taken."""
        self.to_assign = [taken for taken in self.to_assign if partition_of(taken) not in partitions]


class MemoryGroup:
    """A consumer group: its members, their partitions, its generation, its committed offsets and their notes."""

    def __init__(self, logs: MemoryLogs) -> None:
        self._logs = logs
        self.committed: dict[Partition, int] = {}
        self.notes: dict[Partition, str] = {}
        self.generation = 0
        self.members: list[MemoryMember] = []

    def join(self, member: MemoryMember) -> None:
        """Adds a member, and rebalances."""
        self.members.append(member)
        self._rebalance()

    def leave(self, member: MemoryMember) -> None:
        """Removes a member, if it is one, and rebalances."""
        if member in self.members:
            self.members.remove(member)
            member.revoking.clear()
            self._rebalance()

    def give_up(self, member: MemoryMember, partitions: Collection[Partition]) -> None:
        """Takes partitions from their owner, and rebalances."""
        for partition in partitions:
            member.revoking.pop(partition, None)
            member.owned.pop(partition, None)
        if partitions:
            self._rebalance()

    def _rebalance(self) -> None:
        """Revokes the partitions that a member owns above its share, and assigns those without an owner."""
        self.generation += 1
        if not self.members:
            return
        topics = {topic for member in self.members for topic in member.topics}
        partitions = [partition for topic in sorted(topics) for partition in self._logs.partitions(topic)]
        share, extra = divmod(len(partitions), len(self.members))
        shares = {id(member): share + (number < extra) for number, member in enumerate(self._fullest_first())}
        for member in self.members:
            kept = [partition for partition in sorted(member.owned) if partition not in member.revoking]
            for partition in kept[shares[id(member)] :]:
                member.revoking[partition] = self._logs.clock() + member.drain_timeout_s
                member.to_revoke.append(partition)
        owned = {partition for member in self.members for partition in member.owned}
        free = [partition for partition in partitions if partition not in owned]
        for member in self.members:
            while free and len(member.owned) - len(member.revoking) < shares[id(member)]:
                self._assign(member, free.pop(0))

    def _fullest_first(self) -> Sequence[MemoryMember]:
        """Returns the members with the most partitions first: they keep the most, so that few partitions move."""
        return sorted(self.members, key=lambda member: len(member.revoking) - len(member.owned))

    def _assign(self, member: MemoryMember, partition: Partition) -> None:
        assignment = Assignment(partition.topic, partition.partition, self.generation)
        member.owned[partition] = assignment
        member.to_assign.append(assignment)
