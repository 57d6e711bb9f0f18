"""Commits the offsets of a lane: the last of the seven steps."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from penstock.broker.base import CommitDeniedError, Consumer, Partition
from penstock.errors import FencedError, UnavailableError
from penstock.ingest.lane.offsets import OffsetLedger
from penstock.ingest.lane.stats import LaneStats
from penstock.observability import tracing
from penstock.records import Position

logger = logging.getLogger(__name__)

COMMIT_TIMEOUT_S = 5.0


class OffsetCommitter:
    """Commits what a lane's ledger allows, once an interval.

    Args:
        lane: name, for logs.
        consumer: the lane's group member.
        offsets: the lane's ledger.
        stats: counts the commits.
        interval_s: between two commits.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        lane: str,
        consumer: Consumer,
        offsets: OffsetLedger,
        stats: LaneStats,
        *,
        interval_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._lane = lane
        self._consumer = consumer
        self._offsets = offsets
        self._stats = stats
        self._interval_s = interval_s
        self._clock = clock
        self._next_s = 0.0
        self._denial = ""

    def is_due(self) -> bool:
        """Returns whether the interval is over, and if so starts the next one."""
        now_s = self._clock()
        if now_s < self._next_s:
            return False
        self._next_s = now_s + self._interval_s
        return True

    def request(self) -> None:
        """Makes the next commit due immediately."""
        self._next_s = self._clock()

    def commit(self) -> bool:
        """Commits the offsets that moved, and returns whether nothing is left to commit.

        An offset may be committed only after this happened, in this order, to every delivered record below it:

        1. The store has acknowledged the entries and the asset row of its event, or that row shows a newer version, or
           the broker has acknowledged its dead letter (the pipeline, before it reports).
        2. The lane has read that report and found the partition still under the assignment of the delivery
           (`OffsetLedger.complete`).
        3. All lower offsets that were delivered are complete too (`OffsetLedger.offsets_to_commit`).

        Returns:
            False if the commit was not acknowledged, and the offsets have to be committed again. Those of topics for
            which this client may not commit do not count, since only a granted right can change that.
        """
        offsets = self._offsets.offsets_to_commit()  # 3
        if not offsets:
            return True
        try:
            with tracing.current().commit(lambda position: _is_below(position, offsets)):
                self._consumer.commit(offsets, COMMIT_TIMEOUT_S)
        except FencedError as exc:
            self._stats.record_commit("fenced")
            logger.warning("%s: commit refused, the group has rebalanced without this lane: %s", self._lane, exc)
        except CommitDeniedError as exc:
            self._offsets.mark_committed(exc.acknowledged)
            self._stats.record_commit("denied")
            self._log_denial(str(exc))
        except UnavailableError as exc:
            self._stats.record_commit("unanswered")
            logger.warning("%s: commit not acknowledged, it will be retried: %s", self._lane, exc)
            return False
        else:
            self._log_denial("")
            self._offsets.mark_committed(offsets)
            self._stats.record_commit("acknowledged")
        return True

    def _log_denial(self, denial: str) -> None:
        """Logs once that the offsets of a topic may not be committed."""
        if denial and denial != self._denial:
            logger.warning("%s: %s They are committed with the next commit that is allowed.", self._lane, denial)
        self._denial = denial


def _is_below(position: Position, offsets: Mapping[Partition, int]) -> bool:
    return position.offset < offsets.get(Partition(position.topic, position.partition), 0)
