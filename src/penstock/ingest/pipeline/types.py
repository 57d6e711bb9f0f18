"""The results of a batch and of its deliveries, and the interface of the flows that process them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from penstock.ingest.delivery import Batch, Delivery
from penstock.records import Event, MediaPosition, Outcome, Rejected, WriteResult


class StoppedError(Exception):
    """The lane stopped while a batch waited for its next attempt; the batch is not settled."""


@dataclass(frozen=True, slots=True)
class SettledDelivery:
    """A delivery whose event has its outcome; `rejection` gives the reason of a dead letter."""

    delivery: Delivery
    outcome: Outcome
    rejection: Rejected | None = None


@dataclass(frozen=True, slots=True)
class FencedDelivery:
    """A delivery that another lane processes: it owns the partition now."""

    delivery: Delivery


@dataclass(frozen=True, slots=True)
class HaltedDelivery:
    """A delivery that can neither be indexed nor dead-lettered: its partition has to halt, for this reason."""

    delivery: Delivery
    reason: str


Settlement: TypeAlias = SettledDelivery | FencedDelivery | HaltedDelivery


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A delivery of timed media with more segments to come.

    Attributes:
        delivery: the delivery.
        at: the position up to which its media are indexed.
        older: deliveries of the same asset that wait for it, oldest first.
    """

    delivery: Delivery
    at: MediaPosition
    older: tuple[Delivery, ...] = ()


@dataclass(slots=True)
class BatchReport:
    """The result of a batch: one settlement or continuation a delivery, and the time of each step.

    Attributes:
        batch: the batch.
        io_bound_steps: steps that mostly wait, whatever the number of events.
        settlements: of all deliveries that do not wait for further segments.
        unfinished: deliveries with further segments, each with the older deliveries of its asset that wait for it.
        step_s: seconds that each step took over all attempts.
    """

    batch: Batch
    io_bound_steps: frozenset[str] = frozenset()
    settlements: list[Settlement] = field(default_factory=list)
    unfinished: list[Unfinished] = field(default_factory=list)
    step_s: dict[str, float] = field(default_factory=dict)

    def add_step_time(self, step: str, seconds: float) -> None:
        """Adds the time of one call to its step."""
        self.step_s[step] = self.step_s.get(step, 0.0) + seconds

    @property
    def slowest_s(self) -> float:
        """Returns the seconds of the slowest step, without I/O-bound steps: a smaller batch would wait as long."""
        return max((seconds for step, seconds in self.step_s.items() if step not in self.io_bound_steps), default=0.0)


class Flow(Protocol):
    """Steps 2 to 5 for the modalities that share a way of processing."""

    def attempt(self, deliveries: Sequence[Delivery], report: BatchReport, *, is_first: bool) -> list[WriteResult]:
        """Takes one event an asset through the steps, once.

        Args:
            deliveries: of one topic, at least one.
            report: of their batch; receives the time of the steps.
            is_first: whether no attempt at these deliveries precedes.

        Raises:
            PenstockError: a step failed; nothing is lost by another attempt.
        """

    def probe(self, event: Event, like: Delivery, report: BatchReport) -> None:
        """Takes a known-good event through steps 2 to 4, on the workers that `like` would use.

        Raises:
            PenstockError: a step failed.
        """
