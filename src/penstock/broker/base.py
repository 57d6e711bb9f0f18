"""The types that the planes exchange with Kafka, and the protocols of consumer, producer, reader and dead letters.

`broker.consumer`, `broker.producer`, `broker.reader` and `broker.deadletters` implement the protocols on a real broker,
`broker.memory` in memory. Both pass tests/broker/test_contract.py and tests/broker/test_reader.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from penstock.broker.stops import DeniedPartition, UnreadableRange
from penstock.errors import PermanentError, Reason, UnavailableError
from penstock.records import Assignment, Position, Record, Rejected


@dataclass(frozen=True, slots=True, order=True)
class Partition:
    """One partition of a topic. Written `media.text[3]`."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]"


def partition_of(item: Position | Assignment) -> Partition:
    """Returns the partition of a position or an assignment."""
    return Partition(item.topic, item.partition)


@dataclass(frozen=True, slots=True)
class LostRange:
    """Offsets that retention removed before this group committed them: `first` to `end`, exclusive.

    Some of these offsets may never have been records: compaction and control records leave gaps.
    """

    partition: Partition
    first: int
    end: int

    def __str__(self) -> str:
        return f"{self.partition} offsets {self.first} to {self.end - 1}"


class LogRange(NamedTuple):
    """The offsets of a partition's log: from `start` to `end`, exclusive. Not every offset between is a record."""

    start: int
    end: int


class Truncation(NamedTuple):
    """A partition whose log lost its newest records, or was created again.

    Attributes:
        partition: the partition.
        end: the offset from which it is read again; offsets from there on stand for other records than before.
    """

    partition: Partition
    end: int


@dataclass(frozen=True, slots=True)
class AssignedPartition:
    """A partition that this member now owns, with the offset at which it starts.

    At most one of `lost` and `truncated_from` is set.

    Attributes:
        assignment: topic, partition and the group's generation in which this member received it. It stays the same
            while the member keeps the partition, through any rebalance.
        start: the offset that is delivered first: the committed one, or the start of the log if nothing was committed
            or retention removed that offset.
        lost: the offsets past the committed one that retention removed, if any.
        truncated_from: the committed offset, if the log ends below it because it was truncated or created again. Commit
            `start` immediately: if the log grows past this offset first, the next owner starts there, and the records
            between are lost.
    """

    assignment: Assignment
    start: int
    lost: LostRange | None = None
    truncated_from: int | None = None

    @property
    def partition(self) -> Partition:
        """The assigned partition."""
        return partition_of(self.assignment)

    @classmethod
    def resume(cls, assignment: Assignment, committed: int | None, log: LogRange) -> AssignedPartition:
        """Starts at the committed offset, or at the start of the log if it does not hold that offset."""
        if committed is None:
            return cls(assignment, log.start)
        if committed > log.end:
            return cls(assignment, log.start, truncated_from=committed)
        if committed < log.start:
            return cls(assignment, log.start, lost=LostRange(partition_of(assignment), committed, log.start))
        return cls(assignment, committed)


@dataclass(frozen=True, slots=True)
class PollResult:
    """The records and group events since the last poll.

    Apply the fields in this order: `revoked_without_drain`, `assigned`, `lost_ranges`, `truncated`, `records`,
    `unreadable`, `revoking`.

    A partition appears once in `assigned`; then its records follow, in order of their offsets. It ends in one of two
    ways: in `revoking`, after which no record of it follows and `release` gives it up, or in `revoked_without_drain`. A
    partition in `revoking` that is not released in time appears in `revoked_without_drain` later. After either end it
    may be assigned again.

    Attributes:
        records: the delivered records, ordered by offset within a partition; partitions are in any order.
        assigned: partitions that this member received.
        revoking: partitions that the group takes back. They are still owned: drain, commit, then `release`.
        revoked_without_drain: partitions that another member owns already; nothing of them can be committed.
        lost_ranges: offsets that retention removed while this member was reading them; those of newly assigned
            partitions are in `assigned`.
        truncated: partitions that are read again from a lower offset, which is to be committed immediately (see
            `AssignedPartition.truncated_from`).
        unreadable: partitions that stop before what cannot or may not be read; they deliver nothing until `seek_to`.
        denied: the topics that this client may not know of now, with the right that is missing. Their partitions, if it
            owns any, deliver nothing.
        broker_available: False while no broker answers; then nothing is delivered, which is not an error.
        refusal: why brokers refuse this client, if they do: then none is available.
    """

    records: Sequence[Record] = ()
    assigned: Sequence[AssignedPartition] = ()
    revoking: Sequence[Partition] = ()
    revoked_without_drain: Sequence[Partition] = ()
    lost_ranges: Sequence[LostRange] = ()
    truncated: Sequence[Truncation] = ()
    unreadable: Sequence[UnreadableRange | DeniedPartition] = ()
    denied: Mapping[str, str] = field(default_factory=dict)
    broker_available: bool = True
    refusal: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether nothing was delivered and nothing happened."""
        return not (
            self.records
            or self.assigned
            or self.revoking
            or self.revoked_without_drain
            or self.lost_ranges
            or self.truncated
            or self.unreadable
        )


class Consumer(Protocol):
    """One member of a consumer group, driven by a lane from one thread.

    It commits only in `commit`, and never calls back: `poll` reports everything that happened.
    """

    def poll(self, timeout_s: float, max_records: int) -> PollResult:
        """Waits until there is something to report, for at most `timeout_s`.

        Call it at least every `max_poll_interval_ms`, even while everything is paused or waiting: polling keeps the
        membership. It never raises for an absent broker, nor for one that refuses this client (see
        `PollResult.broker_available` and `refusal`), but tries again; until a broker has answered for the first time it
        may take 2 s longer. While the group rebalances, nothing is delivered.
        """

    def release(self, partitions: Collection[Partition]) -> None:
        """Gives up partitions that `PollResult.revoking` listed. The group continues once all of them are released.

        Commit first. Partitions that are not being revoked are ignored: they were lost before this call.
        """

    def commit(self, offsets: Mapping[Partition, int], timeout_s: float, *, note: str = "") -> None:
        """Commits the next offset to read of each partition; the group has acknowledged it on return.

        Works while a revocation is held open. Keeps the membership as a heartbeat does: a member whose commit is
        acknowledged is not removed for a whole session from the moment at which it was sent.

        Args:
            offsets: the next offset of each partition.
            timeout_s: the longest wait for the acknowledgement.
            note: a text that the group keeps beside the offsets, up to 4 KiB.

        Raises:
            FencedError: this member no longer owns one of them, or the group removed this member. None was committed.
            CommitDeniedError: this client may not commit for some of the topics; the other offsets are committed.
            UnavailableError: no broker acknowledged in time or lets this client commit, or the group is rebalancing
                (poll, then commit again). It is not known whether the offsets were committed; commit them again.
        """

    def pause(self, partitions: Collection[Partition]) -> None:
        """Stops delivery of these partitions until `resume`, also across rebalances while they are kept.

        Records that were fetched already are kept for later. Partitions that are not owned are ignored.
        """

    def resume(self, partitions: Collection[Partition]) -> None:
        """Continues delivery after `pause`. Partitions that are not paused or not owned are ignored."""

    def seek_to(self, partition: Partition, offset: int) -> None:
        """Delivers this partition again from `offset`, also if it stopped before unreadable records.

        Raises:
            FencedError: this member does not own the partition, or it is being revoked.
        """

    def assignments(self) -> Mapping[Partition, Assignment]:
        """Returns the partitions that this member owns, as reported by `poll`, including those being revoked."""

    def generation(self) -> int:
        """Returns the group's generation of this member; -1 before the first one and after removal from the group."""

    def close(self, timeout_s: float) -> None:
        """Leaves the group, so that others take over without waiting for a timeout. Commits nothing. Idempotent."""


class CommitDeniedError(UnavailableError):
    """This client may not commit for some of the topics.

    Args:
        message: the right that is missing.
        acknowledged: the offsets that were committed.
    """

    def __init__(self, message: str, acknowledged: Mapping[Partition, int]) -> None:
        super().__init__(message)
        self.acknowledged = acknowledged


class MessageTooLargeError(PermanentError):
    """A message is larger than the producer or the topic allows; the error's text names the limit."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message to be written to Kafka.

    Attributes:
        topic: the destination.
        key: names the asset and selects the partition (murmur2, as Java's client does); None: any partition.
        value: the bytes; None is a tombstone.
        headers: in order; names may repeat.
        timestamp_ms: milliseconds since the epoch; None: the time of sending.
        partition: a fixed partition instead of the key's.
    """

    topic: str
    key: bytes | None
    value: bytes | None = field(repr=False)
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp_ms: int | None = None
    partition: int | None = None


class Producer(Protocol):
    """Writes messages. Safe to call from several threads."""

    def send(self, message: Message) -> Future[Position]:
        """Queues a message; the future receives its position once every in-sync replica has it.

        Waits while the buffer is full. Raises nothing: the future fails with `MessageTooLargeError` (names the limit),
        another `PermanentError` (the message can never be sent as it is) or `UnavailableError` (no broker took it in
        time, or the topic does not exist yet). Messages with one key keep their order; a retry within the producer
        may write a message twice. Callbacks of the future run on the producer's own thread: keep them short.
        """

    def flush(self, timeout_s: float) -> None:
        """Returns when every message sent so far is acknowledged or failed.

        Raises:
            UnavailableError: the timeout passed first; the text gives the number of open messages.
        """

    def close(self, timeout_s: float) -> None:
        """Flushes within the timeout, fails the remaining messages and frees all resources. Idempotent."""


class DeadLetterSink(Protocol):
    """Accepts events that can never be indexed."""

    def send(self, record: Record, rejected: Rejected) -> Future[Position]:
        """Writes the record to the dead-letter topic, with the step and reason of its failure.

        The future receives the dead letter's own position once it is acknowledged: only then is the event settled. It
        fails with `UnavailableError` or `PermanentError` if the topic cannot take it; the partition then has to halt.
        """


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead letter as the dead-letter topic holds it.

    Attributes:
        position: its own, in the dead-letter topic.
        origin: the position at which the event was first produced.
        reason, step, detail: why the event failed, in which step, and in words.
        failed_at_ms: when it failed, milliseconds since the epoch.
        timestamp_ms: Kafka's timestamp of the original record.
        key: the original key.
        headers: the original headers, without those that Penstock added.
        value: the original value; None for a tombstone or if it is in the asset store.
        value_bytes: size of the original value, wherever it is.
        offloaded_uri: the value's address in the asset store, if it was too large for the topic.
        purged: whether its contents were removed; only origin, reason, step and times are left.
    """

    position: Position
    origin: Position
    reason: Reason
    step: str
    detail: str
    failed_at_ms: int
    timestamp_ms: int
    key: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    value: bytes | None = field(repr=False)
    value_bytes: int
    offloaded_uri: str | None = None
    purged: bool = False


@dataclass(frozen=True, slots=True)
class PartitionLag:
    """The group's progress in one partition.

    Attributes:
        partition: the partition.
        committed: the next offset the group will read; None if it never committed.
        log_start: the oldest offset of the log.
        log_end: the offset the next record will get.
    """

    partition: Partition
    committed: int | None
    log_start: int
    log_end: int

    @property
    def lag(self) -> int:
        """Offsets still to be committed; an upper bound of records, as the log may have gaps."""
        return self.log_end - max(self.log_start, self.committed or 0)

    @property
    def lost(self) -> LostRange | None:
        """The offsets past the committed one that retention removed, if any."""
        if self.committed is None or self.committed >= self.log_start:
            return None
        return LostRange(self.partition, self.committed, self.log_start)


class TopicReader(Protocol):
    """Reads topics outside of any group, and reports the progress of the ingest plane's group. For one thread.

    Errors: `UnavailableError` when no broker answers, `ConfigError` when it refuses this client, `PermanentError`
    before records that cannot be read.
    """

    def lag(self, topics: Collection[str]) -> Sequence[PartitionLag]:
        """Returns the group's progress in every partition, in order. Topics that do not exist are left out.

        The committed offsets are read before the ends, so that every committed offset lies below its end.
        """

    def bounds(self, topics: Collection[str]) -> Mapping[Partition, LogRange]:
        """Returns the present log range of every partition. Topics that do not exist are left out.

        The end is the last stable offset: everything that a lane may have been delivered, and nothing of an open
        transaction.
        """

    def read(self, partition: Partition, first: int, end: int) -> Iterator[Record]:
        """Yields the records from offset `first` to `end`, exclusive, in order and in bounded memory.

        Aborted transactions are left out. Starts at the log's start if retention removed `first`. Read one partition at
        a time.

        Args:
            partition: the partition to read.
            first: the first offset.
            end: at most the end that `bounds` returned.
        """

    def compacted(self, topics: Collection[str]) -> frozenset[str]:
        """Returns those of the topics that compaction cleans. Topics that do not exist are left out."""
