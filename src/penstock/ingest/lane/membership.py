"""Follows the consumer group: starts partitions that are assigned, and drains those that are revoked."""

from __future__ import annotations

import logging
from collections.abc import Collection, Set

from penstock.broker.base import Consumer, LostRange, Partition, PollResult
from penstock.ingest.lane.batcher import Batcher
from penstock.ingest.lane.commits import OffsetCommitter
from penstock.ingest.lane.deferrals import Deferrals
from penstock.ingest.lane.flow_control import FlowControl
from penstock.ingest.lane.halts import PartitionHalts
from penstock.ingest.lane.in_flight import InFlight
from penstock.ingest.lane.offsets import OffsetLedger
from penstock.ingest.lane.stats import LaneStats

logger = logging.getLogger(__name__)


class Membership:
    """The partitions of a lane, from their assignment to their release or loss.

    Args:
        lane: name, for logs.
        consumer: the lane's group member.
        offsets, batcher, in_flight, halts, deferrals, flow, commits, stats: the lane's, each of which keeps something
            of every owned partition.
    """

    def __init__(
        self,
        lane: str,
        consumer: Consumer,
        *,
        offsets: OffsetLedger,
        batcher: Batcher,
        in_flight: InFlight,
        halts: PartitionHalts,
        deferrals: Deferrals,
        flow: FlowControl,
        commits: OffsetCommitter,
        stats: LaneStats,
    ) -> None:
        self._lane = lane
        self._consumer = consumer
        self._offsets = offsets
        self._batcher = batcher
        self._in_flight = in_flight
        self._halts = halts
        self._deferrals = deferrals
        self._flow = flow
        self._commits = commits
        self._stats = stats
        self._revoking: set[Partition] = set()

    @property
    def revoking(self) -> Set[Partition]:
        """Returns the partitions that the group has revoked and that are not released yet."""
        return self._revoking

    @property
    def owned(self) -> Set[Partition]:
        """Returns the partitions of the lane, those that are being revoked included."""
        return {Partition(assignment.topic, assignment.partition) for assignment in self._offsets.assignments()}

    def follow(self, polled: PollResult) -> None:
        """Applies what a poll reported of the group, in the order that `PollResult` gives."""
        self._stats.record_turn()
        self._stats.record_broker(available=polled.broker_available, refusal=polled.refusal)
        for partition in polled.revoked_without_drain:
            logger.warning("%s lost %s to another lane and drops its events", self._lane, partition)
            self._forget(partition)
        for assigned in polled.assigned:
            self._forget(assigned.partition)
            committed = assigned.truncated_from if assigned.lost is None else assigned.lost.first
            self._offsets.assign(assigned.assignment, assigned.start, committed)
            if assigned.lost is not None:
                self._record_lost(assigned.lost)
            if assigned.truncated_from is not None:
                self._commits.request()  # immediately: see `AssignedPartition.truncated_from`
        for lost in polled.lost_ranges:
            self._record_lost(lost)
        for partition, offset in polled.truncated:
            self._truncate(partition, offset)
        self._drop_undispatched(polled.revoking)
        self._revoking.update(polled.revoking)
        self._stats.assignments = self._offsets.assignments()

    def release_drained(self) -> None:
        """Releases revoked partitions.

        1. No event of the partition is queued or in flight, continuations aside.
        2. What is done of it is committed, and that is acknowledged. If it is not, the consumer takes the partition
           away at the end of `ingest.drain_timeout_s`.
        3. The partition is released.
        """
        drained = self._revoking - self.drain(self._revoking)  # 1
        if not drained or not self._commits.commit():  # 2
            return
        self._consumer.release(drained)  # 3
        for partition in drained:
            self._forget(partition)

    def drain(self, partitions: Set[Partition]) -> Set[Partition]:
        """Drops what no drain waits for, and returns the partitions that have events to wait for; call it each turn."""
        self._drop_undispatched(partitions)
        return {
            partition
            for partition in partitions
            if self._in_flight.delays_revocation(partition) or self._batcher.has_queued(partition)
        }

    def _drop_undispatched(self, partitions: Collection[Partition]) -> None:
        """Drops queued events of these partitions, except those below the highest offset already dispatched.

        Until the excepted events are done, the dispatched ones above them cannot be committed and would be processed
        again. Events of tenants at their quota are no exception: a backlog of theirs would take the whole
        `ingest.drain_timeout_s`. If nothing may be dispatched, all are dropped.
        """
        self._batcher.drop(partitions, beyond={} if self._flow.refusal else self._in_flight.highest_dispatched)

    def _truncate(self, partition: Partition, end: int) -> None:
        """Follows a log that was rolled back or created again: from `end` on its offsets stand for other records.

        1. Nothing of the former log is committed any more.
        2. The lower offset is committed, immediately and until it is acknowledged: the next owner starts at the
           committed offset, and would skip what is written below it.
        3. The partition is read again once nothing of the former log is in flight.
        """
        if self._offsets.assignment(partition) is None:
            return
        self._batcher.drop([partition])
        self._in_flight.forget_dispatched(partition)
        self._offsets.truncate(partition, end)  # 1
        self._commits.request()  # 2
        self._halts.add_truncated(partition)  # 3

    def _forget(self, partition: Partition) -> None:
        self._offsets.forget(partition)
        self._batcher.forget(partition)
        self._revoking.discard(partition)
        self._halts.forget(partition)
        self._deferrals.forget(partition)
        self._flow.forget(partition)
        self._in_flight.forget_dispatched(partition)

    def _record_lost(self, lost: LostRange) -> None:
        self._stats.record_lost(lost)
        logger.error(
            "%s: retention removed them before they were committed, so they are missing from the index; raise the "
            "topic's retention or add lanes so that lag stays below it",
            lost,
        )
