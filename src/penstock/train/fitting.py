"""Fits maps from scores to log-odds: logistic ones for few labels, isotonic ones for many.

    logistic    logit P(right | s) = slope · s + intercept, by maximum likelihood (Platt, 1999)
    isotonic    the increasing step function that fits best (Zadrozny and Elkan, 2002), interpolated between its steps

Platt's targets, one pseudo-hit among the hits and one pseudo-miss among the misses, keep both finite: a channel that
never finds anything gets low odds for all of its scores, and one that is always right does not get infinite ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from penstock.query.fusion.calibration import IsotonicMap, LogisticMap

Float64: TypeAlias = npt.NDArray[np.float64]
Bool: TypeAlias = npt.NDArray[np.bool_]

# Of standardised features: enough to keep separable data finite, too little to be seen in anything else.
_RIDGE = 1e-4
_MAX_STEPS = 100
# Largest change of a coefficient in one step: full steps diverge where nearly all labels are equal.
_MAX_CHANGE = 4.0
# Log-odds that one deviation of the scores adds at least. A channel whose scores say nothing, or the opposite, keeps
# its own order, and its entries differ little.
_LEAST_GAIN = 1e-3
# Nothing is certain: separable labels have log-odds of at most 14.
_LEAST_PROBABILITY = 1e-6
# Labels of the logistic map that each step of an isotonic one starts with: steps without a hit stay finite.
_PRIOR_LABELS = 4.0
_LEAST_RISE = 1e-6


def fit_logistic_map(scores: Float64, right: Bool) -> LogisticMap:
    """Fits the logistic map of a channel to Platt's targets.

    Args:
        scores: float64[n], n ≥ 1, of all entries that the channel returned.
        right: bool[n], whether each entry is right.
    """
    hits = int(right.sum())
    targets = np.where(right, (hits + 1) / (hits + 2), 1 / (len(right) - hits + 2))
    deviation = float(scores.std())
    if deviation > 0:
        weights, intercept = fit_logistic(scores[:, np.newaxis], targets)
        if weights[0] * deviation >= _LEAST_GAIN:
            return LogisticMap(float(weights[0]), intercept)
    slope = _LEAST_GAIN / (deviation or 1.0)
    return LogisticMap(slope, float(logit((hits + 1) / (len(right) + 2))) - slope * float(scores.mean()))


def fit_isotonic_map(scores: Float64, right: Bool) -> IsotonicMap:
    """Fits the isotonic map of a channel. It continues beyond its knots with the slope of the logistic map.

    Args:
        scores: float64[n], n ≥ 1.
        right: bool[n].
    """
    logistic = fit_logistic_map(scores, right)
    levels, places = np.unique(scores, return_inverse=True)
    counts = np.bincount(places).astype(np.float64)
    hits = np.bincount(places, right.astype(np.float64))
    blocks = pool_adjacent(hits / counts, counts)
    sizes = np.add.reduceat(counts, blocks)
    centres = np.add.reduceat(levels * counts, blocks) / sizes
    prior = _PRIOR_LABELS * sigmoid(logistic.log_odds(centres))
    values = logit((np.add.reduceat(hits, blocks) + prior) / (sizes + _PRIOR_LABELS))
    knots = [0]
    for place in range(1, len(centres)):
        if values[place] > values[knots[-1]] + _LEAST_RISE and centres[place] > centres[knots[-1]]:
            knots.append(place)
    return IsotonicMap(tuple(centres[knots].tolist()), tuple(values[knots].tolist()), logistic.slope)


def fit_logistic(features: Float64, right: Bool | Float64, weights: Float64 | None = None) -> tuple[Float64, float]:
    """Returns the coefficients, float64[k], and the intercept of a logistic regression, by Newton's method.

    Args:
        features: float64[n, k].
        right: bool[n], or float64[n] with the probabilities to be met.
        weights: float64[n], how much each row counts; None: all the same.
    """
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    scale = np.where(deviation > 0, deviation, 1.0)
    design = np.column_stack([(features - mean) / scale, np.ones(len(features))])
    count = np.ones(len(features)) if weights is None else weights
    ridge = np.full(design.shape[1], _RIDGE * float(count.sum()))
    ridge[-1] = 0.0
    coefficients = np.zeros(design.shape[1])
    for _ in range(_MAX_STEPS):
        probability = sigmoid(design @ coefficients)
        gradient = design.T @ (count * (probability - right)) + ridge * coefficients
        curvature = (design * (count * probability * (1 - probability))[:, np.newaxis]).T @ design
        step = np.linalg.solve(curvature + np.diag(ridge + 1e-12), gradient)
        largest = float(np.abs(step).max())
        coefficients -= step * min(1.0, _MAX_CHANGE / max(largest, 1e-12))
        if largest < 1e-10:
            break
    slopes = coefficients[:-1] / scale
    return slopes, float(coefficients[-1] - slopes @ mean)


def pool_adjacent(values: Float64, weights: Float64) -> Sequence[int]:
    """Returns where the blocks of the best increasing step function begin (pool adjacent violators).

    Args:
        values: float64[n], in the order in which they should increase.
        weights: float64[n], above 0.
    """
    starts: list[int] = []
    means: list[float] = []
    sizes: list[float] = []
    for place, (value, weight) in enumerate(zip(values.tolist(), weights.tolist(), strict=True)):
        start, mean, size = place, value, weight
        while means and means[-1] >= mean:
            before = sizes.pop()
            mean = (means.pop() * before + mean * size) / (before + size)
            size += before
            start = starts.pop()
        starts.append(start)
        means.append(mean)
        sizes.append(size)
    return starts


def sigmoid(log_odds: Float64) -> Float64:
    """Returns probabilities, float64 of the same shape."""
    return np.asarray(1 / (1 + np.exp(-np.clip(log_odds, -500, 500))))


def logit(probability: Float64 | float) -> Float64:
    """Returns log-odds of probabilities, finite for those of 0 and 1 too."""
    bounded = np.clip(probability, _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
    return np.asarray(np.log(bounded / (1 - bounded)))
