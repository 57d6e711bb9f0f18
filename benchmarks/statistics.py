"""The statistics of benchmarks: quantiles, medians and growth."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import numpy as np


def quantile(values: Sequence[float], share: float) -> float:
    """Returns the smallest measured value that at least `share` of the values do not exceed; NaN without values."""
    return float(np.quantile(values, share, method="inverted_cdf")) if values else math.nan


def median(values: Sequence[float]) -> float:
    """Returns the middle value, or the mean of the two in the middle; NaN without values."""
    return statistics.median(values) if values else math.nan


def growth(values: Sequence[tuple[int, float]], first: int, last: int) -> float:
    """Returns the relative growth of a quantity: the median of the last tenth against that of the first tenth.

    Args:
        values: (events so far, quantity), in order of the events.
        first, last: the range of events that counts. A tenth has at least one sample.
    """
    inside = [value for events, value in values if first <= events <= last]
    if len(inside) < 2:
        return math.nan
    tenth = max(1, len(inside) // 10)
    return median(inside[-tenth:]) / median(inside[:tenth]) - 1
