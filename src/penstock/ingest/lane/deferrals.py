"""Leaves records of tenants beyond their quota in Kafka, so that the records behind them are received.

A lane holds some megabytes of such a tenant, which wait for its quota. What it is delivered beyond them it does not
keep: their offsets stay incomplete, so nothing behind them is committed, and the lane reads on. Once tenants have room
again, the partition is read back from the first of their deferred offsets, for all of them together, until they have no
more room or no more deferred offsets. Then it continues where it was, for as long as the read-back took: however many
tenants are at their quota, the records of all others keep half of the time. The records of one tenant and partition
keep their order.

    head       ─► received: new offsets
    read back  ─► received: the deferred offsets of tenants with room; all others are known and skipped
"""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass

from penstock.broker.base import Consumer, Partition
from penstock.errors import FencedError
from penstock.ingest.lane.batcher import Batcher
from penstock.ingest.lane.offsets import OffsetLedger
from penstock.records import Position

_TENANTS_WITH_ROOM = 4  # that share half of the lane's memory evenly, or as many as are at their quota if more
_NEAR = 1_000  # offsets before a tenant's first one from which others are taken along: a few polls
# A partition is read back for that long before its head has its turn. Beside it the quarter of a second is short that a
# broker may take to answer a fetch when the offset changes.
_READ_BACK_S = 0.5
_HEAD_S = 0.4  # within which new records arrive if there are some: that quarter, and an idle poll


class _DeferredOffsets:
    """The deferred offsets of a partition, by tenant. No tenant has none."""

    def __init__(self) -> None:
        self._tenants: dict[str, deque[int]] = {}  # ascending; in the order in which they lead a read-back
        self._owners: dict[int, str] = {}  # of the first offset of each tenant

    def __bool__(self) -> bool:
        return bool(self._tenants)

    def __contains__(self, tenant: str) -> bool:
        return tenant in self._tenants

    def counts(self) -> Mapping[str, int]:
        """Returns the number of deferred offsets of each tenant."""
        return {tenant: len(offsets) for tenant, offsets in self._tenants.items()}

    def append(self, tenant: str, offset: int) -> None:
        """Adds an offset, which is higher than all others."""
        offsets = self._tenants.setdefault(tenant, deque())
        if not offsets:
            self._owners[offset] = tenant
        offsets.append(offset)

    def owner(self, offset: int) -> str | None:
        """Returns the tenant whose first deferred offset this is; None if it is none's."""
        return self._owners.get(offset)

    def below(self, tenant: str, offset: int) -> list[int]:
        """Returns the offsets of a tenant that are below an offset."""
        return list(itertools.takewhile(lambda deferred: deferred < offset, self._tenants.get(tenant, ())))

    def remove_first(self, tenant: str) -> None:
        """Removes the first offset of a tenant."""
        offsets = self._tenants[tenant]
        del self._owners[offsets.popleft()]
        if offsets:
            self._owners[offsets[0]] = tenant
        else:
            del self._tenants[tenant]

    def next_start(self, has_room: Callable[[str], bool]) -> tuple[int, set[str]] | None:
        """Returns where the next read-back begins, and the tenants with room that have no deferred offset before that.

        It reaches the first offset of the tenant whose turn it is to lead, and takes along others from near before it.
        None if no tenant has room.
        """
        firsts = {tenant: offsets[0] for tenant, offsets in self._tenants.items() if has_room(tenant)}
        if not firsts:
            return None
        leader = next(iter(firsts))
        self._tenants[leader] = self._tenants.pop(leader)
        start = min(first for first in firsts.values() if first > firsts[leader] - _NEAR)
        return start, {tenant for tenant, first in firsts.items() if first >= start}


@dataclass(slots=True)
class _ReadBack:
    """A partition that is being read back.

    Attributes:
        tenants: those whose records are received: they have room, and all their deferred offsets are yet to come.
        since_s: the time of its first record; None before.
        records: the number that was delivered since the last seek.
    """

    tenants: set[str]
    since_s: float | None = None
    records: int = 0

    def elapsed_s(self, now_s: float) -> float:
        return 0.0 if self.since_s is None else now_s - self.since_s

    def is_over(self, now_s: float) -> bool:
        """Returns whether the head has its turn; not before the tenant has been reached that leads."""
        return self.elapsed_s(now_s) >= _READ_BACK_S and (self.records > _NEAR or not self.tenants)


@dataclass(slots=True)
class _HeadTurn:
    """The time after a read-back during which the head of the partition is delivered.

    Attributes:
        since_s: its beginning.
        duration_s: the time that the read-back took.
        has_delivered: whether a new record has arrived.
    """

    since_s: float
    duration_s: float
    has_delivered: bool = False

    def is_over(self, now_s: float) -> bool:
        elapsed_s = now_s - self.since_s
        return elapsed_s >= self.duration_s and (self.has_delivered or elapsed_s >= _HEAD_S)


class Deferrals:
    """The records of a lane that were delivered, were not kept, and will be read again.

    Args:
        consumer: the lane's group member.
        offsets: the lane's ledger.
        batcher: knows which tenants are at their quota, and how much is held of them.
        max_in_flight_bytes: the limit of the lane's memory, half of which tenants at their quota share.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        consumer: Consumer,
        offsets: OffsetLedger,
        batcher: Batcher,
        max_in_flight_bytes: int,
        clock: Callable[[], float],
    ) -> None:
        self._consumer = consumer
        self._offsets = offsets
        self._batcher = batcher
        self._max_bytes = max_in_flight_bytes / 2
        self._part_bytes = self._max_bytes / _TENANTS_WITH_ROOM
        self._clock = clock
        self._deferred: dict[Partition, _DeferredOffsets] = {}  # none is empty
        self._read_back: dict[Partition, _ReadBack] = {}
        self._head_turns: dict[Partition, _HeadTurn] = {}

    @property
    def reading_back(self) -> Set[Partition]:
        """Returns the partitions that are being read back, which have to be delivered however many offsets they have.

        Otherwise one that is full of deferred offsets would stay full.
        """
        return self._read_back.keys()

    @property
    def waiting(self) -> Counter[str]:
        """Returns the number of deferred records, by tenant."""
        waiting: Counter[str] = Counter()
        for deferred in self._deferred.values():
            waiting.update(deferred.counts())
        return waiting

    def defers(self, position: Position, tenant: str) -> bool:
        """Returns whether a new record is left in Kafka; if so, it is read again later.

        Call it for every record that the ledger tracks.
        """
        partition = Partition(position.topic, position.partition)
        if partition in self._read_back:
            self._pass(partition, position.offset)
            self._end(partition)  # the head is reached
        if (head := self._head_turns.get(partition)) is not None:
            head.has_delivered = True
        deferred = self._deferred.get(partition)
        is_behind = deferred is not None and tenant in deferred
        if not is_behind and not (self._batcher.quotas.exceeds(tenant) and not self._has_room(tenant)):
            return False
        self._deferred.setdefault(partition, _DeferredOffsets()).append(tenant, position.offset)
        return True

    def takes(self, position: Position) -> bool:
        """Returns whether a record that was delivered before is a deferred one, which is processed now.

        A tenant that has room by then joins with its first deferred record, one that has no more leaves.
        """
        partition = Partition(position.topic, position.partition)
        read_back = self._read_back.get(partition)
        if read_back is None:
            return False
        if read_back.since_s is None:
            read_back.since_s = self._clock()
        read_back.records += 1
        self._pass(partition, position.offset)
        deferred = self._deferred.get(partition)
        tenant = None if deferred is None else deferred.owner(position.offset)
        if tenant is None:
            return False
        if not self._has_room(tenant):
            read_back.tenants.discard(tenant)
            return False
        read_back.tenants.add(tenant)
        self._remove_first(partition, tenant)
        return True

    def update(self, stopped: Set[Partition]) -> None:
        """Begins and ends to read partitions back; call it once a turn.

        Args:
            stopped: the partitions that are halted or revoked. Their deferred offsets stay incomplete, and are
                delivered again when the partition is read from its committed offset, here or by its next owner.
        """
        self._part_bytes = self._max_bytes / max(_TENANTS_WITH_ROOM, self._batcher.quotas.waiting)
        for partition in stopped & (self._deferred.keys() | self._read_back.keys()):
            self.forget(partition)
        now_s = self._clock()
        for partition, read_back in list(self._read_back.items()):
            if read_back.is_over(now_s) or (not read_back.tenants and not self._seek_back(partition, read_back)):
                self._seek(partition, self._offsets.position(partition))
                self._end(partition)
        self._head_turns = {at: head for at, head in self._head_turns.items() if not head.is_over(now_s)}
        for partition in self._deferred.keys() - self._read_back.keys() - self._head_turns.keys():
            read_back = _ReadBack(set())
            if self._seek_back(partition, read_back):
                self._read_back[partition] = read_back

    def forget(self, partition: Partition) -> None:
        """Forgets the deferred offsets of a partition, which is no longer owned or will be read again."""
        self._deferred.pop(partition, None)
        self._read_back.pop(partition, None)
        self._head_turns.pop(partition, None)

    def _seek_back(self, partition: Partition, read_back: _ReadBack) -> bool:
        """Continues a read-back with the next tenants that have room, and returns whether there are some."""
        deferred = self._deferred.get(partition)
        begin = None if deferred is None else deferred.next_start(lambda tenant: self._has_room(tenant, share=0.5))
        if begin is None or not self._seek(partition, begin[0]):
            return False
        read_back.tenants, read_back.records = begin[1], 0
        return True

    def _end(self, partition: Partition) -> None:
        """Ends a read-back; the head has its turn."""
        now_s = self._clock()
        self._head_turns[partition] = _HeadTurn(now_s, self._read_back.pop(partition).elapsed_s(now_s))

    def _has_room(self, tenant: str, *, share: float = 1.0) -> bool:
        """Returns whether a tenant at its quota holds less than a share of its part of the lane's memory."""
        held_bytes = self._batcher.queued_bytes_of(tenant)
        return held_bytes == 0 or held_bytes < share * self._part_bytes

    def _pass(self, partition: Partition, offset: int) -> None:
        """Completes the offsets that were not delivered again: compaction or retention has removed their records."""
        assignment = self._offsets.assignment(partition)
        deferred = self._deferred.get(partition)
        if assignment is None or deferred is None:
            return
        for tenant in list(self._read_back[partition].tenants):
            for removed in deferred.below(tenant, offset):
                self._offsets.complete(assignment, removed)
                self._remove_first(partition, tenant)

    def _remove_first(self, partition: Partition, tenant: str) -> None:
        deferred = self._deferred[partition]
        deferred.remove_first(tenant)
        if tenant not in deferred:
            self._read_back[partition].tenants.discard(tenant)
        if not deferred:
            del self._deferred[partition]

    def _seek(self, partition: Partition, offset: int) -> bool:
        try:
            self._consumer.seek_to(partition, offset)
        except FencedError:
            return False  # the next poll reports that it is lost
        return True
