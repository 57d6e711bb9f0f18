"""A lane: one Kafka consumer, and the only driver of the events it is delivered.

Its loop takes step 1 (receive) and step 7 (commit) of an event's way; the steps between run in the pipeline, a thread a
batch. All of the lane's state belongs to the thread that runs the loop; batch threads only put their reports into a
queue. `poll` never stops: too much in flight pauses partitions, a slow or absent store holds batches back, and neither
costs the membership.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace

from penstock.broker.base import Consumer, LostRange, Partition, PollResult, UnreadableRange
from penstock.errors import FencedError, UnavailableError
from penstock.ingest.delivery import Batch, Delivery
from penstock.ingest.lane.batcher import Batcher, Continuation
from penstock.ingest.lane.offsets import OffsetLedger
from penstock.ingest.pipeline.driver import BatchReport, Pipeline, Settlement, StoppedError, Unfinished
from penstock.observability import metrics
from penstock.records import Assignment, Event, MediaPosition, Modality, Outcome, Position, Record, Rejected

logger = logging.getLogger(__name__)

_IDLE_POLL_S = 0.1
_BUSY_POLL_S = 0.02  # while batches are under way: their reports are followed up so soon; an empty poll takes 0.5 ms
_MAX_RECORDS = 200  # of one poll; what a poll returns may exceed the budget of bytes by so many records
_RESUME_SHARE = 0.8  # of the budget, below which partitions that it paused are resumed
_COMMIT_TIMEOUT_S = 5.0
_HALT_RETRY_S = 30.0  # a halted partition is tried again from its committed offset after so long
# A turn waits for a poll and a commit, 20 s at most while nothing answers. A loop that has made none for so long hangs.
_HANGS_AFTER_S = 120.0
_LOOK_AGAIN_S = 1.0  # a long medium that waits for a newer version of it looks so often whether that is finished
_FRESHNESS_SAMPLES = 2_000  # kept for each modality, newest last


@dataclass(frozen=True, slots=True)
class LaneLimits:
    """What a lane may hold, and how long it waits. Units in the names."""

    max_in_flight_bytes: int
    commit_interval_s: float
    drain_timeout_s: float


@dataclass(frozen=True, slots=True)
class LongMediaProgress:
    """Long media between two slices: the asset, and how far it is indexed."""

    asset: str
    position: MediaPosition


@dataclass(slots=True)
class LaneStatus:
    """A lane as it is now; plain values, made to be sent.

    Attributes:
        lane: its name.
        assignments: partitions it owns.
        outcomes: events settled since it started, by (modality, outcome).
        dead_letters: those of them that were dead-lettered, by reason.
        freshness_s: produced → acknowledged by the store, of the latest events indexed, by modality; without replays.
        step_s: seconds spent in each step by all batches.
        batches: batches settled.
        in_flight_batches, in_flight_bytes: under way, and those waiting counted in for the bytes.
        commits: commits acknowledged.
        lost_offsets: offsets that retention removed before they were committed.
        paused: why nothing is taken in now, in words; empty if it is.
        halted: partitions that cannot go on, with the reason.
        broker_available: whether a broker answers.
        store_error: why the store does not answer; empty if it does.
        long_media: those that are not finished, with how far they are.
    """

    lane: str
    assignments: Sequence[str] = ()
    outcomes: dict[tuple[Modality, Outcome], int] = field(default_factory=dict)
    dead_letters: dict[str, int] = field(default_factory=dict)
    freshness_s: dict[Modality, Sequence[float]] = field(default_factory=dict)
    step_s: dict[str, float] = field(default_factory=dict)
    batches: int = 0
    in_flight_batches: int = 0
    in_flight_bytes: int = 0
    commits: int = 0
    lost_offsets: int = 0
    paused: str = ""
    halted: dict[str, str] = field(default_factory=dict)
    broker_available: bool = True
    store_error: str = ""
    long_media: Sequence[LongMediaProgress] = ()


@dataclass(frozen=True, slots=True)
class _Halt:
    """Why a partition takes nothing in, and when it is begun again from what is next to be committed.

    Attributes:
        finishes: whether what it holds goes on meanwhile: the fault lies behind it.
    """

    why: str
    retry_at_s: float
    finishes: bool = False


class Lane:
    """Delivers, batches, drives, settles and commits.

    Args:
        name: for logs and `status`.
        consumer: the group member, used from the thread that calls `run`.
        pipeline: drives a batch.
        batcher: forms batches.
        parse: step 1, a record to an event; never raises.
        topics: the modality of each topic.
        limits: see `LaneLimits`.
        executor: runs the batches, each in a thread of its own until it is settled; ended by the lane.
        gate: why nothing may be taken in now (the disk is full), or an empty text; asked once a commit interval.
        abandon: set by the lane when a drain ran out of time; what the pipeline's `sleep` listens to.
        clock: monotonic seconds.
        wall_ms: milliseconds since the epoch.
    """

    def __init__(
        self,
        *,
        name: str,
        consumer: Consumer,
        pipeline: Pipeline,
        batcher: Batcher,
        parse: Callable[[Record, Modality], Event | Rejected],
        topics: Mapping[str, Modality],
        limits: LaneLimits,
        executor: Executor,
        admission_check: Callable[[], str],
        abandon: threading.Event,
        clock: Callable[[], float],
        wall_ms: Callable[[], int],
    ) -> None:
        self._name = name
        self._consumer = consumer
        self._pipeline = pipeline
        self._batcher = batcher
        self._parse = parse
        self._topics = topics
        self._limits = limits
        self._gate = admission_check
        self._abandon = abandon
        self._clock = clock
        self._wall_ms = wall_ms
        self._ledger = OffsetLedger()
        self._reports: queue.SimpleQueue[tuple[Batch, BatchReport | None]] = queue.SimpleQueue()
        self._executor = executor
        self._stop = threading.Event()
        self._flying: Counter[Partition] = Counter()
        self._flying_long: Counter[Partition] = Counter()  # of them those of long media
        self._slices: dict[Position, LongMediaProgress] = {}
        self._reached: dict[Partition, int] = {}  # the highest offset that ever went, of each partition owned
        self._flying_bytes = 0
        self._flying_batches = 0
        self._revoking: set[Partition] = set()
        self._halted: dict[Partition, _Halt] = {}
        self._paused: set[Partition] = set()
        self._over_budget = False
        self._gate_reason = ""
        self._next_commit_s = 0.0
        self._turned_s = clock()
        self._status = LaneStatus(name)
        self._published = LaneStatus(name)  # replaced as a whole, so that other threads read it without a lock
        self._assignments: tuple[Assignment, ...] = ()
        self._freshness: dict[Modality, deque[float]] = defaultdict(lambda: deque(maxlen=_FRESHNESS_SAMPLES))

    # --- from other threads -----------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Asks the loop to end: it drains what is in flight, within `drain_s`, commits and leaves the group."""
        self._stop.set()

    def assignments(self) -> tuple[Assignment, ...]:
        """What this lane owns; a restarted writer asks."""
        return self._assignments

    def status(self) -> LaneStatus:
        """As of the latest commit interval."""
        return self._published

    def is_stuck(self) -> bool:
        """Whether the loop has made no turn for so long that it will make none any more."""
        return self._clock() - self._turned_s > _HANGS_AFTER_S

    # --- the loop ---------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Works until `stop`; then drains, commits and leaves the group."""
        try:
            while not self._stop.is_set():
                self.turn()
            self._drain()
        finally:
            self._abandon.set()
            self._consumer.close(timeout_s=_COMMIT_TIMEOUT_S)
            self._executor.shutdown(wait=False, cancel_futures=True)  # a thread may hang on a worker that is stopped

    def turn(self) -> None:
        """One turn of the loop; returns within a poll's timeout and a commit's."""
        polled = self._consumer.poll(self._poll_s(), _MAX_RECORDS)
        self._follow_group(polled)
        self._receive(polled.records)  # 1
        self._halt_before(polled.unreadable)
        self._collect()
        self._dispatch()  # 2 to 6, in threads of their own
        self._commit_when_due()  # 7
        self._release_drained()
        self._retry_halted()
        self._pause_or_resume()

    def _publish(self) -> None:
        """Shows other threads how things stand."""
        self._published = replace(
            self._status,
            assignments=[f"{one.topic}[{one.partition}]" for one in self._assignments],
            outcomes=dict(self._status.outcomes),
            dead_letters=dict(self._status.dead_letters),
            step_s=dict(self._status.step_s),
            freshness_s={modality: tuple(samples) for modality, samples in self._freshness.items()},
            in_flight_batches=self._flying_batches,
            in_flight_bytes=self._in_flight_bytes,
            paused=self._why_paused(),
            halted={str(partition): halt.why for partition, halt in self._halted.items()},
            store_error=self._pipeline.store_error,
            long_media=tuple(self._slices.values()),
        )
        metrics.IN_FLIGHT.labels(self._name).set(self._in_flight_bytes)

    def _poll_s(self) -> float:
        wait_s = _BUSY_POLL_S if self._flying_batches else _IDLE_POLL_S
        due_s = None if self._gate_reason else self._batcher.next_due_s()
        return wait_s if due_s is None else max(0.0, min(wait_s, due_s - self._clock()))

    # --- membership -------------------------------------------------------------------------------------------------

    def _follow_group(self, polled: PollResult) -> None:
        self._turned_s = self._clock()
        self._status.broker_available = polled.broker_available
        for partition in polled.revoked_without_drain:
            logger.warning("%s lost %s to another lane; what it holds of it is dropped", self._name, partition)
            self._forget(partition)
        for assigned in polled.assigned:
            self._forget(assigned.partition)
            lost = assigned.lost
            self._ledger.assign(
                assigned.assignment, assigned.start, assigned.truncated_from if lost is None else lost.first
            )
            if lost is not None:
                self._note_lost(lost)
            if assigned.truncated_from is not None:
                self._next_commit_s = self._clock()  # at once: see `AssignedPartition.truncated_from`
        for found in polled.lost_ranges:
            self._note_lost(found)
        for partition, offset in polled.truncated:
            self._roll_back(partition, offset)
        self._wind_up(polled.revoking)
        self._revoking.update(polled.revoking)
        self._assignments = self._ledger.assignments()

    def _roll_back(self, partition: Partition, end: int) -> None:
        """The log was rolled back or made anew: from `end` on its offsets stand for other records.

        1. Nothing of the log that was is committed any more.
        2. The lower offset is committed, at once and until it is acknowledged: whoever owns the partition next begins
           at what the group has, and would skip what is written below that.
        3. The partition is begun again once nothing of the log that was is under way.
        """
        if self._ledger.assignment(partition) is None:
            return
        self._batcher.drop([partition])
        self._reached.pop(partition, None)
        self._ledger.truncate(partition, end)  # 1
        self._next_commit_s = self._clock()  # 2
        self._halted[partition] = _Halt(f"the log of {partition} was rolled back or made anew", self._clock())  # 3

    def _forget(self, partition: Partition) -> None:
        self._ledger.forget(partition)
        self._batcher.drop([partition])
        self._revoking.discard(partition)
        self._halted.pop(partition, None)
        self._paused.discard(partition)
        self._reached.pop(partition, None)
        self._slices = {at: one for at, one in self._slices.items() if Partition(at.topic, at.partition) != partition}

    def _wind_up(self, partitions: Collection[Partition]) -> None:
        """Of these partitions nothing new goes, but what lies below an event that has gone already: as long as that is
        not settled nothing above it can be committed, and all of it would be done again. Nothing, if nothing may go.
        """
        self._batcher.drop(partitions, beyond={} if self._gate_reason else self._reached)

    def _note_lost(self, lost: LostRange) -> None:
        self._status.lost_offsets += lost.end - lost.first
        metrics.LOST_OFFSETS.labels(lost.partition.topic).inc(lost.end - lost.first)
        logger.error(
            "%s: retention removed them before they were committed. They are lost to the index; raise the topic's "
            "retention or add lanes so that lag stays below it.",
            lost,
        )

    def _release_drained(self) -> None:
        """Gives up revoked partitions once nothing of them is to be done and what is done is committed; if that is not
        acknowledged, the consumer takes them away after `drain_s`.
        """
        drained = {partition for partition in self._revoking if not self._busy_with(partition)}
        if not drained or not self._commit():
            return
        self._consumer.release(drained)
        for partition in drained:
            self._forget(partition)

    def _busy_with(self, partition: Partition) -> bool:
        """Long media are waited for by nobody: their next slices are another's, and what is under way is fenced."""
        return self._flying[partition] > self._flying_long[partition] or self._batcher.has_queued(partition)

    # --- 1 receive --------------------------------------------------------------------------------------------------

    def _receive(self, records: Sequence[Record]) -> None:
        for record in records:
            position = record.position
            partition = Partition(position.topic, position.partition)
            if not self._ledger.track(position):
                continue
            assignment = self._ledger.assignment(partition)
            assert assignment is not None
            if partition in self._halted or partition in self._revoking:
                continue  # stays open in the ledger, and is delivered again later: here, or to the next owner
            self._batcher.add(Delivery(record, assignment, self._parse(record, self._topics[position.topic])))

    # --- 2 to 6 -----------------------------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        if self._gate_reason:
            return
        while (batch := self._batcher.next_batch()) is not None:
            self._flying.update(item.partition for item in batch.deliveries)
            if batch.is_continuation:
                self._flying_long.update(item.partition for item in batch.deliveries)
            self._flying_bytes += batch.accounted_bytes
            for item in batch.deliveries:
                offset = item.record.position.offset
                self._reached[item.partition] = max(offset, self._reached.get(item.partition, offset))
            self._flying_batches += 1
            metrics.BATCH_EVENTS.labels(self._topics[batch.topic]).observe(len(batch.deliveries))
            metrics.BATCH_BYTES.labels(self._topics[batch.topic]).observe(batch.size_bytes)
            self._executor.submit(self._drive, batch)

    def _drive(self, batch: Batch) -> None:
        """In a thread of its own: the pipeline, until the batch is settled."""
        report: BatchReport | None = None
        try:
            report = self._pipeline.run(batch)
        except StoppedError:
            logger.info("%s gave up a batch of %s unsettled; it will be redelivered", self._name, batch.topic)
        except Exception:
            logger.exception("%s: a batch of %s broke; the lane ends and is restarted", self._name, batch.topic)
            self._stop.set()
        finally:
            self._reports.put((batch, report))

    def _collect(self) -> None:
        """Takes what the batch threads have reported."""
        while True:
            try:
                batch, report = self._reports.get_nowait()
            except queue.Empty:
                return
            self._flying.subtract(item.partition for item in batch.deliveries)
            self._flying_bytes -= batch.accounted_bytes
            self._flying_batches -= 1
            if batch.is_continuation:
                self._flying_long.subtract(item.partition for item in batch.deliveries)
            if report is None:
                self._batcher.release(batch)
                continue
            going_on = [one for one in report.unfinished if self._goes_on(one.delivery)]
            self._batcher.release(batch, report.slowest_s, [self._turn_of(one) for one in going_on])
            self._take_back([one for one in report.unfinished if one not in going_on])
            self._note_slices(batch, going_on)
            self._note(report)

    def _turn_of(self, one: Unfinished) -> Continuation:
        """Its next turn: later, if nothing of it was written. Older items of partitions that go are not kept."""
        before = self._slices.get(one.delivery.record.position)
        stands = one.at == (before.position if before is not None else MediaPosition())
        older = [item for item in one.older if self._goes_on(item)]
        return Continuation(
            one.delivery, older, _LOOK_AGAIN_S if stands else 0.0, yields_to_newer=one.at == MediaPosition()
        )

    def _take_back(self, given_up: Sequence[Unfinished]) -> None:
        """Of media that are another lane's now, the older items that are still this one's wait no longer for them."""
        for one in given_up:
            for item in one.older:
                if self._goes_on(item):
                    self._batcher.add(item)

    def _goes_on(self, item: Delivery) -> bool:
        """Whether the next slice of long media is this lane's: else whoever owns the partition next goes on."""
        partition = item.partition
        owned = self._ledger.assignment(partition) == item.assignment
        halt = self._halted.get(partition)
        halted = halt is not None and not halt.finishes
        return owned and not (self._stop.is_set() or partition in self._revoking or halted)

    def _note_slices(self, batch: Batch, going_on: Sequence[Unfinished]) -> None:
        """Keeps how far long media are, for people."""
        for item in batch.deliveries:
            self._slices.pop(item.record.position, None)
        for one in going_on:
            assert isinstance(one.delivery.parsed, Event)
            self._slices[one.delivery.record.position] = LongMediaProgress(str(one.delivery.parsed.asset), one.at)

    def _note(self, report: BatchReport) -> None:
        now_ms = self._wall_ms()
        self._status.batches += 1
        for step, seconds in report.step_s.items():
            self._status.step_s[step] = self._status.step_s.get(step, 0.0) + seconds
            metrics.STEP.labels(step, self._topics[report.batch.topic]).observe(seconds)
        for one in report.settlements:
            if one.halted and self._ledger.assignment(one.delivery.partition) == one.delivery.assignment:
                self._halt(one.delivery.partition, one.halted)
            elif one.outcome is not None and self._ledger.complete(
                one.delivery.assignment, one.delivery.record.position.offset
            ):
                self._count(one, now_ms)

    def _count(self, one: Settlement, now_ms: int) -> None:
        assert one.outcome is not None
        modality = self._topics[one.delivery.record.position.topic]
        key = (modality, one.outcome)
        self._status.outcomes[key] = self._status.outcomes.get(key, 0) + 1
        metrics.EVENTS.labels(*key).inc()
        if one.rejection is not None:
            reason = str(one.rejection.reason)
            self._status.dead_letters[reason] = self._status.dead_letters.get(reason, 0) + 1
            metrics.DEAD_LETTERS.labels(reason).inc()
        if one.outcome is Outcome.INDEXED and not one.delivery.is_replay:
            fresh_s = (now_ms - one.delivery.record.timestamp_ms) / 1000
            self._freshness[modality].append(fresh_s)
            metrics.FRESHNESS.labels(modality).observe(fresh_s)

    # --- 7 commit ---------------------------------------------------------------------------------------------------

    def _commit_when_due(self) -> None:
        if self._clock() < self._next_commit_s:
            return
        self._next_commit_s = self._clock() + self._limits.commit_interval_s
        self._gate_reason = self._gate()
        self._commit()
        self._publish()

    def _commit(self) -> bool:
        """Whether nothing is left to be committed: False, if it has to be tried again."""
        offsets = self._ledger.offsets_to_commit()
        if not offsets:
            return True
        try:
            self._consumer.commit(offsets, _COMMIT_TIMEOUT_S)
        except FencedError as exc:
            metrics.COMMITS.labels("fenced").inc()
            logger.warning("%s: a commit was refused, the group has moved on: %s", self._name, exc)
        except UnavailableError as exc:
            metrics.COMMITS.labels("unanswered").inc()
            logger.warning("%s: a commit was not acknowledged and is tried again: %s", self._name, exc)
            return False
        else:
            self._ledger.mark_committed(offsets)
            self._status.commits += 1
            metrics.COMMITS.labels("acknowledged").inc()
        return True

    # --- halting, pausing, draining ---------------------------------------------------------------------------------

    def _halt(self, partition: Partition, why: str) -> None:
        """Nothing of this partition goes on: something in it can neither be indexed nor put aside."""
        self._batcher.drop([partition])
        self._halted[partition] = _Halt(why, self._clock() + _HALT_RETRY_S)

    def _halt_before(self, found: Sequence[UnreadableRange]) -> None:
        """These partitions take nothing more in: what comes next cannot be read, and to skip it would be to lose it.
        What lies before it goes on, and is committed.
        """
        for one in found:
            if self._ledger.assignment(one.partition) is not None and one.partition not in self._halted:
                logger.error("%s: %s", self._name, one)
                self._halted[one.partition] = _Halt(str(one), self._clock() + _HALT_RETRY_S, finishes=True)

    def _retry_halted(self) -> None:
        """Begins halted partitions again from what is committed, once nothing of them is under way."""
        now_s = self._clock()
        for partition, halt in list(self._halted.items()):
            if now_s < halt.retry_at_s or self._flying[partition] or self._batcher.has_queued(partition):
                continue
            start = self._ledger.offset_to_commit(partition)
            try:
                self._consumer.seek_to(partition, start)
            except FencedError:
                continue  # the next poll tells that it is lost
            self._ledger.rewind(partition, start)
            del self._halted[partition]

    @property
    def _in_flight_bytes(self) -> int:
        return self._batcher.queued_bytes + self._flying_bytes

    def _why_paused(self) -> str:
        if self._gate_reason:
            return self._gate_reason
        if self._over_budget:
            return f"{self._limits.max_in_flight_bytes} bytes are in flight, the whole budget"
        return "; ".join(
            f"as many records of {partition} as a lane remembers wait to be committed behind one that is not settled"
            for partition in sorted(self._ledger.full_partitions(), key=str)
        )

    def _pause_or_resume(self) -> None:
        threshold = self._limits.max_in_flight_bytes * (_RESUME_SHARE if self._over_budget else 1.0)
        self._over_budget = self._in_flight_bytes >= threshold
        owned = {Partition(one.topic, one.partition) for one in self._ledger.assignments()}
        stopping = self._stop.is_set()
        held_up = owned & self._halted.keys() | self._ledger.full_partitions()
        wanted = owned if self._over_budget or self._gate_reason or stopping else held_up
        self._consumer.pause(wanted - self._paused)
        self._consumer.resume(self._paused - wanted)
        self._paused = set(wanted)

    def _drain(self) -> None:
        """Lets what is in flight be settled, within `drain_s`, and commits it; takes nothing new in."""
        deadline_s = self._clock() + self._limits.drain_timeout_s
        self._pause_or_resume()
        owned = [Partition(one.topic, one.partition) for one in self._assignments]
        self._wind_up(owned)
        while (busy := any(map(self._busy_with, owned))) and self._clock() < deadline_s:
            self._follow_group(self._consumer.poll(_BUSY_POLL_S, _MAX_RECORDS))
            self._collect()
            self._dispatch()
            self._commit_when_due()
            self._release_drained()
        if busy:
            logger.warning(
                "%s: not all could be settled in time, %d batches are under way; what is not will be redelivered",
                self._name,
                self._flying_batches,
            )
        # A group that another lane has just left is rebalancing and takes no commit until this one has polled.
        while not self._commit() and self._clock() < deadline_s:
            self._follow_group(self._consumer.poll(_BUSY_POLL_S, _MAX_RECORDS))
        self._publish()
