"""Queues the next segments of timed media, tenant by tenant in turn, apart from all other batches.

Audio and video may take hundreds of segments. Each is a batch of its own, so that text, images and short media never
wait for a long one, and one tenant's long media do not hold up another's.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from typing import NamedTuple

from penstock.broker.base import Partition
from penstock.ingest.delivery import Delivery
from penstock.records import MediaPosition, Position

# Seconds before a continuation that made no progress is tried again: it waits for another version of its asset, one
# that was started before a restart, to finish.
_RETRY_S = 1.0
_START = MediaPosition()


@dataclass(frozen=True, slots=True)
class Continuation:
    """An event of timed media with more segments to come.

    Attributes:
        delivery: the event.
        position: how far its media are indexed.
        older: older deliveries of the same asset that wait for it, oldest first.
    """

    delivery: Delivery
    position: MediaPosition
    older: Sequence[Delivery] = ()

    @property
    def is_unstarted(self) -> bool:
        """Returns whether nothing is indexed yet, so that a newer version of the asset may take its place."""
        return self.position == _START


@dataclass(frozen=True, slots=True)
class LongMediaProgress:
    """The position up to which an asset is indexed whose media take several segments."""

    asset: str
    position: MediaPosition


class _QueuedSegment(NamedTuple):
    """The next segment of an event, due at a time of the clock."""

    delivery: Delivery
    tenant: str
    due_s: float


class ContinuationQueue:
    """Hands out the next segments of timed media, round-robin by tenant.

    Args:
        max_in_flight: batches of one topic that may be in flight together.
        clock: monotonic seconds.
    """

    def __init__(self, max_in_flight: int, clock: Callable[[], float]) -> None:
        self._max_in_flight = max_in_flight
        self._clock = clock
        self._turns = itertools.count(1)
        self._queues: dict[str, list[_QueuedSegment]] = {}  # by topic
        self._in_flight: Counter[str] = Counter()  # batches, by topic
        self._assets: set[str] = set()
        self._last_turn: dict[str, int] = {}  # by tenant
        self._progress: dict[Position, LongMediaProgress] = {}

    # --- the queue --------------------------------------------------------------------------------------------------

    @property
    def assets(self) -> Set[str]:
        """Returns the assets whose next segment is queued or in flight."""
        return self._assets

    def add(self, delivery: Delivery, *, stalled: bool = False) -> None:
        """Queues the next segment of an event; it is due after a delay if the last attempt made no progress."""
        event = delivery.event
        self._assets.add(event.asset.id)
        due_s = self._clock() + (_RETRY_S if stalled else 0.0)
        self._queues.setdefault(event.position.topic, []).append(_QueuedSegment(delivery, event.asset.tenant, due_s))

    def next_delivery(self) -> Delivery | None:
        """Takes the first due event of the tenant whose last turn is longest ago; None if none may go."""
        now_s = self._clock()
        for topic, queue in self._queues.items():
            if self._in_flight[topic] >= self._max_in_flight:
                continue
            due = [index for index, queued in enumerate(queue) if queued.due_s <= now_s]
            if due:
                chosen = queue.pop(min(due, key=lambda index: self._last_turn.get(queue[index].tenant, 0)))
                self._in_flight[topic] += 1
                self._last_turn[chosen.tenant] = next(self._turns)
                return chosen.delivery
        return None

    def next_due_s(self) -> float | None:
        """Returns the time of the clock at which the next segment is due; None if none may go."""
        due = [
            min(queued.due_s for queued in queue)
            for topic, queue in self._queues.items()
            if queue and self._in_flight[topic] < self._max_in_flight
        ]
        return min(due, default=None)

    def release(self, topic: str) -> None:
        """Records that a batch of this queue is no longer in flight."""
        self._in_flight[topic] -= 1

    def discard(self, asset_id: str) -> None:
        """Records that no segment of an asset is queued or in flight any more."""
        self._assets.discard(asset_id)

    def remove(self, matches: Callable[[Delivery], bool]) -> list[Delivery]:
        """Removes the queued segments of the events that match, and returns these."""
        removed: list[Delivery] = []
        for queue in self._queues.values():
            removed += [queued.delivery for queued in queue if matches(queued.delivery)]
            queue[:] = [queued for queued in queue if not matches(queued.delivery)]
        return removed

    def __iter__(self) -> Iterator[Delivery]:
        return (queued.delivery for queue in self._queues.values() for queued in queue)

    # --- progress ---------------------------------------------------------------------------------------------------

    @property
    def progress(self) -> Sequence[LongMediaProgress]:
        """Returns how far the events are that have more segments to come."""
        return tuple(self._progress.values())

    def update_progress(self, settled: Iterable[Delivery], continuations: Sequence[Continuation]) -> Sequence[bool]:
        """Records how far the events of a batch are, and returns for each continuation whether it got further.

        Args:
            settled: the deliveries of the batch.
            continuations: those of them that have more segments to come.
        """
        progressed = [
            continuation.position != self._position_of(continuation.delivery) for continuation in continuations
        ]
        if self._progress:
            for delivery in settled:
                self._progress.pop(delivery.record.position, None)
        for continuation in continuations:
            event = continuation.delivery.event
            self._progress[event.position] = LongMediaProgress(str(event.asset), continuation.position)
        return progressed

    def _position_of(self, delivery: Delivery) -> MediaPosition:
        progress = self._progress.get(delivery.record.position)
        return _START if progress is None else progress.position

    def forget(self, partition: Partition) -> None:
        """Forgets how far the events of a partition are that is no longer owned."""
        self._progress = {
            position: progress
            for position, progress in self._progress.items()
            if Partition(position.topic, position.partition) != partition
        }
