"""Keeps a watch that the store cannot search for from holding up the others."""

from __future__ import annotations

import logging
from collections.abc import Callable

from penstock.errors import PenstockError
from penstock.observability import metrics
from penstock.records import Watch

logger = logging.getLogger(__name__)

# As many as a new watch is waited for, see `prepared`.
_MAX_ROUNDS = 10
_RETRY_S = 30.0


class JudgingFailures:
    """Counts the failed searches for the words of watches, and gives a watch up for a while. For one thread.

    A failure means that all changes are read and compared again, as the store may be down. After some rounds it is the
    watch: the entries of a store that is down could not have been read either.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._rounds = 0
        self._skipped_until_s: dict[str, float] = {}

    def skips(self, watch: Watch) -> bool:
        """Returns whether the words of a watch are not searched for now."""
        return self._clock() < self._skipped_until_s.get(watch.id, 0.0)

    def fail(self, watch: Watch, error: PenstockError) -> None:
        """Counts a failure; returns if the watch is given up.

        Raises:
            PenstockError: the error itself, as the same changes are to be compared again.
        """
        if self._rounds < _MAX_ROUNDS:
            self._rounds += 1
            raise error
        self._skipped_until_s[watch.id] = self._clock() + _RETRY_S
        self._measure()
        logger.warning(
            "for %g s watch %s is compared by its vectors alone, as its words cannot be searched for: %s",
            _RETRY_S,
            watch.id,
            error,
        )

    def succeed(self) -> None:
        """Begins to count again: changes were compared with all watches."""
        self._rounds = 0
        now_s = self._clock()
        self._skipped_until_s = {id_: until_s for id_, until_s in self._skipped_until_s.items() if until_s > now_s}
        self._measure()

    def _measure(self) -> None:
        metrics.WATCHES.labels("without words").set(len(self._skipped_until_s))
