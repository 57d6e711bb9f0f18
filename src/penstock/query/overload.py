"""Leaves out steps of searches while a replica is overloaded, rather than answers.

    1 rewriting        2 reranking        3 deeper searches        4 the channels that weigh least

A higher load leaves out further steps, in this order. The load of a replica is the larger of two shares: of the queue
of the store that is taken, and of `query.max_lag_ms` that one turn of the event loop takes, the median of the last five
searches. The queue shows a slow store, and the loop too many searches for its one thread. Searches that a full queue
has no place for are refused (429).

Each step has a load from which it is left out, and half of that below which it is back. The load has to stay there for
`HOLD_S`, and one step comes back at a time: what is left out lowers the load, which must not bring it back immediately.
"""

from __future__ import annotations

import asyncio
import statistics
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum

from penstock.observability import metrics
from penstock.query.fusion.base import channel_order
from penstock.query.routing.router import Routing
from penstock.query.trace import Trace
from penstock.query.types import ChannelQuery, SearchPlan

# By step: far enough apart that each step left out has a chance to lower it before the next.
_BEGINS = (0.2, 0.4, 0.6, 0.8)
# A step is back below this share of the load from which it is left out.
_BACK_SHARE = 0.5
# One turn alone may be long because the process was not running.
_TURNS = 5
# Ten times the time of a usual search on a busy replica.
HOLD_S = 2.0

SHED_CHANNEL = "left out, as the replica is overloaded"


class SheddableStep(IntEnum):
    """Numbers the steps in the order in which they are left out."""

    REWRITE = 1
    RERANK = 2
    DEEPER = 3
    CHANNELS = 4


_NOUNS = {
    SheddableStep.REWRITE: "Rewriting the question",
    SheddableStep.RERANK: "Reranking",
    SheddableStep.DEEPER: "The search for more entries",
    SheddableStep.CHANNELS: "Searching the channels that weigh least",
}


@dataclass(frozen=True, slots=True)
class Shedding:
    """Decides for one search which steps are left out.

    Attributes:
        level: the number of the last step that is; 0: none.
    """

    level: int = 0

    def sheds(self, step: SheddableStep, trace: Trace) -> bool:
        """Returns whether a step, which would otherwise run now, is left out; then the trace has the reason."""
        if self.level < step:
            return False
        trace.add_shed(step.name.lower(), f"{_NOUNS[step]} was left out, as this replica is overloaded.")
        metrics.QUERY_SHED.labels(step.name.lower()).inc()
        return True


NOTHING_SHED = Shedding()


class ReplicaLoad:
    """Measures the load of a replica, and decides how much is left out. Belongs to one event loop.

    Args:
        queue_share: the taken share of the queue of the store, 0 to 1.
        max_lag_s: time of one turn of the event loop that counts as full load; 0: it is not measured.
        clock: seconds, monotonic.
    """

    def __init__(self, queue_share: Callable[[], float], *, max_lag_s: float, clock: Callable[[], float]) -> None:
        self._queue_share = queue_share
        self._max_lag_s = max_lag_s
        self._clock = clock
        self._lags_s = deque([0.0] * _TURNS, maxlen=_TURNS)
        self._level = 0
        self._calm_since_s: float | None = None

    async def measure(self) -> Shedding:
        """Returns what a search that begins now leaves out. Takes one turn of the event loop."""
        lag_share = 0.0
        if self._max_lag_s > 0:
            began_s = self._clock()
            await asyncio.sleep(0)  # what was ready before this comes first: its time is the lag
            self._lags_s.append(self._clock() - began_s)
            lag_share = statistics.median(self._lags_s) / self._max_lag_s
        return self.note(max(self._queue_share(), lag_share))

    def note(self, load: float) -> Shedding:
        """Counts a measurement of the load, and returns what is left out after it."""
        reached = sum(load >= begins for begins in _BEGINS)
        if reached >= self._level:
            self._level, self._calm_since_s = reached, None
        elif load >= _BEGINS[self._level - 1] * _BACK_SHARE:
            self._calm_since_s = None
        elif self._calm_since_s is None:
            self._calm_since_s = self._clock()
        elif self._clock() - self._calm_since_s >= HOLD_S:
            self._level, self._calm_since_s = self._level - 1, self._clock()
        return Shedding(self._level)


def without_light_channels(plan: SearchPlan, routing: Routing, shedding: Shedding, trace: Trace) -> SearchPlan:
    """Returns the plan without the lighter half of its channels, if the load demands it.

    The best field of each collection stays before further fields of equal weight do.

    Args:
        plan: the channels of a search.
        routing: their weights.
        shedding: of the search.
        trace: takes the channels that are left out, which makes the answer partial.
    """
    if len(plan.queries) < 2 or not shedding.sheds(SheddableStep.CHANNELS, trace):
        return plan
    ordered = sorted(plan.queries, key=lambda query: _lightness(query, routing))
    kept = set(ordered[: (len(ordered) + 1) // 2])
    shed = [query.channel for query in plan.queries if query not in kept]
    trace.add_failed(dict.fromkeys(shed, SHED_CHANNEL))
    return replace(plan, queries=tuple(query for query in plan.queries if query in kept))


def _lightness(query: ChannelQuery, routing: Routing) -> tuple[float, int, str]:
    collection, place = channel_order(query.channel)
    return -routing.weight(query.channel), place, collection
