"""Follows why changes cannot be read by the evaluator of watches, and when to read them again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from penstock.broker.base import Partition, PollResult

logger = logging.getLogger(__name__)

_RETRY_S = 30.0


class DeniedChanges:
    """The partitions that stopped before what cannot or may not be read.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._reason = ""
        self._stopped: dict[Partition, tuple[int, float]] = {}  # the offset to read again, and when

    def follow(self, polled: PollResult) -> Sequence[tuple[Partition, int]]:
        """Logs once why changes are not read, and returns the partitions to read again now, from these offsets."""
        now_s = self._clock()
        for stop in polled.unreadable:
            self._stopped[stop.partition] = (stop.first, now_s + _RETRY_S)
        reasons = [polled.refusal, *map(str, polled.unreadable), *polled.denied.values()]
        reason = next(filter(None, reasons), "")
        if reason and reason != self._reason:
            logger.warning("watches are not evaluated: %s", reason)
        if reason or not self._stopped:
            self._reason = reason
        due = [(partition, first) for partition, (first, retry_at_s) in self._stopped.items() if now_s >= retry_at_s]
        for partition, _ in due:
            del self._stopped[partition]
        return due
