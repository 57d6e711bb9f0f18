"""The records between the lane and the pipeline: one delivery, and a batch of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from penstock.broker.base import Partition
from penstock.records import Assignment, Event, Record, Rejected


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivered record on its way: what it was parsed to, and under which assignment it came.

    The lane keeps the record until it is settled, so that a batch can begin again from it.

    `asset_id` is None for a record that could not be understood: it belongs to no asset and waits for none. It is asked
    for at every turn, among thousands that wait, and so reckoned once.
    """

    record: Record
    assignment: Assignment
    parsed: Event | Rejected
    asset_id: str | None = field(init=False)

    def __post_init__(self) -> None:
        asset_id = self.parsed.asset.id if isinstance(self.parsed, Event) else None
        object.__setattr__(self, "asset_id", asset_id)

    @property
    def partition(self) -> Partition:
        return Partition(self.assignment.topic, self.assignment.partition)

    @property
    def is_replay(self) -> bool:
        """Whether it is a dead letter sent again: its event first was somewhere else."""
        return isinstance(self.parsed, Event) and self.parsed.origin != self.parsed.position


@dataclass(frozen=True, slots=True)
class Batch:
    """Items of one topic that go down the steps together, in the order in which they were delivered.

    `long`: of media that were not finished in a batch before; the next slice of one of them.
    """

    number: int
    topic: str
    deliveries: tuple[Delivery, ...]
    is_continuation: bool = False

    @property
    def size_bytes(self) -> int:
        return sum(item.record.size_bytes for item in self.deliveries)

    @property
    def accounted_bytes(self) -> int:
        return sum(item.record.accounted_bytes for item in self.deliveries)
