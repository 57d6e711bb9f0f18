"""What the ingest and query planes know of Kafka: its types, and the protocols of consumer, producer and dead letters.

`broker.consumer`, `broker.producer` and `broker.deadletters` are the real things, `broker.memory` the doubles; both
pass tests/broker/test_contract.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from penstock.errors import PermanentError, Reason
from penstock.records import Assignment, Position, Record, Rejected


@dataclass(frozen=True, slots=True, order=True)
class Partition:
    """One partition of a topic. Written `media.text[3]`."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]"


@dataclass(frozen=True, slots=True)
class LostRange:
    """Offsets that retention removed before this group committed them: `first` to `end`, exclusive.

    Some of these numbers may never have been records (compaction and transaction markers leave holes).
    """

    partition: Partition
    first: int
    end: int

    def __str__(self) -> str:
        return f"{self.partition} offsets {self.first} to {self.end - 1}"


@dataclass(frozen=True, slots=True)
class UnreadableRange:
    """Records that this client cannot read, so that their partition cannot go on. All before them were delivered.

    Attributes:
        partition: which.
        first: the offset from which nothing can be read.
        end: where the batch that holds it ends, exclusive: what has to be left out to go on.
        detail: what is wrong with it, in words.
    """

    partition: Partition
    first: int
    end: int
    detail: str

    def __str__(self) -> str:
        return (
            f"{self.partition} cannot be read from offset {self.first} on: {self.detail}. It is tried again. Have what "
            "is there sent again, compressed with gzip, snappy, lz4, zstd or not at all, and header names in UTF-8. To "
            f"go on without offsets {self.first} to {self.end - 1}, which are lost then: kafka-delete-records up to "
            f"{self.end}; or stop the ingest plane and set the offset of its consumer group to {self.end}."
        )


@dataclass(frozen=True, slots=True)
class AssignedPartition:
    """A partition that this member now owns.

    Attributes:
        assignment: topic, partition and the group's generation in which this member got it; the same for as long as it
            keeps it, whatever rebalances pass meanwhile.
        start: the offset that is delivered first: the committed one, or the log's start where nothing was committed or
            retention has removed more than that.
        lost: what retention removed past the committed offset, if it did.
        truncated_from: the committed offset, where the log ends below it: it was rolled back or made anew. `start` is
            to be committed at once: if the log grows past this offset first, the next owner begins there, and what lies
            between is lost.
    """

    assignment: Assignment
    start: int
    lost: LostRange | None = None
    truncated_from: int | None = None

    @property
    def partition(self) -> Partition:
        return Partition(self.assignment.topic, self.assignment.partition)


@dataclass(frozen=True, slots=True)
class PollResult:
    """What happened since the last poll. Read it in this order: lost, assigned, lost ranges, rewound, records,
    unreadable, revoking.

    A partition's life: it is in `assigned` once; then its records come, in order of their offsets; it ends by being in
    `revoking`, after which no record of it comes and `release` gives it up, or by being in `lost`. A partition that is
    in `revoking` and not released in time turns up in `lost` later. After either end it may be in `assigned` anew.

    Attributes:
        records: delivered now; of each partition in order, partitions in any order.
        assigned: partitions this member got.
        revoking: partitions the group wants back. Still owned: drain, commit, then `release`.
        revoked_without_drain: partitions that are another's already; nothing of them can be committed.
        truncated: partitions whose log was rolled back or made anew, with the offset from which they go on; offsets
            told before stand for other records now, and the lower one is to be committed at once (see
            `AssignedPartition.truncated_from`).
        unreadable: partitions that stop before records that cannot be read; nothing more comes of them until `seek_to`.
        lost_ranges: offsets that retention removed while this member was reading them (not those in `assigned`).
        broker_available: False while no broker answers; then nothing is delivered, and that is no error.
    """

    records: Sequence[Record] = ()
    assigned: Sequence[AssignedPartition] = ()
    revoking: Sequence[Partition] = ()
    revoked_without_drain: Sequence[Partition] = ()
    lost_ranges: Sequence[LostRange] = ()
    truncated: Sequence[tuple[Partition, int]] = ()
    unreadable: Sequence[UnreadableRange] = ()
    broker_available: bool = True


class Consumer(Protocol):
    """One member of a consumer group: what a lane drives, from one thread.

    Nothing is committed unless `commit` is called. Nothing calls back: whatever happens is told by `poll`.
    """

    def poll(self, timeout_s: float, max_records: int) -> PollResult:
        """Waits until there is something to tell, `timeout_s` at most.

        Call it at least every `max_poll_interval_ms`, also when everything is paused or waits: it is what keeps the
        membership. Never raises for an absent broker (see `PollResult.broker_available`); while none has answered yet,
        it may take 2 s longer than asked. While the group rebalances nothing is delivered.

        Raises:
            ConfigError: the settings can never work (authentication refused, group or topic not authorised).
        """

    def release(self, partitions: Collection[Partition]) -> None:
        """Gives up partitions that `revoking` named; the group goes on at once when all of them are released.

        Commit first. Partitions that are not being revoked are ignored: they were lost meanwhile.
        """

    def commit(self, offsets: Mapping[Partition, int], timeout_s: float) -> None:
        """Commits the next offset to read of each partition; acknowledged by the group on return. Works while a
        revocation is held open.

        Raises:
            FencedError: this member no longer owns one of them, or the group went on without it. None was committed.
            UnavailableError: no broker acknowledged in time, or the group is rebalancing (poll, then commit again);
                whether it was committed is not known, and committing the same or a later offset again is right.
        """

    def pause(self, partitions: Collection[Partition]) -> None:
        """Stops delivery of these; lasts until `resume`, across rebalances, for as long as the partition is kept.
        What was fetched of them already is kept for later. Partitions not owned are ignored.
        """

    def resume(self, partitions: Collection[Partition]) -> None:
        """Undoes `pause`. Partitions not paused or not owned are ignored."""

    def seek_to(self, partition: Partition, offset: int) -> None:
        """Delivers this partition again from `offset` on; also one that stopped before unreadable records.

        Raises:
            FencedError: this member does not own it, or it is being revoked.
        """

    def assignments(self) -> Mapping[Partition, Assignment]:
        """What this member owns, as told by `poll` so far, partitions being revoked included."""

    def generation(self) -> int:
        """The group's generation this member was last part of; -1 before the first and after being thrown out."""

    def close(self, timeout_s: float) -> None:
        """Leaves the group at once, so that others take over without waiting. Commits nothing. Idempotent."""


class MessageTooLargeError(PermanentError):
    """A message is larger than the producer or the topic allows; the error's text names the limit."""


@dataclass(frozen=True, slots=True)
class Message:
    """What is written to Kafka.

    Attributes:
        topic: where to.
        key: names the asset and picks the partition (murmur2, as Java's client does); None: any partition.
        value: the bytes; None is a tombstone.
        headers: in order; names may repeat.
        timestamp_ms: milliseconds since the epoch; None: now.
        partition: a certain partition instead of the key's.
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
        """Queues a message; the future has its position once every in-sync replica has it.

        Waits while the buffer is full. Raises nothing: the future fails with `MessageTooLargeError` (names the limit),
        another `PermanentError` (it can never be sent as it is) or `UnavailableError` (no broker took it in time, or
        the topic does not exist yet). Messages with one key keep their order; a retry within the producer may write one
        twice. Callbacks of the future run on the producer's own thread: keep them short.
        """

    def flush(self, timeout_s: float) -> None:
        """Returns when everything sent so far is acknowledged or failed.

        Raises:
            UnavailableError: time ran out first; the message tells how many are open.
        """

    def close(self, timeout_s: float) -> None:
        """Flushes within the timeout, fails what is left, and frees everything. Idempotent."""


class DeadLetterSink(Protocol):
    """Takes what can never be indexed."""

    def send(self, record: Record, rejected: Rejected) -> Future[Position]:
        """Writes the record to the dead-letter topic, with where and why it failed.

        The future has the dead letter's own position once it is acknowledged: only then is the record settled. It fails
        with `UnavailableError` or `PermanentError` if the topic can't take it; the partition then has to halt.
        """


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead letter as it stands in the dead-letter topic.

    Attributes:
        position: its own, in the dead-letter topic.
        origin: where the event first was.
        reason, step, detail: why it failed, where, and in words.
        failed_at_ms: when it failed, milliseconds since the epoch.
        timestamp_ms: Kafka's timestamp of the original record.
        key: the original key.
        headers: the original headers, without those that Penstock added.
        value: the original value; None for a tombstone or if it is in the asset store.
        value_bytes: size of the original value, wherever it is.
        offloaded_uri: where the value is if it did not fit the topic.
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


@dataclass(frozen=True, slots=True)
class PartitionLag:
    """How far the group is in one partition.

    Attributes:
        partition: which.
        committed: the next offset the group will read; None if it never committed.
        log_start: the oldest offset there is.
        log_end: the offset the next record will get.
    """

    partition: Partition
    committed: int | None
    log_start: int
    log_end: int

    @property
    def lag(self) -> int:
        """Offsets still to be committed; an upper bound of records, as offsets may be holes."""
        return self.log_end - max(self.log_start, self.committed or 0)

    @property
    def lost(self) -> LostRange | None:
        """What retention removed past the committed offset."""
        if self.committed is None or self.committed >= self.log_start:
            return None
        return LostRange(self.partition, self.committed, self.log_start)


@dataclass(frozen=True, slots=True)
class LogRange:
    """What a partition holds: from `start` to `end`, exclusive. Not every number between need be a record."""

    start: int
    end: int


class TopicReader(Protocol):
    """Reads topics from outside of any group, and tells how far the group of the ingest plane is. For one thread.

    Errors: `UnavailableError` when no broker answers, `ConfigError` when it does not let this client in,
    `PermanentError` before records that cannot be read.
    """

    def lag(self, topics: Collection[str]) -> Sequence[PartitionLag]:
        """How far the group is in every partition, in order. Its committed offsets are asked for before the ends, so
        that what is committed lies below them. Topics that do not exist are left out.
        """

    def bounds(self, topics: Collection[str]) -> Mapping[Partition, LogRange]:
        """What every partition holds now. The end is the last stable offset: what a lane may have been given, nothing
        of an open transaction. Topics that do not exist are left out.
        """

    def read(self, partition: Partition, first: int, end: int) -> Iterator[Record]:
        """The records from offset `first` to `end`, exclusive, in order, in bounded memory; aborted transactions left
        out. Begins at the log's start if retention has removed `first`. One partition is read at a time.

        Args:
            partition: which.
            first: where to begin.
            end: no more than `bounds` told.
        """

    def compacted(self, topics: Collection[str]) -> frozenset[str]:
        """Those of the topics from which compaction removes records. Topics that do not exist are left out."""
