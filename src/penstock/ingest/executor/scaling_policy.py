"""How many workers a pool should have: a pure state machine, one a pool; the clock is handed in.

A pool grows while its workers are busy, calls wait behind them, and the lag does not go away by itself; it shrinks when
fewer would do for a longer time. Ray Serve and the autoscalers of Kubernetes (HPA, KEDA) do alike: a target for calls
under way, a sliding window, a delay for each direction that is longer downwards. The two marks lie so far apart that a
worker which was added is not taken away again under the same load.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean

# With batches of even length a call waits ρ/(2(1-ρ)) of its own time (M/D/1): 2.8 times at 0.85, 0.75 times at 0.6.
# The work for which a worker was added has to fall by 30 % (0.6 to 0.85) before that worker goes again.
SCALE_UP_UTILIZATION = 0.85  # busy share above which more workers are wanted
SCALE_DOWN_UTILIZATION = 0.6  # busy share below which the workers that remain must stay when one goes
# Calls that wait, on average; a further worker would have had work for at least half of the time.
SCALE_UP_QUEUE = 0.5
# A burst that is worked off within so long is over before a further worker has loaded its models and paid for it.
CATCH_UP_S = 30.0
# How long a pool that found no room for another worker does not ask again: an autoscaler needs minutes for a node.
SUSPEND_GROWTH_S = 300.0


@dataclass(frozen=True, slots=True)
class PoolSample:
    """How a pool fared since the sample before it.

    Attributes:
        size: workers it has.
        busy: share of the time in which they had a call under way, 0 to 1.
        waiting: calls that waited behind another one, on average.
        lag: records of the pool's topics that are not settled yet; None if it is not known.
        held: whether something other than the pools holds the events up, such as an absent store.
    """

    size: int
    utilization: float
    queued: float
    lag: int | None = None
    blocked: bool = False


@dataclass(frozen=True, slots=True)
class ScalingRules:
    """Between which sizes a pool moves, and for how long there must be reason to.

    Attributes:
        smallest, largest: workers.
        up_after_s: so long the pool has to be overloaded.
        down_after_s: so long fewer workers have to do.
    """

    min_workers: int
    max_workers: int
    up_after_s: float
    down_after_s: float


@dataclass(frozen=True, slots=True)
class ScalingDecision:
    """The size that a pool should have, and the reason in words where that is another one than it has."""

    size: int
    reason: str = ""


class ScalingPolicy:
    """Decides for one pool.

    Args:
        rules: see `Rules`.
        clock: monotonic seconds.
    """

    def __init__(self, rules: ScalingRules, clock: Callable[[], float]) -> None:
        self.rules = rules
        self._clock = clock
        self._window: deque[tuple[float, PoolSample]] = deque()  # of one size, the latest `up_after_s` of them
        self._low_since_s: float | None = None
        self._held_until_s = -math.inf

    def observe(self, sample: PoolSample) -> ScalingDecision:
        """Takes a sample, and says what size is wanted now. Call it about once a second while nothing is changing.

        Whoever is told another size than that of the sample changes it before the next call, or calls `hold`.
        """
        rules, now_s = self.rules, self._clock()
        if self._window and self._window[-1][1].size != sample.size:
            self.reset()
        self._window.append((now_s, sample))
        full = now_s - self._window[0][0] >= rules.up_after_s
        while len(self._window) > 1 and now_s - self._window[1][0] >= rules.up_after_s:
            self._window.popleft()
        if not rules.min_workers <= sample.size <= rules.max_workers:
            return ScalingDecision(
                min(max(sample.size, rules.min_workers), rules.max_workers), "it is outside its bounds"
            )
        return self._decide(sample.size, now_s) if full else ScalingDecision(sample.size)

    def suspend_growth(self) -> None:
        """A wanted worker found no room: none is asked for in the next `HOLD_S` seconds."""
        self._held_until_s = self._clock() + SUSPEND_GROWTH_S
        self.reset()

    def reset(self) -> None:
        """What was seen so far says nothing any more."""
        self._window.clear()
        self._low_since_s = None

    def _decide(self, size: int, now_s: float) -> ScalingDecision:
        busy = fmean(sample.utilization for _, sample in self._window)
        waiting = fmean(sample.queued for _, sample in self._window)
        if size < self.rules.max_workers and now_s >= self._held_until_s and self._overloaded(busy, waiting):
            # As many as calls wait for, at most twice as many as there are: HPA's default policy upwards.
            more = min(self.rules.max_workers - size, size, max(1, int(waiting)))
            return ScalingDecision(
                size + more, f"they are {busy:.0%} busy, {waiting:.1f} calls wait, lag is {self._lag}"
            )
        if size == self.rules.min_workers or not self._fewer_would_do(size, busy):
            self._low_since_s = None
            return ScalingDecision(size)
        self._low_since_s = now_s if self._low_since_s is None else self._low_since_s
        if now_s - self._low_since_s < self.rules.down_after_s:
            return ScalingDecision(size)
        return ScalingDecision(size - 1, f"they are {busy:.0%} busy, so that {size - 1} will do")

    def _overloaded(self, busy: float, waiting: float) -> bool:
        return busy >= SCALE_UP_UTILIZATION and waiting >= SCALE_UP_QUEUE and not self._catches_up()

    def _fewer_would_do(self, size: int, busy: float) -> bool:
        return busy * size / (size - 1) <= SCALE_DOWN_UTILIZATION and not any(
            sample.blocked for _, sample in self._window
        )

    def _catches_up(self) -> bool:
        """Whether the lag is gone within `CATCH_UP_S` if it goes on as in the window; not if it is unknown."""
        (first_s, first), (last_s, last) = self._window[0], self._window[-1]
        if first.lag is None or last.lag is None:
            return False
        fallen_per_s = (first.lag - last.lag) / max(last_s - first_s, 1e-9)
        return last.lag == 0 or (fallen_per_s > 0 and last.lag / fallen_per_s <= CATCH_UP_S)

    @property
    def _lag(self) -> str:
        lag = self._window[-1][1].lag
        return "unknown" if lag is None else f"{lag:,} records"
