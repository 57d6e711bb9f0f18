"""Forms batches at the source, so that no two events of one asset are ever in flight together.

A batch is due at a number of events or bytes, or when its first event has lingered long enough, whichever comes first.
It holds events of one topic, and either inline media or claim checks: a slow host then delays its own batches only.
Where more events wait than make it due, it takes more of them, as many as the slowest step can do within a given time:
what a batch costs whatever its size is then shared by more, and nothing waits that could have gone before.
Long media, once known as such, queue apart, one a batch, tenant by tenant in turn: clips never wait for them.
A pure state machine; the clock is handed in.
"""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from penstock.broker.base import Partition
from penstock.ingest.delivery import Batch, Delivery
from penstock.records import ClaimCheck, Event


@dataclass(frozen=True, slots=True)
class Continuation:
    """An item of long media with more slices to come.

    Attributes:
        item: the item.
        older: items of the same asset that wait for it, oldest first.
        after_s: it goes no sooner than so many seconds from now.
        yields: nothing of it is indexed, so that newer items of its asset may go first: it waits for one of them, if
            that was begun before a restart.
    """

    delivery: Delivery
    older: Sequence[Delivery] = ()
    delay_s: float = 0.0
    yields_to_newer: bool = False


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """When a batch is due and when it is full, and how many of one queue may be under way at once.

    Attributes:
        events: a batch of so many is due.
        size_bytes: or of so many bytes; it never holds more, but for a single larger event.
        linger_s: or when its first event has waited so long.
        in_flight: batches of one queue under way at once.
        claims: events of a batch of claim checks: what they point to is not counted in bytes, and may be large.
        slow: topics whose batches are as small: a minute of sound or film takes its encoders seconds. Of claim checks
            there they have one event, as it may take minutes.
        most_events: up to so many a batch takes where they wait; None: no more than make it due.
        step_s: how long the slowest step of a batch of more than `events` may take.
        long: long media of one topic under way at once.
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


class _Key(NamedTuple):
    """What the items of one batch have in common."""

    topic: str
    claims: bool
    long: bool = False


class _Waiting(NamedTuple):
    item: Delivery
    asset_id: str | None
    key: _Key
    since_s: float


@dataclass(slots=True)
class _Queue:
    """Items of one key, ready to go, in order. `full` is how many a batch of them takes at most, at present."""

    full: int
    waiting: deque[_Waiting] = field(default_factory=deque)
    size_bytes: int = 0
    in_flight: int = 0

    def add(self, entry: _Waiting, *, first: bool) -> None:
        self.size_bytes += entry.item.record.size_bytes
        if first:
            self.waiting.appendleft(entry)
        else:
            self.waiting.append(entry)

    def popleft(self) -> _Waiting:
        entry = self.waiting.popleft()
        self.size_bytes -= entry.item.record.size_bytes
        return entry

    def remove(self, wanted: Callable[[_Waiting], bool]) -> list[_Waiting]:
        removed = [entry for entry in self.waiting if wanted(entry)]
        if removed:
            self.waiting = deque(entry for entry in self.waiting if not wanted(entry))
            self.size_bytes -= sum(entry.item.record.size_bytes for entry in removed)
        return removed


def scale_batch_size(done: int, took_s: float, within_s: float) -> int:
    """How many would have taken `within_s` where so many took `took_s`; at most twice as many, as the part of it that
    does not depend on their number is not known.
    """
    return int(min(2 * done, within_s * done / took_s)) if took_s > 0 else 2 * done


class Batcher:
    """Queues items by topic and hands out batches.

    Args:
        limits: see `BatchLimits`.
        clock: monotonic seconds.
    """

    def __init__(self, limits: BatchLimits, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self._numbers = itertools.count(1)
        self._queues: dict[_Key, _Queue] = {}
        self._queued: Counter[str | None] = Counter()  # items in the queues, by asset
        self._in_flight: set[str] = set()  # assets
        self._held: dict[str, list[_Waiting]] = {}  # behind an asset in flight, oldest first
        self._long: set[str] = set()  # assets of long media, under way or between two slices
        self._served: dict[str, int] = {}  # the number of the latest batch of long media, by tenant
        self.queued_bytes = 0

    def add(self, item: Delivery) -> None:
        """Takes an item. One whose asset is in flight is held until that is settled."""
        entry = _Waiting(item, item.asset_id, _key_of(item), self._clock())
        self.queued_bytes += item.record.accounted_bytes
        if entry.asset_id in self._in_flight:
            self._held.setdefault(str(entry.asset_id), []).append(entry)
        else:
            self._enqueue(entry)

    def next_batch(self) -> Batch | None:
        """The next batch that is due; None if none is. Call until None, again after `finished` and as time passes."""
        for key, queue in self._queues.items():
            if queue.in_flight < self._most_in_flight(key) and self._due(key, queue):
                return self._next_slice(key, queue) if key.long else self._form(key, queue)
        return None

    def next_due_s(self) -> float | None:
        """When, by the clock, lingering makes the next batch due; None if nothing waits that may go."""
        heads = [
            min(entry.since_s for entry in queue.waiting)
            if key.long
            else queue.waiting[0].since_s + self._limits.linger_s
            for key, queue in self._queues.items()
            if queue.waiting and queue.in_flight < self._most_in_flight(key)
        ]
        return min(heads, default=None)

    def release(self, batch: Batch, slowest_s: float | None = None, continuations: Sequence[Continuation] = ()) -> None:
        """A batch is settled or given up: its assets are free, and what was held behind them goes next.

        Args:
            batch: as it was taken.
            slowest_s: seconds that its slowest step took, where it was settled.
            unfinished: items of long media that go on. Their assets stay in flight.
        """
        key = _batch_key(batch)
        queue = self._queues[key]
        queue.in_flight -= 1
        if slowest_s is not None and not key.claims and not key.long:
            queue.full = self._fitting(len(batch.deliveries), slowest_s)
        going_on = {one.delivery.asset_id for one in continuations}
        for asset_id in {item.asset_id for item in batch.deliveries if item.asset_id is not None} - going_on:
            self._free(asset_id)
        for one in continuations:
            self._go_on(one)

    def drop(
        self, partitions: Collection[Partition], *, beyond: Mapping[Partition, int] | None = None
    ) -> Sequence[Delivery]:
        """Forgets what has not gone yet of these partitions, and returns it.

        Args:
            partitions: whose items go.
            beyond: of a partition that is named here, only those above this offset go, and long media with all that
                waits for them: nobody waits until those are finished.
        """
        if not partitions:  # nearly always: whoever asks each turn does not pay for all that waits
            return []
        gone = {partition: -1 if beyond is None else beyond.get(partition, -1) for partition in partitions}

        def wanted(entry: _Waiting) -> bool:
            partition = entry.item.partition
            if partition not in gone:
                return False
            return entry.item.record.position.offset > gone[partition] or entry.asset_id in self._long

        dropped = self._sweep(wanted)
        between_slices = [entry.asset_id for entry in dropped if entry.key.long and entry.asset_id is not None]
        for asset_id, held in list(self._held.items()):
            dropped += [entry for entry in held if wanted(entry)]
            self._held[asset_id] = [entry for entry in held if not wanted(entry)]
            if not self._held[asset_id]:
                del self._held[asset_id]
        for asset_id in between_slices:
            self._free(asset_id)
        self.queued_bytes -= sum(entry.item.record.accounted_bytes for entry in dropped)
        return [entry.item for entry in dropped]

    def has_queued(self, partition: Partition) -> bool:
        """Whether anything of this partition has not gone yet."""
        waiting = itertools.chain(*(queue.waiting for queue in self._queues.values()), *self._held.values())
        return any(entry.item.partition == partition for entry in waiting)

    def _free(self, asset_id: str) -> None:
        """Nothing of this asset is under way any more: what was held behind it goes next."""
        self._in_flight.discard(asset_id)
        self._long.discard(asset_id)
        for entry in reversed(self._held.pop(asset_id, [])):
            self._enqueue(entry, first=True)

    def _go_on(self, one: Continuation) -> None:
        """Long media queue up for their next slice; their asset stays in flight, unless they yield to a newer item."""
        asset_id = one.delivery.asset_id
        assert asset_id is not None
        now_s = self._clock()
        self.queued_bytes += sum(item.record.accounted_bytes for item in (one.delivery, *one.older))
        waiting = [_Waiting(older, asset_id, _key_of(older), now_s) for older in one.older]
        waiting += self._held.pop(asset_id, [])
        if one.yields_to_newer and any(_is_newer(entry.item, one.delivery) for entry in waiting):
            self._held[asset_id] = [*waiting, _Waiting(one.delivery, asset_id, _key_of(one.delivery), now_s)]
            self._free(asset_id)
            return
        self._long.add(asset_id)
        key = _Key(one.delivery.record.position.topic, claims=False, long=True)
        self._enqueue(_Waiting(one.delivery, asset_id, key, now_s + one.delay_s))
        if waiting:
            self._held[asset_id] = waiting

    def _next_slice(self, key: _Key, queue: _Queue) -> Batch:
        """One item of the tenant that has waited longest for its turn; of one tenant the first in the queue."""
        now_s = self._clock()
        due = [entry for entry in queue.waiting if entry.since_s <= now_s]
        chosen = min(due, key=lambda entry: self._served.get(_tenant(entry), 0))
        queue.remove(lambda entry: entry is chosen)
        self._dequeued(chosen)
        self.queued_bytes -= chosen.item.record.accounted_bytes
        queue.in_flight += 1
        number = next(self._numbers)
        self._served[_tenant(chosen)] = number
        return Batch(number, key.topic, (chosen.item,), is_continuation=True)

    def _most_in_flight(self, key: _Key) -> int:
        return self._limits.max_continuations if key.long else self._limits.max_in_flight

    def _least(self, key: _Key) -> int:
        """So many events make a batch due."""
        slow = key.topic in self._limits.slow_topics
        if key.claims and slow:
            return 1
        return (
            min(self._limits.max_claim_checks, self._limits.min_events)
            if key.claims or slow
            else self._limits.min_events
        )

    def _fitting(self, events: int, slowest_s: float) -> int:
        """How many events a batch may take after one whose slowest step took so long."""
        most = self._limits.max_events or self._limits.min_events
        return max(self._limits.min_events, min(most, scale_batch_size(events, slowest_s, self._limits.max_step_s)))

    def _due(self, key: _Key, queue: _Queue) -> bool:
        if not queue.waiting or key.long:
            now_s = self._clock()
            return any(entry.since_s <= now_s for entry in queue.waiting)
        enough = len(queue.waiting) >= self._least(key) or queue.size_bytes >= self._limits.max_bytes
        return enough or self._clock() - queue.waiting[0].since_s >= self._limits.linger_s

    def _form(self, key: _Key, queue: _Queue) -> Batch:
        """Takes items from the front of a queue until the batch is full; what is left of their assets is held."""
        chosen: list[_Waiting] = []
        size_bytes = 0
        most = min(queue.full, self._least(key)) if key.claims or key.topic in self._limits.slow_topics else queue.full
        while queue.waiting and len(chosen) < most:
            if chosen and size_bytes + queue.waiting[0].item.record.size_bytes > self._limits.max_bytes:
                break
            entry = queue.popleft()
            self._dequeued(entry)
            chosen.append(entry)
            size_bytes += entry.item.record.size_bytes
        assets = {entry.asset_id for entry in chosen if entry.asset_id is not None}
        self._in_flight |= assets
        self._hold({asset_id for asset_id in assets if self._queued[asset_id]})
        queue.in_flight += 1
        batch = Batch(next(self._numbers), key.topic, tuple(entry.item for entry in chosen))
        self.queued_bytes -= batch.accounted_bytes
        return batch

    def _hold(self, assets: set[str]) -> None:
        """Sets aside what still waits of assets that have just gone into flight; later items queue up behind."""
        if not assets:
            return
        for entry in sorted(self._sweep(lambda entry: entry.asset_id in assets), key=lambda entry: entry.since_s):
            self._held.setdefault(str(entry.asset_id), []).append(entry)

    def _enqueue(self, entry: _Waiting, *, first: bool = False) -> None:
        self._queues.setdefault(entry.key, _Queue(self._limits.min_events)).add(entry, first=first)
        self._queued[entry.asset_id] += 1

    def _sweep(self, wanted: Callable[[_Waiting], bool]) -> list[_Waiting]:
        """Takes the wanted items out of all queues."""
        swept: list[_Waiting] = []
        for queue in self._queues.values():
            taken = queue.remove(wanted)
            for entry in taken:
                self._dequeued(entry)
            swept += taken
        return swept

    def _dequeued(self, entry: _Waiting) -> None:
        self._queued[entry.asset_id] -= 1
        if not self._queued[entry.asset_id]:
            del self._queued[entry.asset_id]  # or it would grow with every asset there ever was


def _batch_key(batch: Batch) -> _Key:
    return _Key(batch.topic, claims=False, long=True) if batch.is_continuation else _key_of(batch.deliveries[0])


def _tenant(entry: _Waiting) -> str:
    assert isinstance(entry.item.parsed, Event)
    return entry.item.parsed.asset.tenant


def _is_newer(item: Delivery, other: Delivery) -> bool:
    one, another = item.parsed, other.parsed
    return isinstance(one, Event) and isinstance(another, Event) and one.version.newer_than(another.version)


def _key_of(item: Delivery) -> _Key:
    claims = isinstance(item.parsed, Event) and isinstance(item.parsed.payload, ClaimCheck)
    return _Key(item.record.position.topic, claims)
