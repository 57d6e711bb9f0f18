"""Queues of deliveries that may go into one batch together."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from penstock.ingest.delivery import Delivery
from penstock.records import ClaimCheck, Event


class BatchKey(NamedTuple):
    """The properties that all deliveries of one batch share."""

    topic: str
    claim_checks: bool

    @classmethod
    def of_delivery(cls, delivery: Delivery) -> BatchKey:
        """Returns the key of the batches that a delivery can be part of."""
        parsed = delivery.parsed
        claim_check = isinstance(parsed, Event) and isinstance(parsed.payload, ClaimCheck)
        return cls(delivery.record.position.topic, claim_check)


class QueuedDelivery(NamedTuple):
    """A delivery that waits for its batch, since a time of the lane's clock."""

    delivery: Delivery
    asset_id: str | None
    key: BatchKey
    since_s: float


@dataclass(slots=True)
class DeliveryQueue:
    """Deliveries of one key in arrival order.

    Attributes:
        max_events: the present limit of a batch from this queue; it follows the speed of the steps.
        entries: the deliveries, oldest first.
        size_bytes: the size of their records.
        in_flight: batches from this queue that are in flight.
    """

    max_events: int
    entries: deque[QueuedDelivery] = field(default_factory=deque)
    size_bytes: int = 0
    in_flight: int = 0

    def append(self, entry: QueuedDelivery) -> None:
        """Adds a delivery behind all others."""
        self.size_bytes += entry.delivery.record.size_bytes
        self.entries.append(entry)

    def append_left(self, entry: QueuedDelivery) -> None:
        """Adds a delivery before all others."""
        self.size_bytes += entry.delivery.record.size_bytes
        self.entries.appendleft(entry)

    def pop_left(self) -> QueuedDelivery:
        """Removes the oldest delivery and returns it."""
        entry = self.entries.popleft()
        self.size_bytes -= entry.delivery.record.size_bytes
        return entry

    def remove(self, matches: Callable[[QueuedDelivery], bool]) -> list[QueuedDelivery]:
        """Removes the deliveries that match and returns them in their order."""
        removed = [entry for entry in self.entries if matches(entry)]
        if removed:
            self.entries = deque(entry for entry in self.entries if not matches(entry))
            self.size_bytes -= sum(entry.delivery.record.size_bytes for entry in removed)
        return removed
