"""Queues of deliveries that may go into one batch together."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Mapping
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
    """Deliveries of one key: those of each tenant in arrival order, the tenants in turn.

    Attributes:
        in_flight: batches from this queue that are in flight.
    """

    in_flight: int = 0
    _tenants: dict[str, _TenantQueue] = field(default_factory=dict)  # in the order of their turns; none is empty

    def __len__(self) -> int:
        return sum(len(queue.entries) for queue in self._tenants.values())

    def __iter__(self) -> Iterator[QueuedDelivery]:
        return itertools.chain.from_iterable(queue.entries for queue in self._tenants.values())

    @property
    def is_idle(self) -> bool:
        """Returns whether nothing waits and no batch is in flight."""
        return not self._tenants and not self.in_flight

    def ready(self, is_ready: Callable[[str], bool]) -> ReadyDeliveries | None:
        """Returns what waits in the queue of the tenants that are ready; None if nothing does."""
        queues = [queue for tenant, queue in self._tenants.items() if is_ready(tenant)]
        if not queues:
            return None
        return ReadyDeliveries(
            sum(len(queue.entries) for queue in queues),
            sum(queue.size_bytes for queue in queues),
            min(queue.entries[0].since_s for queue in queues),
        )

    def counts(self) -> Mapping[str, int]:
        """Returns the number of deliveries of each tenant."""
        return {tenant: len(queue.entries) for tenant, queue in self._tenants.items()}

    def oldest_s(self) -> Mapping[str, float]:
        """Returns the time since which the first delivery of each tenant waits."""
        return {tenant: queue.entries[0].since_s for tenant, queue in self._tenants.items()}

    def append(self, entry: QueuedDelivery) -> None:
        """Adds a delivery behind all others of its tenant."""
        queue = self._tenants.setdefault(entry.delivery.tenant, _TenantQueue())
        queue.size_bytes += entry.delivery.record.size_bytes
        queue.entries.append(entry)

    def append_left(self, entry: QueuedDelivery) -> None:
        """Adds a delivery before all others of its tenant."""
        queue = self._tenants.setdefault(entry.delivery.tenant, _TenantQueue())
        queue.size_bytes += entry.delivery.record.size_bytes
        queue.entries.appendleft(entry)

    def take_in_turn(
        self, is_ready: Callable[[str], bool], fits: Callable[[QueuedDelivery], bool]
    ) -> Iterator[QueuedDelivery]:
        """Takes the oldest delivery of each ready tenant in turn, until one does not fit or no tenant is ready.

        The next turn of a tenant comes after those of all others. `is_ready` is called one time for
        a tenant that waits, however many deliveries are taken.
        """
        turns = deque(filter(is_ready, self._tenants))
        while turns:
            tenant = turns.popleft()
            if not is_ready(tenant):
                continue
            queue = self._tenants[tenant]
            entry = queue.entries[0]
            if not fits(entry):
                return
            queue.entries.popleft()
            queue.size_bytes -= entry.delivery.record.size_bytes
            del self._tenants[tenant]
            if queue.entries:
                self._tenants[tenant] = queue
                turns.append(tenant)
            yield entry

    def remove(self, matches: Callable[[QueuedDelivery], bool]) -> list[QueuedDelivery]:
        """Removes the deliveries that match and returns them, those of each tenant in their order."""
        removed: list[QueuedDelivery] = []
        for tenant, queue in list(self._tenants.items()):
            removed += queue.remove(matches)
            if not queue.entries:
                del self._tenants[tenant]
        return removed


class ReadyDeliveries(NamedTuple):
    """The number and size of deliveries that may go, and the time since which the oldest waits."""

    events: int
    size_bytes: int
    since_s: float


@dataclass(slots=True)
class _TenantQueue:
    """The deliveries of one tenant, oldest first, and the size of their records."""

    entries: deque[QueuedDelivery] = field(default_factory=deque)
    size_bytes: int = 0

    def remove(self, matches: Callable[[QueuedDelivery], bool]) -> list[QueuedDelivery]:
        removed = [entry for entry in self.entries if matches(entry)]
        if removed:
            self.entries = deque(entry for entry in self.entries if not matches(entry))
            self.size_bytes -= sum(entry.delivery.record.size_bytes for entry in removed)
        return removed
