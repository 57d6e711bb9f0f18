"""Decides the number of workers of a pool: a pure state machine, one a pool; the clock is injected.

A pool grows while its workers are busy, calls queue behind them, and the lag does not shrink by itself. It shrinks when
fewer workers have sufficed for a longer time. Ray Serve and the autoscalers of Kubernetes (HPA, KEDA) do the same: a
target for calls under way, a sliding window, a delay for each direction that is longer downwards. The two thresholds
lie so far apart that a worker that was added is not removed again under the same load.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean

# With batches of even length a call waits ρ/(2(1-ρ)) of its own time (M/D/1): 2.8 times at 0.85, 0.75 times at 0.6.
# The work for which a worker was added has to fall by 30 % (0.6 to 0.85) before that worker is removed again.
SCALE_UP_UTILIZATION = 0.85  # above it the pool needs more workers
SCALE_DOWN_UTILIZATION = 0.6  # the remaining workers must stay below it when one is removed
# Mean number of queued calls; a further worker would have had work for at least half of the time.
SCALE_UP_QUEUE = 0.5
# A burst that is processed within this time is over before a further worker has loaded its models and paid for it.
CATCH_UP_S = 30.0
# A pool that had no room for another worker does not try again for this long: an autoscaler needs minutes for a node.
SUSPEND_GROWTH_S = 300.0


@dataclass(frozen=True, slots=True)
class PoolSample:
    """The load of a pool since the sample before it.

    Attributes:
        size: workers it has.
        utilization: share of the time in which they had a call under way, 0 to 1.
        queued: mean number of calls that waited behind another one.
        lag: records of the pool's topics that are not settled yet; None if it is not known.
        blocked: whether something other than the pools holds the events back, such as an unavailable store.
    """

    size: int
    utilization: float
    queued: float
    lag: int | None = None
    blocked: bool = False


@dataclass(frozen=True, slots=True)
class ScalingRules:
    """The sizes between which a pool moves, and the time for which there must be a reason.

    Attributes:
        min_workers, max_workers: the bounds.
        up_after_s: seconds for which the pool has to be overloaded before it grows.
        down_after_s: seconds for which fewer workers have to suffice before it shrinks.
    """

    min_workers: int
    max_workers: int
    up_after_s: float
    down_after_s: float


@dataclass(frozen=True, slots=True)
class ScalingDecision:
    """The size that a pool should have, and the reason in words if that differs from the present size."""

    size: int
    reason: str = ""


class ScalingPolicy:
    """Decides for one pool.

    Args:
        rules: see `ScalingRules`.
        clock: monotonic seconds.
    """

    def __init__(self, rules: ScalingRules, clock: Callable[[], float]) -> None:
        self.rules = rules
        self._clock = clock
        self._window: deque[tuple[float, PoolSample]] = deque()  # of one size, the latest `up_after_s` of them
        self._low_since_s: float | None = None
        self._suspended_until_s = -math.inf

    def observe(self, sample: PoolSample) -> ScalingDecision:
        """Takes a sample and returns the size that is needed now.

        Call it about once a second while the pool's size does not change. After a decision for another size than the
        sample's, change the size before the next call, or call `suspend_growth`.
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
                min(max(sample.size, rules.min_workers), rules.max_workers), "the size is outside its bounds"
            )
        return self._decide(sample.size, now_s) if full else ScalingDecision(sample.size)

    def suspend_growth(self) -> None:
        """Stops growth for `SUSPEND_GROWTH_S` seconds, after a worker could not be added."""
        self._suspended_until_s = self._clock() + SUSPEND_GROWTH_S
        self.reset()

    def reset(self) -> None:
        """Forgets the samples so far, which do not describe the present pool."""
        self._window.clear()
        self._low_since_s = None

    def _decide(self, size: int, now_s: float) -> ScalingDecision:
        utilization = fmean(sample.utilization for _, sample in self._window)
        queued = fmean(sample.queued for _, sample in self._window)
        can_grow = size < self.rules.max_workers and now_s >= self._suspended_until_s
        if can_grow and self._is_overloaded(utilization, queued):
            # As many as calls are queued, at most twice the present number: HPA's default policy upwards.
            more = min(self.rules.max_workers - size, size, max(1, int(queued)))
            reason = f"utilization is {utilization:.0%}, {queued:.1f} calls are queued, lag is {self._lag}"
            return ScalingDecision(size + more, reason)
        if size == self.rules.min_workers or not self._would_fewer_suffice(size, utilization):
            self._low_since_s = None
            return ScalingDecision(size)
        self._low_since_s = now_s if self._low_since_s is None else self._low_since_s
        if now_s - self._low_since_s < self.rules.down_after_s:
            return ScalingDecision(size)
        return ScalingDecision(size - 1, f"utilization is {utilization:.0%}, {size - 1} suffice")

    def _is_overloaded(self, utilization: float, queued: float) -> bool:
        return utilization >= SCALE_UP_UTILIZATION and queued >= SCALE_UP_QUEUE and not self._catches_up()

    def _would_fewer_suffice(self, size: int, utilization: float) -> bool:
        blocked = any(sample.blocked for _, sample in self._window)
        return utilization * size / (size - 1) <= SCALE_DOWN_UTILIZATION and not blocked

    def _catches_up(self) -> bool:
        """Returns whether the lag ends within `CATCH_UP_S` at the window's rate; not if it is unknown."""
        (first_s, first), (last_s, last) = self._window[0], self._window[-1]
        if first.lag is None or last.lag is None:
            return False
        rate_per_s = (first.lag - last.lag) / max(last_s - first_s, 1e-9)
        return last.lag == 0 or (rate_per_s > 0 and last.lag / rate_per_s <= CATCH_UP_S)

    @property
    def _lag(self) -> str:
        lag = self._window[-1][1].lag
        return "unknown" if lag is None else f"{lag:,} records"
