"""The broker in memory, for tests and for the lane's state machine: behaves as the real one does, without its waiting.

`MemoryBroker` is Kafka; its methods that no client has (`expire`, `truncate_to`, `corrupt`, `evict`, `available`) are
the faults. Consumers and producers come from it. The contract tests hold it to the real thing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import count

from kafka.partitioner.default import murmur2

from penstock.broker.base import (
    AssignedPartition,
    LostRange,
    Message,
    MessageTooLargeError,
    Partition,
    PollResult,
    UnreadableRange,
)
from penstock.errors import FencedError, PermanentError, UnavailableError
from penstock.records import Assignment, Position, Record


@dataclass(slots=True)
class _Log:
    """One partition: records by offset, some perhaps gone from the front."""

    records: list[Record] = field(default_factory=list)
    start: int = 0
    end: int = 0
    unreadable: set[int] = field(default_factory=set)


class MemoryBroker:
    """Topics, partitions, committed offsets and consumer groups. Safe to call from several threads.

    Args:
        clock: monotonic seconds, for the deadlines of held revocations.
        now_ms: Kafka's timestamp of a message that brings none.
        blocking: whether `poll` waits for something to tell; False for tests that own the clock.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        blocking: bool = True,
    ) -> None:
        self.available = True
        """Set to False, nothing answers: polls are empty, commits and sends fail. Memberships last."""
        self.clock = clock
        self.blocking = blocking
        self.changed = threading.Condition(threading.RLock())
        self._now_ms = now_ms
        self._logs: dict[Partition, _Log] = {}
        self._max_bytes: dict[str, int] = {}
        self._groups: dict[str, _Group] = {}
        self._round_robin = count()

    # ---- topics ----

    def create_topic(self, topic: str, partitions: int = 1, *, max_message_bytes: int = 1 << 30) -> None:
        with self.changed:
            self._max_bytes[topic] = max_message_bytes
            for number in range(partitions):
                self._logs.setdefault(Partition(topic, number), _Log())

    def partitions(self, topic: str) -> Sequence[Partition]:
        return [partition for partition in sorted(self._logs) if partition.topic == topic]

    def append(self, message: Message) -> Position:
        """Writes a message, as a producer's `send` ends up doing.

        Raises:
            UnavailableError: not available, or no such topic.
            PermanentError: no key and no value, or too large.
        """
        with self.changed:
            self._check_available(f"write to {message.topic}")
            partition = self._partition_of(message)
            log = self._logs[partition]
            position = Position(partition.topic, partition.partition, log.end)
            timestamp_ms = self._now_ms() if message.timestamp_ms is None else message.timestamp_ms
            record = Record(position, message.key, message.value, message.headers, timestamp_ms)
            if record.size_bytes > self._max_bytes[message.topic]:
                raise MessageTooLargeError(
                    f"a message of {record.size_bytes:,} bytes is more than max.message.bytes of {message.topic} "
                    f"allows ({self._max_bytes[message.topic]:,})."
                )
            log.records.append(record)
            log.end += 1
            self.changed.notify_all()
            return position

    def expire(self, partition: Partition, before: int) -> None:
        """What retention does: removes the records below this offset."""
        with self.changed:
            log = self._logs[partition]
            log.start = max(log.start, before)
            log.end = max(log.end, log.start)
            log.records = [record for record in log.records if record.position.offset >= log.start]

    def truncate_to(self, partition: Partition, end: int) -> None:
        """What an unclean leader election does: removes the records from this offset on, which is given out again."""
        with self.changed:
            log = self._logs[partition]
            log.end = min(log.end, end)
            log.start = min(log.start, log.end)
            log.records = [record for record in log.records if record.position.offset < log.end]
            log.unreadable = {offset for offset in log.unreadable if offset < log.end}

    def corrupt(self, position: Position) -> None:
        """No client can read this record any more."""
        with self.changed:
            self._logs[Partition(position.topic, position.partition)].unreadable.add(position.offset)

    def is_readable(self, position: Position) -> bool:
        return position.offset not in self._logs[Partition(position.topic, position.partition)].unreadable

    def leave_gap(self, partition: Partition, offsets: int) -> None:
        """Leaves a hole of so many offsets, as compaction and transaction markers do."""
        with self.changed:
            self._logs[partition].end += offsets

    def compact_away(self, position: Position) -> None:
        """What compaction does: a hole is left where the record was."""
        with self.changed:
            log = self._logs[Partition(position.topic, position.partition)]
            log.records = [record for record in log.records if record.position != position]

    def records(self, topic: str) -> Sequence[Record]:
        """All that is there, by partition and offset."""
        with self.changed:
            return [record for partition in self.partitions(topic) for record in self._logs[partition].records]

    def log_range(self, partition: Partition) -> tuple[int, int]:
        """First offset, and the one that the next record will get."""
        return self._logs[partition].start, self._logs[partition].end

    # ---- clients ----

    def consumer(self, group: str, topics: Collection[str], *, drain_timeout_s: float) -> MemoryConsumer:
        return MemoryConsumer(self, self.group(group), frozenset(topics), drain_timeout_s)

    def producer(self) -> MemoryProducer:
        return MemoryProducer(self)

    def committed(self, group: str) -> Mapping[Partition, int]:
        return dict(self.group(group).committed)

    def evict(self, consumer: MemoryConsumer) -> None:
        """What happens to a member whose session timed out: its partitions go to others before it knows."""
        with self.changed:
            consumer.group.leave(consumer.member)
            self.changed.notify_all()

    def group(self, name: str) -> _Group:
        with self.changed:
            return self._groups.setdefault(name, _Group(self))

    def read(self, partition: Partition, offset: int, limit: int) -> Iterator[Record]:
        """Up to `limit` records at and above an offset."""
        found = (record for record in self._logs[partition].records if record.position.offset >= offset)
        return (record for record, _ in zip(found, range(limit), strict=False))

    def _partition_of(self, message: Message) -> Partition:
        partitions = self.partitions(message.topic)
        if not partitions:
            raise UnavailableError(f"could not write to {message.topic}: there is no such topic (yet).")
        if message.key is None and message.value is None:
            raise PermanentError(f"could not write to {message.topic}: a message needs a key or a value.")
        if message.partition is not None:
            wanted = Partition(message.topic, message.partition)
            if wanted not in partitions:
                raise PermanentError(f"could not write to {wanted}: there is no such partition.")
            return wanted
        number = next(self._round_robin) if message.key is None else murmur2(message.key) & 0x7FFFFFFF
        return partitions[number % len(partitions)]

    def _check_available(self, doing: str) -> None:
        if not self.available:
            raise UnavailableError(f"could not {doing}: the broker does not answer.")


@dataclass(slots=True, eq=False)
class _Member:
    """What the group knows of a consumer, and what it has yet to be told."""

    topics: frozenset[str]
    drain_s: float
    owned: dict[Partition, Assignment] = field(default_factory=dict)
    held: dict[Partition, float] = field(default_factory=dict)  # being revoked, with the deadline
    to_assign: list[Assignment] = field(default_factory=list)
    to_revoke: list[Partition] = field(default_factory=list)


class _Group:
    """A consumer group with cooperative rebalancing: nothing moves before its owner has released it."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker
        self.committed: dict[Partition, int] = {}
        self.generation = 0
        self.members: list[_Member] = []

    def join(self, member: _Member) -> None:
        self.members.append(member)
        self._rebalance()

    def leave(self, member: _Member) -> None:
        if member in self.members:
            self.members.remove(member)
            member.held.clear()
            self._rebalance()

    def give_up(self, member: _Member, partitions: Collection[Partition]) -> None:
        for partition in partitions:
            member.held.pop(partition, None)
            member.owned.pop(partition, None)
        if partitions:
            self._rebalance()

    def _rebalance(self) -> None:
        """Takes what a member has above its share, and hands out what nobody has."""
        self.generation += 1
        if not self.members:
            return
        topics = {topic for member in self.members for topic in member.topics}
        partitions = [partition for topic in sorted(topics) for partition in self._broker.partitions(topic)]
        share, extra = divmod(len(partitions), len(self.members))
        shares = {id(member): share + (number < extra) for number, member in enumerate(self._fullest_first())}
        for member in self.members:
            kept = [partition for partition in sorted(member.owned) if partition not in member.held]
            for partition in kept[shares[id(member)] :]:
                member.held[partition] = self._broker.clock() + member.drain_s
                member.to_revoke.append(partition)
        owned = {partition for member in self.members for partition in member.owned}
        free = [partition for partition in partitions if partition not in owned]
        for member in self.members:
            while free and len(member.owned) - len(member.held) < shares[id(member)]:
                self._assign(member, free.pop(0))

    def _fullest_first(self) -> Sequence[_Member]:
        """Who has most keeps most, so that little moves."""
        return sorted(self.members, key=lambda member: len(member.held) - len(member.owned))

    def _assign(self, member: _Member, partition: Partition) -> None:
        assignment = Assignment(partition.topic, partition.partition, self.generation)
        member.owned[partition] = assignment
        member.to_assign.append(assignment)


class MemoryConsumer:
    """A member of a group of a `MemoryBroker` (`broker.base.Consumer`)."""

    def __init__(self, broker: MemoryBroker, group: _Group, topics: frozenset[str], drain_timeout_s: float) -> None:
        self.group = group
        self._broker = broker
        self._topics = topics
        self._drain_s = drain_timeout_s
        self.member = self._new_member()
        self._told: dict[Partition, Assignment] = {}  # what the lane knows it has
        self._positions: dict[Partition, int] = {}
        self._paused: set[Partition] = set()
        self._stopped: set[Partition] = set()  # before what cannot be read
        self._unreadable: list[UnreadableRange] = []
        self._generation = -1
        self._closed = False

    def poll(self, timeout_s: float, max_records: int) -> PollResult:
        """See `broker.base.Consumer.poll`."""
        with self._broker.changed:
            polled = self._poll_once(max_records)
            deadline = time.monotonic() + timeout_s
            while self._broker.blocking and not _tells_something(polled) and time.monotonic() < deadline:
                self._broker.changed.wait(min(0.05, max(0.0, deadline - time.monotonic())))
                polled = self._poll_once(max_records)
            return polled

    def _poll_once(self, max_records: int) -> PollResult:
        if not self._broker.available:
            return PollResult(broker_available=False)
        lost = self._rejoin_if_thrown_out()
        if self.member not in self.group.members:
            self.group.join(self.member)
        lost += self._drop_expired()
        revoking = self._take_revocations()
        assigned = [self._begin(assignment) for assignment in self._take_assignments()]
        self._generation = self.group.generation
        lost_ranges, rewound = self._skip_what_is_gone()
        records = self._read(max_records)
        unreadable, self._unreadable = self._unreadable, []
        return PollResult(records, assigned, revoking, lost, lost_ranges, rewound, unreadable)

    def release(self, partitions: Collection[Partition]) -> None:
        """See `broker.base.Consumer.release`."""
        with self._broker.changed:
            released = [partition for partition in partitions if partition in self.member.held]
            self._forget(released)
            self.group.give_up(self.member, released)
            self._broker.changed.notify_all()

    def commit(self, offsets: Mapping[Partition, int], timeout_s: float) -> None:
        """See `broker.base.Consumer.commit`."""
        with self._broker.changed:
            if any(partition not in self._told for partition in offsets):
                raise FencedError(f"could not commit {sorted(offsets)}: this lane does not own all of them any more.")
            if not self._broker.available:
                raise UnavailableError("could not commit: the broker does not answer.")
            if self.member not in self.group.members:
                raise FencedError("could not commit: the group went on without this member.")
            self.group.committed.update(offsets)

    def pause(self, partitions: Collection[Partition]) -> None:
        """See `broker.base.Consumer.pause`."""
        self._paused.update(partition for partition in partitions if partition in self._told)

    def resume(self, partitions: Collection[Partition]) -> None:
        """See `broker.base.Consumer.resume`."""
        self._paused.difference_update(partitions)

    def seek_to(self, partition: Partition, offset: int) -> None:
        """See `broker.base.Consumer.seek_to`."""
        if partition not in self._told or partition in self.member.held:
            raise FencedError(f"could not read {partition} again from {offset}: this lane does not own it any more.")
        self._positions[partition] = offset
        self._stopped.discard(partition)

    def assignments(self) -> Mapping[Partition, Assignment]:
        """See `broker.base.Consumer.assignments`."""
        return dict(self._told)

    def generation(self) -> int:
        """See `broker.base.Consumer.generation`."""
        return self._generation

    def close(self, timeout_s: float) -> None:
        """See `broker.base.Consumer.close`."""
        with self._broker.changed:
            if not self._closed:
                self._closed = True
                self._forget(list(self._told))
                self.group.leave(self.member)
                self._broker.changed.notify_all()

    def _new_member(self) -> _Member:
        return _Member(self._topics, self._drain_s)

    def _rejoin_if_thrown_out(self) -> list[Partition]:
        if self._generation < 0 or self.member in self.group.members:
            return []
        lost = sorted(self._told)
        self._forget(lost)
        self.member = self._new_member()
        return lost

    def _drop_expired(self) -> list[Partition]:
        now = self._broker.clock()
        late = [
            partition
            for partition, deadline in self.member.held.items()
            if now >= deadline and partition not in self.member.to_revoke
        ]
        self._forget(late)
        self.group.give_up(self.member, late)
        return late

    def _take_revocations(self) -> list[Partition]:
        taken, self.member.to_revoke = self.member.to_revoke, []
        unheard = [partition for partition in taken if partition not in self._told]
        self.member.to_assign = [one for one in self.member.to_assign if _partition(one) not in unheard]
        self.group.give_up(self.member, unheard)  # gone again before the lane ever heard of them
        return [partition for partition in taken if partition in self._told]

    def _take_assignments(self) -> list[Assignment]:
        taken, self.member.to_assign = self.member.to_assign, []
        return taken

    def _begin(self, assignment: Assignment) -> AssignedPartition:
        partition = _partition(assignment)
        log_start, log_end = self._broker.log_range(partition)
        committed = self.group.committed.get(partition)
        start, lost, cut_from = log_start, None, None
        if committed is not None and committed < log_start:
            lost = LostRange(partition, committed, log_start)
        elif committed is not None and committed > log_end:
            cut_from = committed
        elif committed is not None:
            start = committed
        self._told[partition] = assignment
        self._positions[partition] = start
        return AssignedPartition(assignment, start, lost, cut_from)

    def _skip_what_is_gone(self) -> tuple[list[LostRange], list[tuple[Partition, int]]]:
        """Goes on where the logs are now: (removed by retention, rolled back)."""
        lost_ranges, rewound = [], []
        for partition in self._readable():
            log_start, log_end = self._broker.log_range(partition)
            if self._positions[partition] < log_start:
                lost_ranges.append(LostRange(partition, self._positions[partition], log_start))
                self._positions[partition] = log_start
            elif self._positions[partition] > log_end:
                rewound.append((partition, log_end))
                self._positions[partition] = log_end
        return lost_ranges, rewound

    def _read(self, max_records: int) -> list[Record]:
        records: list[Record] = []
        for partition in self._readable():
            for record in self._broker.read(partition, self._positions[partition], max_records - len(records)):
                offset = record.position.offset
                if not self._broker.is_readable(record.position):
                    self._stopped.add(partition)
                    self._unreadable.append(UnreadableRange(partition, offset, offset + 1, "it was spoiled"))
                    break
                records.append(record)
                self._positions[partition] = offset + 1
        return records

    def _readable(self) -> list[Partition]:
        silent = self._paused | self._stopped | self.member.held.keys()
        return [partition for partition in self._told if partition not in silent]

    def _forget(self, partitions: Collection[Partition]) -> None:
        for partition in partitions:
            self._told.pop(partition, None)
            self._positions.pop(partition, None)
            self._paused.discard(partition)
            self._stopped.discard(partition)


class MemoryProducer:
    """Writes to a `MemoryBroker` (`broker.base.Producer`). What it is given is acknowledged before `send` returns."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker

    def send(self, message: Message) -> Future[Position]:
        """See `broker.base.Producer.send`."""
        future: Future[Position] = Future()
        try:
            future.set_result(self._broker.append(message))
        except (UnavailableError, PermanentError) as exc:
            future.set_exception(exc)
        return future

    def flush(self, timeout_s: float) -> None:
        """See `broker.base.Producer.flush`."""

    def close(self, timeout_s: float) -> None:
        """See `broker.base.Producer.close`."""


def _partition(assignment: Assignment) -> Partition:
    return Partition(assignment.topic, assignment.partition)


def _tells_something(polled: PollResult) -> bool:
    told = (polled.records, polled.assigned, polled.revoking, polled.revoked_without_drain, polled.lost_ranges)
    return any((*told, polled.truncated, polled.unreadable))
