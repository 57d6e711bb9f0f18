"""Measures probabilities: of 100 hits with a relevance of 0.8, 80 should be right.

    ECE      expected calibration error: the mean distance between stated and observed share over ten bins of equal
             width, each weighted by its size (Naeini, Cooper and Hauskrecht, 2015)
    Brier    the mean squared difference between probability and outcome (Brier, 1950)

The found curve is about questions rather than hits: of those whose answer is not in the index, how many count as
found at a floor; and of those whose answer is there, how many keep their answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Float64: TypeAlias = npt.NDArray[np.float64]
Bool: TypeAlias = npt.NDArray[np.bool_]

BINS = 10
FALSE_FOUND = (0.01, 0.05, 0.1, 0.2)


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """The outcomes whose probabilities lie in one range.

    Attributes:
        low, high: of the range; `high` belongs to the next one.
        count: of outcomes.
        stated: their mean probability; nan without any.
        observed: the share of them that are right; nan without any.
    """

    low: float
    high: float
    count: int
    stated: float
    observed: float


@dataclass(frozen=True, slots=True)
class FoundPoint:
    """One point of the found curve.

    Attributes:
        floor: hits with a lower relevance do not count.
        false_found: the share of questions without an answer in the index whose best hit reaches the floor.
        kept: the share of questions with an answer whose best hit reaches it.
    """

    floor: float
    false_found: float
    kept: float


def reliability_table(probabilities: Float64, right: Bool, *, bins: int = BINS) -> list[ReliabilityBin]:
    """Returns bins of equal width from 0 to 1; 1 belongs to the last.

    Args:
        probabilities: float64[n] in 0 to 1.
        right: bool[n].
        bins: number of bins.
    """
    places = np.clip((probabilities * bins).astype(np.int64), 0, bins - 1)
    counts = np.bincount(places, minlength=bins)
    with np.errstate(invalid="ignore"):
        stated = np.bincount(places, probabilities, minlength=bins) / counts
        observed = np.bincount(places, right.astype(np.float64), minlength=bins) / counts
    return [
        ReliabilityBin(row / bins, (row + 1) / bins, int(counts[row]), float(stated[row]), float(observed[row]))
        for row in range(bins)
    ]


def expected_calibration_error(probabilities: Float64, right: Bool, *, bins: int = BINS) -> float:
    """Returns the ECE; nan without outcomes. Arguments as `reliability_table`."""
    if not len(probabilities):
        return float("nan")
    table = reliability_table(probabilities, right, bins=bins)
    distances = [row.count * abs(row.stated - row.observed) for row in table if row.count]
    return sum(distances) / len(probabilities)


def brier_score(probabilities: Float64, right: Bool) -> float:
    """Returns the Brier score; nan without outcomes. Arguments as `reliability_table`."""
    return float(np.mean((probabilities - right) ** 2)) if len(probabilities) else float("nan")


def found_curve(
    answerable: Float64, unanswerable: Float64, *, false_found: Sequence[float] = FALSE_FOUND
) -> list[FoundPoint]:
    """Returns the lowest floor for each wanted share of false "found", and what it keeps.

    Args:
        answerable: float64[n], the best relevance of each question whose answer is in the index.
        unanswerable: float64[m], m ≥ 1, of each question whose answer is not.
        false_found: the shares that are allowed.
    """
    descending = -np.sort(-unanswerable)
    points = []
    for share in false_found:
        allowed = int(share * len(descending) + 1e-9)
        # Just above the best one that must not count: at equal relevance neither is found.
        floor = float(np.nextafter(descending[allowed], np.inf)) if allowed < len(descending) else 0.0
        points.append(FoundPoint(floor, float((unanswerable >= floor).mean()), float((answerable >= floor).mean())))
    return points


def separation(answerable: Float64, unanswerable: Float64) -> float:
    """Returns the probability that a question with an answer has the higher relevance (AUC); ties count half."""
    below = np.searchsorted(np.sort(unanswerable), answerable, side="left")
    not_above = np.searchsorted(np.sort(unanswerable), answerable, side="right")
    return float((below + not_above).mean() / (2 * len(unanswerable)))
