"""Forms batches at the source, so that no two events of one asset are ever in flight together.

A batch is due at a number of events or bytes, or when its first event has lingered long enough, whichever comes first.
It holds events of one topic, and either inline media or claim checks: a slow host then delays its own batches only.
It is filled with an event of each tenant in turn, so that one tenant's flood delays no other tenant; events of a tenant
beyond its quota wait.
If more events wait than make a batch due, it takes more of them: as many as the slowest step can process within a given
time. The fixed cost of a batch is then shared by more events, and none waits that could have gone before.
The next segments of long media have a queue of their own (`continuations`), so that short media never wait for them.
A pure state machine; the clock is handed in.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

from penstock.broker.base import Partition
from penstock.config import QuotaSettings
from penstock.ingest.delivery import Batch, Delivery
from penstock.ingest.lane.continuations import Continuation, ContinuationQueue, LongMediaProgress
from penstock.ingest.lane.queues import BatchKey, DeliveryQueue, QueuedDelivery
from penstock.ingest.lane.quotas import TenantQuotas
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

    Over the limit because every delivery is counted by its asset and by its tenant, wherever it waits.

    Args:
        limits: see `BatchLimits`.
        clock: monotonic seconds.
        quotas: of the tenants; None: none has one.
    """

    def __init__(self, limits: BatchLimits, clock: Callable[[], float], quotas: TenantQuotas | None = None) -> None:
        self._limits = limits
        self._clock = clock
        self.quotas = TenantQuotas(QuotaSettings(), 1, clock) if quotas is None else quotas
        self._numbers = itertools.count(1)
        self._queues: dict[BatchKey, DeliveryQueue] = {}  # of keys with deliveries that wait or are in flight
        self._max_events: dict[BatchKey, int] = {}  # of a batch, where the speed of the steps has changed the limit
        self._queued: Counter[str | None] = Counter()  # deliveries in the queues, by asset
        self._in_flight: set[str] = set()  # assets
        self._held: dict[str, list[QueuedDelivery]] = {}  # behind an asset in flight, oldest first
        self._continuations = ContinuationQueue(limits.max_continuations, clock)
        self._queued_bytes: Counter[str] = Counter()  # by tenant

    def add(self, delivery: Delivery) -> None:
        """Queues a delivery. One whose asset is in flight is held until the asset is released."""
        entry = QueuedDelivery(delivery, delivery.asset_id, BatchKey.of_delivery(delivery), self._clock())
        self._count_bytes([delivery])
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
        self._count_bytes([delivery], sign=-1)
        return Batch(next(self._numbers), delivery.record.position.topic, (delivery,), is_continuation=True)

    def next_due_s(self) -> float | None:
        """Returns the time of the clock at which a batch is due, at the latest; None if none may go."""
        lingered = [
            max(since_s + self._limits.linger_s, self.quotas.ready_at_s(tenant))
            for queue in self._queues.values()
            if queue.in_flight < self._limits.max_in_flight
            for tenant, since_s in queue.oldest_s().items()
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
                self._max_events[key] = self._adapted_size(len(batch.deliveries), slowest_s)
        continuing = {continuation.delivery.asset_id for continuation in continuations}
        for asset_id in {delivery.asset_id for delivery in batch.deliveries if delivery.asset_id is not None}:
            if asset_id not in continuing:
                self._free(asset_id)
        self._forget_idle_queues()
        progressed = self._continuations.update_progress(batch.deliveries, continuations)
        for continuation, has_progressed in zip(continuations, progressed, strict=True):
            self._continue(continuation, stalled=not has_progressed)

    def drop(
        self, partitions: Collection[Partition], *, beyond: Mapping[Partition, int] | None = None
    ) -> Sequence[Delivery]:
        """Removes the queued and held deliveries of partitions, and returns them.

        Args:
            partitions: the partitions.
            beyond: for the partitions named here, only deliveries above this offset are removed, those of tenants at
                their quota, and long media with all that is held behind them: no drain waits for these.
        """
        if not partitions:  # nearly always: a call each turn must not look at thousands of deliveries
            return []
        kept_up_to = {partition: -1 if beyond is None else beyond.get(partition, -1) for partition in partitions}
        long_media = self._continuations.assets
        at_quota = {tenant for tenant in self._queued_bytes if self.quotas.exceeds(tenant)}

        def is_dropped(delivery: Delivery) -> bool:
            last_kept = kept_up_to.get(delivery.partition)
            if last_kept is None:
                return False
            is_above = delivery.record.position.offset > last_kept
            return is_above or delivery.tenant in at_quota or delivery.asset_id in long_media

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
        self._count_bytes(dropped, sign=-1)
        return dropped

    def forget(self, partition: Partition) -> None:
        """Drops all deliveries of a partition that is no longer owned, and the progress of its long media."""
        self.drop([partition])
        self._continuations.forget(partition)

    def has_queued(self, partition: Partition) -> bool:
        """Returns whether a delivery of a partition is queued or held."""
        queued = itertools.chain(*self._queues.values(), *self._held.values())
        deliveries = itertools.chain((entry.delivery for entry in queued), self._continuations)
        return any(delivery.partition == partition for delivery in deliveries)

    @property
    def queued_bytes(self) -> int:
        """Returns the memory of all deliveries that are queued or held."""
        return self._queued_bytes.total()

    def queued_bytes_of(self, tenant: str) -> int:
        """Returns the memory of the deliveries of a tenant that are queued or held."""
        return self._queued_bytes[tenant]

    @property
    def waiting(self) -> Counter[str]:
        """Returns the number of queued deliveries of each tenant that is at its quota."""
        waiting: Counter[str] = Counter()
        for queue in self._queues.values():
            waiting.update({tenant: count for tenant, count in queue.counts().items() if self.quotas.exceeds(tenant)})
        return waiting

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
        self._count_bytes([delivery, *continuation.older])
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
        ready = queue.ready(self.quotas.is_ready)
        if ready is None:
            return False
        if ready.events >= self._due_size(key) or ready.size_bytes >= self._limits.max_bytes:
            return True
        return self._clock() - ready.since_s >= self._limits.linger_s

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
        """Takes deliveries of each ready tenant in turn until the batch is full, and holds the rest of their assets."""
        max_events = self._max_events.get(key, self._limits.min_events)
        if key.claim_checks or key.topic in self._limits.slow_topics:
            max_events = min(max_events, self._due_size(key))
        chosen: list[QueuedDelivery] = []
        size_bytes = 0
        queue.in_flight += 1

        def fits(entry: QueuedDelivery) -> bool:
            within_bytes = size_bytes + entry.delivery.record.size_bytes <= self._limits.max_bytes
            return not chosen or (len(chosen) < max_events and within_bytes)

        for entry in queue.take_in_turn(self.quotas.is_ready, fits):
            event_bytes = entry.delivery.record.size_bytes
            self.quotas.take(entry.delivery.tenant, event_bytes)
            self._count_removed(entry)
            chosen.append(entry)
            size_bytes += event_bytes
        assets = {entry.asset_id for entry in chosen if entry.asset_id is not None}
        self._in_flight |= assets
        self._hold({asset_id for asset_id in assets if self._queued[asset_id]})
        batch = Batch(next(self._numbers), key.topic, tuple(entry.delivery for entry in chosen))
        self._count_bytes(batch.deliveries, sign=-1)
        return batch

    # --- queues -----------------------------------------------------------------------------------------------------

    def _enqueue(self, entry: QueuedDelivery, *, first: bool = False) -> None:
        queue = self._queues.get(entry.key)
        if queue is None:
            queue = self._queues[entry.key] = DeliveryQueue()
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
        self._forget_idle_queues()
        return removed

    def _forget_idle_queues(self) -> None:
        """Forgets the queues that are idle: there may be thousands of topics, and each turn looks at all queues."""
        for key in [key for key, queue in self._queues.items() if queue.is_idle]:
            del self._queues[key]

    def _count_bytes(self, deliveries: Iterable[Delivery], *, sign: int = 1) -> None:
        for delivery in deliveries:
            self._queued_bytes[delivery.tenant] += sign * delivery.record.accounted_bytes
            if not self._queued_bytes[delivery.tenant]:
                del self._queued_bytes[delivery.tenant]

    def _count_removed(self, entry: QueuedDelivery) -> None:
        self._queued[entry.asset_id] -= 1
        if not self._queued[entry.asset_id]:
            del self._queued[entry.asset_id]  # or it would grow with every asset there ever was


def _is_newer(delivery: Delivery, other: Delivery) -> bool:
    parsed, other_parsed = delivery.parsed, other.parsed
    if not isinstance(parsed, Event) or not isinstance(other_parsed, Event):
        return False
    return parsed.version.newer_than(other_parsed.version)
