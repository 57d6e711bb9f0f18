"""The types that lane and pipeline share: one delivered record, and a batch of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from penstock.broker.base import Partition
from penstock.observability import tracing
from penstock.observability.tracing import NO_SPAN, OpenSpan
from penstock.records import Assignment, Event, Record, Rejected


def tenant_of(parsed: Event | Rejected) -> str:
    """Returns the owner of a parsed record; empty where it has no event."""
    return parsed.asset.tenant if isinstance(parsed, Event) else ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivered record with the event that it was parsed to, and the assignment under which it arrived.

    The lane keeps the record until its event has an outcome, so that a batch can be processed again from its records.

    Attributes:
        record: the record as Kafka delivered it.
        assignment: the assignment of its partition at that time.
        parsed: the event, or why the record has none.
        span: of the event in its trace, until it has an outcome.
        asset_id: the event's asset; None for a record that has no event: it belongs to no asset and waits for none.
            Calculated once, as each turn reads it of thousands of queued deliveries.
        tenant: the owner of the event; empty for a record that has no event.
    """

    record: Record
    assignment: Assignment
    parsed: Event | Rejected
    span: OpenSpan = field(default=NO_SPAN, compare=False, repr=False)
    asset_id: str | None = field(init=False)
    tenant: str = field(init=False)

    def __post_init__(self) -> None:
        asset_id = self.parsed.asset.id if isinstance(self.parsed, Event) else None
        object.__setattr__(self, "asset_id", asset_id)
        object.__setattr__(self, "tenant", tenant_of(self.parsed))

    @classmethod
    def receive(cls, record: Record, assignment: Assignment, parsed: Event | Rejected) -> Delivery:
        """Returns the delivery of a record that has just arrived, and begins the span of its event."""
        traceparent = parsed.traceparent if isinstance(parsed, Event) else ""
        span = tracing.current().receive(record, traceparent)
        if isinstance(parsed, Event) and span.traceparent != traceparent:
            parsed = replace(parsed, traceparent=span.traceparent)
        return cls(record, assignment, parsed, span)

    @property
    def event(self) -> Event:
        """Returns the event of a delivery that was parsed to one."""
        assert isinstance(self.parsed, Event)
        return self.parsed

    @property
    def partition(self) -> Partition:
        """Returns the partition that delivered the record."""
        return Partition(self.assignment.topic, self.assignment.partition)

    @property
    def is_replay(self) -> bool:
        """Returns whether the record is a replay: its event was first produced at another position."""
        return isinstance(self.parsed, Event) and self.parsed.origin != self.parsed.position


@dataclass(frozen=True, slots=True)
class Batch:
    """Deliveries of one topic that go through the steps together, those of each tenant in the order of their arrival.

    Attributes:
        number: rises with every batch of a lane.
        topic: the topic of all deliveries.
        deliveries: at least one.
        is_continuation: whether it is the next segment of one event whose earlier segments are written.
    """

    number: int
    topic: str
    deliveries: tuple[Delivery, ...]
    is_continuation: bool = False

    @property
    def size_bytes(self) -> int:
        """Returns the size of all keys, values and headers."""
        return sum(delivery.record.size_bytes for delivery in self.deliveries)

    @property
    def accounted_bytes(self) -> int:
        """Returns the memory that the batch counts against the limit of bytes in flight."""
        return sum(delivery.record.accounted_bytes for delivery in self.deliveries)
