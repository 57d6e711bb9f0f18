"""A lane: one Kafka consumer that drives its events from receipt to commit.

Its loop performs step 1 (receive) and step 7 (commit); the steps between run in the pipeline, one thread a batch. All
state of the lane belongs to the thread that runs the loop; batch threads only queue their reports. `poll` never stops:
too many bytes in flight pause partitions, a slow or unavailable store delays batches, and neither costs the membership.

    membership    what the consumer group assigned and revoked
    offsets       which offsets are complete
    batcher       which deliveries wait, and for what
    in_flight     which batches are in the steps
    halts         which partitions cannot continue
    deferrals     which records wait in Kafka for the quota of their tenant
    flow_control  which partitions are paused
    commits       step 7
    stats         what other threads see
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace

from penstock.broker.base import Consumer, Partition
from penstock.ingest.changes import FLUSH_S
from penstock.ingest.delivery import Delivery, tenant_of
from penstock.ingest.holds import Why, lane_holds
from penstock.ingest.lane.batch_threads import BatchThreads
from penstock.ingest.lane.batcher import Batcher
from penstock.ingest.lane.commits import COMMIT_TIMEOUT_S, OffsetCommitter
from penstock.ingest.lane.continuations import Continuation
from penstock.ingest.lane.deferrals import Deferrals
from penstock.ingest.lane.flow_control import FlowControl
from penstock.ingest.lane.halts import PartitionHalts
from penstock.ingest.lane.in_flight import InFlight
from penstock.ingest.lane.membership import Membership
from penstock.ingest.lane.offsets import OffsetLedger
from penstock.ingest.lane.stats import LaneStats
from penstock.ingest.lane.status import LaneStatus
from penstock.ingest.pipeline.driver import Pipeline
from penstock.ingest.pipeline.types import BatchReport, FencedDelivery, HaltedDelivery, SettledDelivery, Unfinished
from penstock.records import Assignment, Event, Modality, Outcome, Record, Rejected

logger = logging.getLogger(__name__)

_IDLE_POLL_S = 0.1
_BUSY_POLL_S = 0.02  # while batches are in flight, as their reports wait for it; an empty poll takes 0.5 ms
_MAX_POLL_RECORDS = 200  # a poll may exceed the limit of bytes in flight by this many records


@dataclass(frozen=True, slots=True)
class LaneLimits:
    """The memory that a lane may use, and the times that it waits.

    Attributes:
        max_in_flight_bytes: memory of records that are received and not settled; above, partitions are paused.
        commit_interval_s: between two commits.
        drain_timeout_s: the longest wait for events in flight when the lane stops.
    """

    max_in_flight_bytes: int
    commit_interval_s: float
    drain_timeout_s: float


class Lane:
    """Receives, batches, dispatches and commits.

    Over the limit because it drives every part of the loop.

    Args:
        name: for logs and `status`.
        consumer: the group member, used from the thread that calls `run`.
        pipeline: drives a batch.
        batcher: forms batches.
        parse: step 1, a record to an event; never raises.
        topics: the modality of each topic.
        limits: see `LaneLimits`.
        executor: runs the batches, each in a thread until it is settled; shut down by the lane.
        admission_checks: each returns why nothing may be received (the disk is full), or an empty text; called once a
            commit interval.
        abandon: set by the lane when it ends; the pipeline's `sleep` waits on it.
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
        parse: Callable[[Record], Event | Rejected],
        topics: Mapping[str, Modality],
        limits: LaneLimits,
        executor: Executor,
        admission_checks: Mapping[Why, Callable[[], str]],
        abandon: threading.Event,
        clock: Callable[[], float],
        wall_ms: Callable[[], int],
    ) -> None:
        self._name = name
        self._consumer = consumer
        self._batcher = batcher
        self._parse = parse
        self._limits = limits
        self._clock = clock
        self._stop = threading.Event()
        self._stats = LaneStats(name, topics, clock=clock, wall_ms=wall_ms)
        self._offsets = OffsetLedger()
        self._in_flight = InFlight()
        self._batches = BatchThreads(name, pipeline, executor, abandon, on_failure=self._stop.set)
        self._halts = PartitionHalts(self._offsets, consumer, clock)
        self._deferrals = Deferrals(consumer, self._offsets, batcher, limits.max_in_flight_bytes, clock)
        self._flow = FlowControl(
            consumer,
            self._offsets,
            max_in_flight_bytes=limits.max_in_flight_bytes,
            admission_checks=admission_checks,
        )
        self._commits = OffsetCommitter(
            name, consumer, self._offsets, self._stats, interval_s=limits.commit_interval_s, clock=clock
        )
        self._membership = Membership(
            name,
            consumer,
            offsets=self._offsets,
            batcher=batcher,
            in_flight=self._in_flight,
            halts=self._halts,
            deferrals=self._deferrals,
            flow=self._flow,
            commits=self._commits,
            stats=self._stats,
        )

    # --- from other threads -----------------------------------------------------------------------------------------

    def stop(self, *, drain: bool = True) -> None:
        """Makes the loop end: it drains the events in flight within `drain_timeout_s`, commits and leaves the group.

        Args:
            drain: False where they cannot be written any more: they are left to the next owner.
        """
        if not drain:
            self._limits = replace(self._limits, drain_timeout_s=0.0)
        self._stop.set()

    def set_pace(self, events_per_s: float | None) -> None:
        """Sets how many events per second this lane dispatches at most; None: as many as there are."""
        self._batcher.quotas.set_pace(events_per_s)

    def assignments(self) -> tuple[Assignment, ...]:
        """Returns the assignments of this lane, which a restarted writer needs."""
        return self._stats.assignments

    def status(self) -> LaneStatus:
        """Returns the status as of the latest commit interval."""
        return self._stats.status

    def is_stuck(self) -> bool:
        """Returns whether the loop has made no turn for minutes, and will make none any more."""
        return self._stats.is_stuck()

    # --- the loop ---------------------------------------------------------------------------------------------------

    def run(self) -> bool:
        """Works until `stop`; then drains, commits and leaves the group.

        Returns:
            whether no batch is left in the steps; otherwise writers may still work for this lane.
        """
        try:
            while not self._stop.is_set():
                self.turn()
            self._drain()
            return not self._in_flight.batches
        finally:
            self._batches.abandon(flush_s=min(FLUSH_S, self._limits.drain_timeout_s))
            self._consumer.close(timeout_s=COMMIT_TIMEOUT_S)
            self._batches.shut_down()

    def turn(self) -> None:
        """Makes one turn of the loop; returns within one poll and one commit timeout."""
        polled = self._consumer.poll(self._poll_timeout_s(), _MAX_POLL_RECORDS)
        self._membership.follow(polled)
        self._receive(polled.records)  # 1
        self._halts.add_unreadable(polled.unreadable)
        self._halts.follow_denied(polled.denied)
        self._collect_reports()
        self._dispatch()  # 2 to 6, in threads of their own
        self._commit_if_due()  # 7
        self._membership.release_drained()
        self._deferrals.update(self._halts.partitions | self._membership.revoking)  # before halted ones are rewound
        self._halts.retry_due(self._is_idle)
        self._update_flow()

    def _drain(self) -> None:
        """Settles and commits the events in flight, within `drain_timeout_s`, and receives nothing more."""
        deadline_s = self._clock() + self._limits.drain_timeout_s
        self._update_flow()
        owned = self._membership.owned
        while (busy := self._membership.drain(owned)) and self._clock() < deadline_s:
            self._membership.follow(self._consumer.poll(_BUSY_POLL_S, _MAX_POLL_RECORDS))
            self._collect_reports()
            self._dispatch()
            self._commit_if_due()
            self._membership.release_drained()
        if busy:
            logger.warning(
                "%s: drain timed out with %d batches in flight; their events will be redelivered",
                self._name,
                self._in_flight.batches,
            )
        # A group that another lane has just left is rebalancing and takes no commit until this one has polled.
        while not self._commits.commit() and self._clock() < deadline_s:
            self._membership.follow(self._consumer.poll(_BUSY_POLL_S, _MAX_POLL_RECORDS))
        self._publish()

    def _poll_timeout_s(self) -> float:
        timeout_s = _BUSY_POLL_S if self._in_flight.batches else _IDLE_POLL_S
        due_s = None if self._flow.refusal else self._batcher.next_due_s()
        return timeout_s if due_s is None else max(0.0, min(timeout_s, due_s - self._clock()))

    def _is_idle(self, partition: Partition) -> bool:
        return not (self._in_flight.has(partition) or self._batcher.has_queued(partition))

    # --- 1 receive --------------------------------------------------------------------------------------------------

    def _receive(self, records: Sequence[Record]) -> None:
        halted, revoking = self._halts.partitions, self._membership.revoking
        for record in records:
            position = record.position
            is_new = self._offsets.track(position)
            partition = Partition(position.topic, position.partition)
            if partition in halted or partition in revoking:
                continue  # stays incomplete, and is delivered again later: here, or to the next owner
            if not is_new and not self._deferrals.takes(position):
                continue
            self._stats.record_turn()  # parsing a suspect may take seconds, and a poll may bring many
            parsed = self._parse(record)
            if is_new and self._deferrals.defers(position, tenant_of(parsed)):
                continue
            assignment = self._offsets.assignment(partition)
            assert assignment is not None
            self._batcher.add(Delivery.receive(record, assignment, parsed))

    # --- 2 to 6 -----------------------------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        if self._flow.refusal:
            return
        while (batch := self._batcher.next_batch()) is not None:
            self._in_flight.add(batch)
            self._stats.record_dispatch(batch)
            self._batches.start(batch)

    def _collect_reports(self) -> None:
        """Reads the reports of the batch threads, and queues the next segments of long media."""
        for batch, report in self._batches.reports():
            self._in_flight.remove(batch)
            if report is None:
                self._batcher.release(batch)
                continue
            continuations, kept = self._sort_unfinished(report.unfinished)
            self._batcher.release(batch, report.slowest_s, continuations)
            for delivery in kept:
                self._batcher.add(delivery)
            self._record(report)

    def _sort_unfinished(self, events: Sequence[Unfinished]) -> tuple[list[Continuation], list[Delivery]]:
        """Returns the events that this lane continues, and the older ones that it keeps of those that it does not.

        Events are given up with their partition. Older events of the same asset may be of another one.
        """
        continuations: list[Continuation] = []
        kept: list[Delivery] = []
        for event in events:
            older = [delivery for delivery in event.older if self._still_ours(delivery)]
            if self._still_ours(event.delivery):
                continuations.append(Continuation(event.delivery, event.at, older))
            else:
                kept += older
        return continuations, kept

    def _still_ours(self, delivery: Delivery) -> bool:
        """Returns whether this lane continues an event; otherwise the next owner of its partition does."""
        partition = delivery.partition
        owned = self._offsets.assignment(partition) == delivery.assignment
        ends = self._stop.is_set() or partition in self._membership.revoking or self._halts.stops_events(partition)
        return owned and not ends

    def _record(self, report: BatchReport) -> None:
        """Completes the offsets of events that have an outcome, and halts partitions of events that can have none."""
        self._stats.record_batch(report.batch, report.step_s)
        for settlement in report.settlements:
            delivery = settlement.delivery
            match settlement:
                case HaltedDelivery(reason=reason):
                    delivery.span.end("halted", failed=True)
                    if self._offsets.assignment(delivery.partition) == delivery.assignment:
                        self._batcher.drop([delivery.partition])
                        self._halts.add(delivery.partition, reason)
                case SettledDelivery(outcome=outcome, rejection=rejection):
                    _end_span(delivery, outcome, rejection)
                    if self._offsets.complete(delivery.assignment, delivery.record.position.offset):
                        self._stats.record_outcome(delivery, outcome, rejection)
                case FencedDelivery():
                    delivery.span.end("fenced")

    # --- 7 commit ---------------------------------------------------------------------------------------------------

    def _commit_if_due(self) -> None:
        if self._commits.is_due():
            self._flow.check_admission()
            self._commits.commit()
            self._publish()

    # --- state ------------------------------------------------------------------------------------------------------

    @property
    def _in_flight_bytes(self) -> int:
        return self._batcher.queued_bytes + self._in_flight.accounted_bytes

    def _update_flow(self) -> None:
        self._flow.update(
            self._membership.owned,
            halted=self._halts.partitions,
            reading_back=self._deferrals.reading_back,
            in_flight_bytes=self._in_flight_bytes,
            stopping=self._stop.is_set(),
        )

    def _publish(self) -> None:
        self._stats.publish(
            in_flight_batches=self._in_flight.batches,
            in_flight_bytes=self._in_flight_bytes,
            paused=self._flow.reason,
            held=lane_holds(
                refusals=self._flow.refusals,
                budget=self._flow.over_budget,
                lease=self._batches.lease_error,
                store=self._batches.store_error,
                broker=self._stats.broker_error,
                halted=self._halts.reasons,
            ),
            waiting=self._batcher.waiting + self._deferrals.waiting,
            halted=self._halts.reasons,
            store_error=self._batches.store_error,
            long_media=self._batcher.long_media_progress,
        )


def _end_span(delivery: Delivery, outcome: Outcome, rejection: Rejected | None) -> None:
    if rejection is None:
        delivery.span.end(outcome.value)
    else:
        delivery.span.end(outcome.value, failed=True, step=rejection.step, reason=rejection.reason.value)
