"""Forms batches at the source, so that no two events of one asset are ever in flight together.

A batch is due at a number of events or bytes, or when its first event has lingered long enough, whichever comes first.
It holds events of one topic, and either inline media or claim checks: a slow host then delays its own batches only.
If more events wait than make a batch due, it takes more of them: as many as the slowest step can process within a given
time. The fixed cost of a batch is then shared by more events, and none waits that could have gone before.
The next segments of long media have a queue of their own (`continuations`), so that short media never wait for them.
A pure state machine; the clock is handed in.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from dataclasses import dataclass

from penstock.broker.base import Partition
from penstock.ingest.delivery import Batch, Delivery
from penstock.ingest.lane.continuations import Continuation, ContinuationQueue, LongMediaProgress
from penstock.ingest.lane.queues import BatchKey, DeliveryQueue, QueuedDelivery
from penstock.records import Event


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """The sizes at which batches are due and full, and the number that may be in flight.

    Attributes:
        min_events: a batch of this many events is due.
        max_bytes: so is one of this size, which only a single larger event exceeds.
        linger_s: so is one whose first event has waited this long.
        max_in_flight: batches of one queue in flight.
        max_claim_checks: events of a batch of claim checks: the media they refer to are not counted in bytes, and may
            be large.
        max_events: events of a batch if enough of them wait; None: `min_events`.
        max_step_s: the time that the slowest step of a batch of more than `min_events` may take.
        max_continuations: batches of long media of one topic in flight.
        slow_topics: topics whose batches are as small as those of claim checks: a minute of audio or video takes the
            encoders seconds. A batch of claim checks has one event there, as it may take minutes.
    """

    min_events: int
    max_bytes: int
    linger_s: float
    max_in_flight: int
    max_claim_checks: int = 8
    max_events: int | None = None
    max_step_s: float = 0.25
    max_continuations: int = 2
    slow_topics: frozenset[str] = frozenset()


def scale_batch_size(events: int, elapsed_s: float, target_s: float) -> int:
    """Returns how many events would have taken `target_s`, at most twice as many as took `elapsed_s`.

    The part of the elapsed time that does not depend on the number of events is not known, hence the bound.
    """
    return int(min(2 * events, target_s * events / elapsed_s)) if elapsed_s > 0 else 2 * events


class Batcher:
    """Queues deliveries by topic and hands out batches.

    Args:
        limits: see `BatchLimits`.
        clock: monotonic seconds.
    """

    def __init__(self, limits: BatchLimits, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self._numbers = itertools.count(1)
        self._queues: dict[BatchKey, DeliveryQueue] = {}
        self._queued: Counter[str | None] = Counter()  # deliveries in the queues, by asset
        self._in_flight: set[str] = set()  # assets
        self._held: dict[str, list[QueuedDelivery]] = {}  # behind an asset in flight, oldest first
        self._continuations = ContinuationQueue(limits.max_continuations, clock)
        self.queued_bytes = 0

    def add(self, delivery: Delivery) -> None:
        """Queues a delivery. One whose asset is in flight is held until the asset is released."""
        entry = QueuedDelivery(delivery, delivery.asset_id, BatchKey.of_delivery(delivery), self._clock())
        self.queued_bytes += delivery.record.accounted_bytes
        if entry.asset_id in self._in_flight:
            self._held.setdefault(str(entry.asset_id), []).append(entry)
        else:
            self._enqueue(entry)

    def next_batch(self) -> Batch | None:
        """Returns the next batch that is due, or None.

        Call it until it returns None, and again after `release` and as time passes.
        """
        for key, queue in self._queues.items():
            if queue.in_flight < self._limits.max_in_flight and self._is_due(key, queue):
                return self._form_batch(key, queue)
        delivery = self._continuations.next_delivery()
        if delivery is None:
            return None
        self.queued_bytes -= delivery.record.accounted_bytes
        return Batch(next(self._numbers), delivery.record.position.topic, (delivery,), is_continuation=True)

    def next_due_s(self) -> float | None:
        """Returns the time of the clock at which a batch is due, at the latest; None if none may go."""
        lingered = [
            queue.entries[0].since_s + self._limits.linger_s
            for queue in self._queues.values()
            if queue.entries and queue.in_flight < self._limits.max_in_flight
        ]
        continuation = self._continuations.next_due_s()
        return min(lingered if continuation is None else [*lingered, continuation], default=None)

    def release(self, batch: Batch, slowest_s: float | None = None, continuations: Sequence[Continuation] = ()) -> None:
        """Frees the assets of a batch that is settled or given up; deliveries held behind them go next.

        Args:
            batch: the batch, as it was returned.
            slowest_s: seconds that its slowest step took, if it was settled.
            continuations: its events that have more segments to come. Their assets stay in flight.
        """
        if batch.is_continuation:
            self._continuations.release(batch.topic)
        else:
            key = BatchKey.of_delivery(batch.deliveries[0])
            queue = self._queues[key]
            queue.in_flight -= 1
            if slowest_s is not None and not key.claim_checks:
                queue.max_events = self._adapted_size(len(batch.deliveries), slowest_s)
        continuing = {continuation.delivery.asset_id for continuation in continuations}
        for asset_id in {delivery.asset_id for delivery in batch.deliveries if delivery.asset_id is not None}:
            if asset_id not in continuing:
                self._free(asset_id)
        progressed = self._continuations.update_progress(batch.deliveries, continuations)
        for continuation, has_progressed in zip(continuations, progressed, strict=True):
            self._continue(continuation, stalled=not has_progressed)

    def drop(
        self, partitions: Collection[Partition], *, beyond: Mapping[Partition, int] | None = None
    ) -> Sequence[Delivery]:
        """Removes the queued and held deliveries of partitions, and returns them.

        Args:
            partitions: the partitions.
            beyond: for the partitions named here, only deliveries above this offset are removed, and long media with
                all that is held behind them: no drain waits until those are finished.
        """
        if not partitions:  # nearly always: a call each turn must not look at thousands of deliveries
            return []
        kept_up_to = {partition: -1 if beyond is None else beyond.get(partition, -1) for partition in partitions}
        long_media = self._continuations.assets

        def is_dropped(delivery: Delivery) -> bool:
            last_kept = kept_up_to.get(delivery.partition)
            if last_kept is None:
                return False
            return delivery.record.position.offset > last_kept or delivery.asset_id in long_media

        dropped = [entry.delivery for entry in self._remove_queued(lambda entry: is_dropped(entry.delivery))]
        segments = self._continuations.remove(is_dropped)
        for asset_id, entries in list(self._held.items()):
            dropped += [entry.delivery for entry in entries if is_dropped(entry.delivery)]
            self._held[asset_id] = [entry for entry in entries if not is_dropped(entry.delivery)]
            if not self._held[asset_id]:
                del self._held[asset_id]
        for delivery in segments:
            self._free(str(delivery.asset_id))
        dropped += segments
        self.queued_bytes -= sum(delivery.record.accounted_bytes for delivery in dropped)
        return dropped

    def forget(self, partition: Partition) -> None:
        """Drops all deliveries of a partition that is no longer owned, and the progress of its long media."""
        self.drop([partition])
        self._continuations.forget(partition)

    def has_queued(self, partition: Partition) -> bool:
        """Returns whether a delivery of a partition is queued or held."""
        queued = itertools.chain(*(queue.entries for queue in self._queues.values()), *self._held.values())
        deliveries = itertools.chain((entry.delivery for entry in queued), self._continuations)
        return any(delivery.partition == partition for delivery in deliveries)

    @property
    def long_media_progress(self) -> Sequence[LongMediaProgress]:
        """Returns how far the assets are indexed that have more segments to come."""
        return self._continuations.progress

    # --- assets -----------------------------------------------------------------------------------------------------

    def _free(self, asset_id: str) -> None:
        """Ends the flight of an asset, and queues the deliveries held behind it before all others."""
        self._in_flight.discard(asset_id)
        self._continuations.discard(asset_id)
        for entry in reversed(self._held.pop(asset_id, [])):
            self._enqueue(entry, first=True)

    def _continue(self, continuation: Continuation, *, stalled: bool) -> None:
        """Queues the next segment of an event, whose asset stays in flight.

        An event of which nothing is indexed yields to a newer version of its asset: it may be waiting for just that
        one, which was started before a restart.
        """
        delivery = continuation.delivery
        asset_id = delivery.event.asset.id
        now_s = self._clock()
        self.queued_bytes += sum(queued.record.accounted_bytes for queued in (delivery, *continuation.older))
        held = [QueuedDelivery(older, asset_id, BatchKey.of_delivery(older), now_s) for older in continuation.older]
        held += self._held.pop(asset_id, [])
        if continuation.is_unstarted and any(_is_newer(entry.delivery, delivery) for entry in held):
            held.append(QueuedDelivery(delivery, asset_id, BatchKey.of_delivery(delivery), now_s))
            self._held[asset_id] = held
            self._free(asset_id)
            return
        self._continuations.add(delivery, stalled=stalled)
        if held:
            self._held[asset_id] = held

    def _hold(self, assets: Set[str]) -> None:
        """Sets aside the queued deliveries of assets that have just gone into flight, in arrival order."""
        if not assets:
            return
        removed = self._remove_queued(lambda entry: entry.asset_id in assets)
        for entry in sorted(removed, key=lambda entry: entry.since_s):
            self._held.setdefault(str(entry.asset_id), []).append(entry)

    # --- batches ----------------------------------------------------------------------------------------------------

    def _is_due(self, key: BatchKey, queue: DeliveryQueue) -> bool:
        if not queue.entries:
            return False
        if len(queue.entries) >= self._due_size(key) or queue.size_bytes >= self._limits.max_bytes:
            return True
        return self._clock() - queue.entries[0].since_s >= self._limits.linger_s

    def _due_size(self, key: BatchKey) -> int:
        """Returns the number of events that make a batch due."""
        slow = key.topic in self._limits.slow_topics
        if key.claim_checks and slow:
            return 1
        if key.claim_checks or slow:
            return min(self._limits.max_claim_checks, self._limits.min_events)
        return self._limits.min_events

    def _adapted_size(self, events: int, slowest_s: float) -> int:
        """Returns how many events the next batch may take, from the size and the slowest step of the last one."""
        largest = self._limits.max_events or self._limits.min_events
        return max(self._limits.min_events, min(largest, scale_batch_size(events, slowest_s, self._limits.max_step_s)))

    def _form_batch(self, key: BatchKey, queue: DeliveryQueue) -> Batch:
        """Takes deliveries from the front of a queue until the batch is full, and holds the rest of their assets."""
        small = key.claim_checks or key.topic in self._limits.slow_topics
        max_events = min(queue.max_events, self._due_size(key)) if small else queue.max_events
        chosen: list[QueuedDelivery] = []
        size_bytes = 0
        while queue.entries and len(chosen) < max_events:
            if chosen and size_bytes + queue.entries[0].delivery.record.size_bytes > self._limits.max_bytes:
                break
            entry = queue.pop_left()
            self._count_removed(entry)
            chosen.append(entry)
            size_bytes += entry.delivery.record.size_bytes
        assets = {entry.asset_id for entry in chosen if entry.asset_id is not None}
        self._in_flight |= assets
        self._hold({asset_id for asset_id in assets if self._queued[asset_id]})
        queue.in_flight += 1
        batch = Batch(next(self._numbers), key.topic, tuple(entry.delivery for entry in chosen))
        self.queued_bytes -= batch.accounted_bytes
        return batch

    # --- queues -----------------------------------------------------------------------------------------------------

    def _enqueue(self, entry: QueuedDelivery, *, first: bool = False) -> None:
        queue = self._queues.get(entry.key)
        if queue is None:
            queue = self._queues[entry.key] = DeliveryQueue(self._limits.min_events)
        if first:
            queue.append_left(entry)
        else:
            queue.append(entry)
        self._queued[entry.asset_id] += 1

    def _remove_queued(self, matches: Callable[[QueuedDelivery], bool]) -> list[QueuedDelivery]:
        """Removes the deliveries that match from all queues, and returns them."""
        removed = [entry for queue in self._queues.values() for entry in queue.remove(matches)]
        for entry in removed:
            self._count_removed(entry)
        return removed

    def _count_removed(self, entry: QueuedDelivery) -> None:
        self._queued[entry.asset_id] -= 1
        if not self._queued[entry.asset_id]:
            del self._queued[entry.asset_id]  # or it would grow with every asset there ever was


def _is_newer(delivery: Delivery, other: Delivery) -> bool:
    parsed, other_parsed = delivery.parsed, other.parsed
    if not isinstance(parsed, Event) or not isinstance(other_parsed, Event):
        return False
    return parsed.version.newer_than(other_parsed.version)
