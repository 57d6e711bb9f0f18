"""Pauses and resumes partitions, so that a lane holds no more than it may. Polling never stops."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set

from penstock.broker.base import Consumer, Partition
from penstock.ingest.holds import Why
from penstock.ingest.lane.offsets import OffsetLedger

_RESUME_SHARE = 0.8  # of the limit, below which partitions that it paused are resumed


class FlowControl:
    """The backpressure of a lane.

    Args:
        consumer: the lane's group member.
        offsets: the lane's ledger.
        max_in_flight_bytes: at these bytes of queued and dispatched records all partitions are paused. Inline media
            count; fetched claim checks, pixels and vectors do not.
        admission_checks: each returns why nothing may be received at all (the disk is full), or an empty text.

    Attributes:
        refusals: the last results of the admission checks.
    """

    def __init__(
        self,
        consumer: Consumer,
        offsets: OffsetLedger,
        *,
        max_in_flight_bytes: int,
        admission_checks: Mapping[Why, Callable[[], str]],
    ) -> None:
        self._consumer = consumer
        self._offsets = offsets
        self._max_in_flight_bytes = max_in_flight_bytes
        self._admission_checks = admission_checks
        self._paused: set[Partition] = set()
        self._over_limit = False
        self.refusals: Mapping[Why, str] = {}

    @property
    def refusal(self) -> str:
        """Returns why nothing may be received at all; while it is not empty no batch is dispatched."""
        return next(filter(None, self.refusals.values()), "")

    @property
    def paused(self) -> Set[Partition]:
        """Returns the partitions that are paused."""
        return self._paused

    @property
    def reason(self) -> str:
        """Returns why partitions are paused that are not halted; empty if none is."""
        return self.refusal or self.over_budget

    @property
    def over_budget(self) -> str:
        """Returns which limit of bytes or offsets in flight pauses partitions; empty if none does."""
        if self._over_limit:
            return f"{self._max_in_flight_bytes} bytes are in flight, the limit (ingest.max_in_flight_bytes)"
        return "; ".join(
            f"{partition} has as many offsets as a lane can track behind one that is not settled"
            for partition in sorted(self._offsets.full_partitions(), key=str)
        )

    def check_admission(self) -> None:
        """Repeats the admission checks."""
        self.refusals = {why: check() for why, check in self._admission_checks.items()}

    def update(
        self,
        owned: Set[Partition],
        *,
        halted: Set[Partition],
        reading_back: Set[Partition],
        in_flight_bytes: int,
        stopping: bool,
    ) -> None:
        """Pauses and resumes what has changed.

        Args:
            owned: the partitions of the lane.
            halted: those of them, and perhaps others, that are halted.
            reading_back: those of them that are read again for deferred records, however many offsets they have.
            in_flight_bytes: the memory of queued and dispatched records.
            stopping: whether the lane receives nothing more.
        """
        threshold = self._max_in_flight_bytes * (_RESUME_SHARE if self._over_limit else 1.0)
        self._over_limit = in_flight_bytes >= threshold
        if self._over_limit or self.refusal or stopping:
            to_pause = set(owned)
        else:
            to_pause = {*(owned & halted), *(self._offsets.full_partitions() - reading_back)}
        self._consumer.pause(to_pause - self._paused)
        self._consumer.resume(self._paused - to_pause)
        self._paused = to_pause

    def forget(self, partition: Partition) -> None:
        """Forgets a partition that is no longer owned."""
        self._paused.discard(partition)
