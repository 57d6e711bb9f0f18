"""Decides the pace at which a new version is filled, so that live events are settled nearly as before.

The pace is doubled in steps while the oldest live event that is not settled is young enough, and halved when it is not:
additive steps would take minutes to reach the pace that an idle machine allows (AIMD with a multiplicative increase, as
in slow start). What a change does shows only after some seconds, so that there is a pause after each halving.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from penstock.broker.base import Partition, PartitionLag

# Live events are settled up to this much later than before.
MAX_SLOWDOWN = 2.0
# The age of the oldest event that is not settled is at least that of one commit interval and one measurement, at rest.
LEAST_ALLOWED_S = 1.5
FIRST_PER_S = 20.0
# A fill that stands still never ends, and a plane whose live events wait for an hour has another fault.
LEAST_PER_S = 0.5
_GROWTH = 1.25
_CUT = 0.5
_PAUSE_S = 6.0  # two measurements, after which a cut shows


class Throttle:
    """The pace of a fill, in events per second.

    Args:
        normal_s: age of the oldest live event that is not settled, before the fill began, seconds.
        max_per_s: the largest pace; None: there is none.
        clock: monotonic seconds.

    Attributes:
        pace: events per second now.
        allowed_s: the age up to which the pace grows.
    """

    def __init__(self, *, normal_s: float, max_per_s: float | None, clock: Callable[[], float]) -> None:
        self.allowed_s = max(MAX_SLOWDOWN * normal_s, LEAST_ALLOWED_S)
        self.pace = FIRST_PER_S if max_per_s is None else min(FIRST_PER_S, max_per_s)
        self._max_per_s = max_per_s
        self._clock = clock
        self._cut_s = -_PAUSE_S

    def adjust(self, age_s: float | None) -> float:
        """Takes a measurement, and returns the pace since.

        Args:
            age_s: of the oldest live event that is not settled; None: it is not known, and the pace stays.
        """
        now_s = self._clock()
        if age_s is None or now_s - self._cut_s < _PAUSE_S:
            return self.pace
        if age_s > self.allowed_s:
            self.pace = max(self.pace * _CUT, LEAST_PER_S)
            self._cut_s = now_s
        else:
            self.pace *= _GROWTH
        if self._max_per_s is not None:
            self.pace = min(self.pace, self._max_per_s)
        return self.pace


def oldest_age_s(
    lags: Sequence[PartitionLag],
    read_times: Callable[[Mapping[Partition, int]], Mapping[Partition, int]],
    *,
    now_s: float,
) -> float | None:
    """Returns the age of the oldest event that a group has not settled, seconds; 0 if it has settled all.

    None if there are some and none of them can be read.

    Args:
        lags: the progress of the group.
        read_times: returns the timestamps of the records at these offsets, milliseconds since the epoch.
        now_s: seconds since the epoch.
    """
    oldest = {lag.partition: max(lag.log_start, lag.committed or 0) for lag in lags if lag.lag}
    if not oldest:
        return 0.0
    times = read_times(oldest)
    return max(0.0, now_s - min(times.values()) / 1000) if times else None
