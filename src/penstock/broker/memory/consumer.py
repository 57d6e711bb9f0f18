"""The consumer of a broker in memory."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping

from penstock.broker.base import (
    AssignedPartition,
    CommitDeniedError,
    LostRange,
    Partition,
    PollResult,
    Truncation,
    partition_of,
)
from penstock.broker.memory.group import MemoryGroup, MemoryMember
from penstock.broker.memory.logs import MemoryLogs
from penstock.broker.stops import DeniedPartition, UnreadableRange
from penstock.errors import FencedError, UnavailableError
from penstock.records import Assignment, Record


class MemoryConsumer:
    """A member of a group of a `MemoryBroker` (`broker.base.Consumer`)."""

    def __init__(self, logs: MemoryLogs, group: MemoryGroup, topics: frozenset[str], drain_timeout_s: float) -> None:
        self.group = group
        self.member = MemoryMember(topics, drain_timeout_s)
        self._logs = logs
        self._owned: dict[Partition, Assignment] = {}  # as reported by `poll`
        self._positions: dict[Partition, int] = {}
        self._paused: set[Partition] = set()
        self._stopped: set[Partition] = set()  # before unreadable records
        self._unreadable: list[UnreadableRange | DeniedPartition] = []
        self._generation = -1
        self._closed = False

    # --- reading -----------------------------------------------------------------------------------------------------

    def poll(self, timeout_s: float, max_records: int) -> PollResult:
        """See `broker.base.Consumer.poll`."""
        with self._logs.changed:
            polled = self._poll_once(max_records)
            deadline_s = time.monotonic() + timeout_s
            while self._logs.blocking and polled.is_empty and time.monotonic() < deadline_s:
                self._logs.changed.wait(min(0.05, max(0.0, deadline_s - time.monotonic())))
                polled = self._poll_once(max_records)
            return polled

    def _poll_once(self, max_records: int) -> PollResult:
        if not self._logs.available or self._logs.refusal:
            return PollResult(broker_available=False, refusal=self._logs.refusal)
        lost = self._rejoin_if_removed()
        if self.member not in self.group.members:
            self.group.join(self.member)
        lost += self._drop_expired()
        revoking = self._take_revocations()
        assigned = [self._assign(assignment) for assignment in self.member.take_assignments()]
        self._generation = self.group.generation
        lost_ranges, truncated = self._reposition()
        records = self._read(max_records)
        unreadable, self._unreadable = self._unreadable, []
        return PollResult(records, assigned, revoking, lost, lost_ranges, truncated, unreadable)

    def _reposition(self) -> tuple[list[LostRange], list[Truncation]]:
        """Continues where the logs are now, and returns (removed by retention, truncated)."""
        lost_ranges, truncated = [], []
        for partition in self._readable():
            log = self._logs.log_range(partition)
            position = self._positions[partition]
            if position < log.start:
                lost_ranges.append(LostRange(partition, position, log.start))
                self._positions[partition] = log.start
            elif position > log.end:
                truncated.append(Truncation(partition, log.end))
                self._positions[partition] = log.end
        return lost_ranges, truncated

    def _read(self, max_records: int) -> list[Record]:
        records: list[Record] = []
        for partition in self._readable():
            if partition.topic in self._logs.denied:
                self._stopped.add(partition)
                self._unreadable.append(DeniedPartition(partition, self._positions[partition], "Read is denied."))
                continue
            for record in self._logs.read(partition, self._positions[partition], max_records - len(records)):
                offset = record.position.offset
                if not self._logs.is_readable(record.position):
                    self._stopped.add(partition)
                    self._unreadable.append(UnreadableRange(partition, offset, offset + 1, "it was corrupted"))
                    break
                records.append(record)
                self._positions[partition] = offset + 1
        return records

    def _readable(self) -> list[Partition]:
        silent = self._paused | self._stopped | self.member.revoking.keys()
        return [partition for partition in self._owned if partition not in silent]

    # --- ownership ---------------------------------------------------------------------------------------------------

    def release(self, partitions: Collection[Partition]) -> None:
        """See `broker.base.Consumer.release`."""
        with self._logs.changed:
            released = [partition for partition in partitions if partition in self.member.revoking]
            self._forget(released)
            self.group.give_up(self.member, released)
            self._logs.changed.notify_all()

    def pause(self, partitions: Collection[Partition]) -> None:
        """See `broker.base.Consumer.pause`."""
        self._paused.update(partition for partition in partitions if partition in self._owned)

    def resume(self, partitions: Collection[Partition]) -> None:
        """See `broker.base.Consumer.resume`."""
        self._paused.difference_update(partitions)

    def seek_to(self, partition: Partition, offset: int) -> None:
        """See `broker.base.Consumer.seek_to`."""
        if partition not in self._owned or partition in self.member.revoking:
            raise FencedError(f"could not read {partition} again from {offset}: this lane does not own it any more.")
        self._positions[partition] = offset
        self._stopped.discard(partition)

    def assignments(self) -> Mapping[Partition, Assignment]:
        """See `broker.base.Consumer.assignments`."""
        return dict(self._owned)

    def generation(self) -> int:
        """See `broker.base.Consumer.generation`."""
        return self._generation

    def _rejoin_if_removed(self) -> list[Partition]:
        if self._generation < 0 or self.member in self.group.members:
            return []
        lost = sorted(self._owned)
        self._forget(lost)
        self.member = MemoryMember(self.member.topics, self.member.drain_timeout_s)
        return lost

    def _drop_expired(self) -> list[Partition]:
        now_s = self._logs.clock()
        expired = [
            partition
            for partition, deadline_s in self.member.revoking.items()
            if now_s >= deadline_s and partition not in self.member.to_revoke
        ]
        self._forget(expired)
        self.group.give_up(self.member, expired)
        return expired

    def _take_revocations(self) -> list[Partition]:
        taken = self.member.take_revocations()
        unreported = [partition for partition in taken if partition not in self._owned]
        self.member.cancel_assignments(unreported)
        self.group.give_up(self.member, unreported)  # revoked again before the lane knew of them
        return [partition for partition in taken if partition in self._owned]

    def _assign(self, assignment: Assignment) -> AssignedPartition:
        partition = partition_of(assignment)
        committed = self.group.committed.get(partition)
        assigned = AssignedPartition.resume(assignment, committed, self._logs.log_range(partition))
        self._owned[partition] = assignment
        self._positions[partition] = assigned.start
        return assigned

    def _forget(self, partitions: Collection[Partition]) -> None:
        for partition in partitions:
            self._owned.pop(partition, None)
            self._positions.pop(partition, None)
            self._paused.discard(partition)
            self._stopped.discard(partition)

    # --- committing and leaving --------------------------------------------------------------------------------------

    def commit(self, offsets: Mapping[Partition, int], timeout_s: float, *, note: str = "") -> None:
        """See `broker.base.Consumer.commit`."""
        with self._logs.changed:
            if any(partition not in self._owned for partition in offsets):
                raise FencedError(f"could not commit {sorted(offsets)}: this lane does not own all of them any more.")
            if not self._logs.available:
                raise UnavailableError("could not commit: the broker does not answer.")
            if self.member not in self.group.members:
                raise FencedError("could not commit: the group continued without this member.")
            allowed = {at: offset for at, offset in offsets.items() if at.topic not in self._logs.denied}
            self.group.committed.update(allowed)
            self.group.notes.update(dict.fromkeys(allowed, note))
            if len(allowed) < len(offsets):
                raise CommitDeniedError(f"could not commit for {sorted(self._logs.denied)}: Read is denied.", allowed)

    def close(self, timeout_s: float) -> None:
        """See `broker.base.Consumer.close`."""
        with self._logs.changed:
            if not self._closed:
                self._closed = True
                self._forget(list(self._owned))
                self.group.leave(self.member)
                self._logs.changed.notify_all()
