"""The few statistics that a benchmark needs, each said plainly."""

from __future__ import annotations

import math
from collections.abc import Sequence


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that is not below `share` of the values (nearest rank); NaN of none."""
    if not values:
        return math.nan
    rank = math.ceil(share * len(values))
    return sorted(values)[max(0, rank - 1)]


def median(values: Sequence[float]) -> float:
    """The middle one, or the mean of the two in the middle; NaN of none."""
    if not values:
        return math.nan
    ordered, half = sorted(values), len(values) // 2
    return ordered[half] if len(values) % 2 else (ordered[half - 1] + ordered[half]) / 2


def growth(values: Sequence[tuple[int, float]], first: int, last: int) -> float:
    """By which share a quantity grew: the median of the last tenth of `first`…`last` over that of the first tenth.

    Args:
        values: (events so far, quantity), in order of the events.
        first, last: the stretch of events that counts. A tenth has one sample at least.
    """
    inside = [value for events, value in values if first <= events <= last]
    if len(inside) < 2:
        return math.nan
    tenth = max(1, len(inside) // 10)
    return median(inside[-tenth:]) / median(inside[:tenth]) - 1
