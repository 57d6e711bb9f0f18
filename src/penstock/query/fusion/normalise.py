"""Normalisation: brings the scores of one channel to a scale on which several channels can be added.

    min-max           (s - min) / (max - min) of this question: the best is 1, the last 0
    theoretical-min   (s - lowest possible) / (max - lowest possible), as in TM2C2 (Bruch, Gai and Ingber, 2023)
    z-score           (s - mean) / deviation of this question
    robust            (s - median) / interquartile range of this question
    z-by-channel      (s - mean) / deviation of the channel's earlier questions (`query.fusion.statistics`)
    log-odds          logit P(right | s), from a calibration (`query.fusion.calibration`)
    none              s

The first four see one question only: the best entry of each channel gets nearly the same value, whether it answers the
question or not. The next two keep how good a question's best entry is, so that they can compare collections.

All functions are pure, keep order, and take any number of scores: of constant scores, each value is 1 on a scale from 0
to 1, and 0 on a scale of deviations; of no scores there are no values.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from penstock.records import Channel, Field

Float64: TypeAlias = NDArray[np.float64]

# Cosine similarities that differ by less are the same up to the rounding of float32.
_LEAST_SPREAD = 1e-9


def min_max(scores: Float64) -> Float64:
    """Returns float64[n] from 0 (the lowest) to 1 (the highest); 1 if the scores are constant."""
    return theoretical_min(scores, float(scores.min())) if scores.size else scores


def theoretical_min(scores: Float64, lowest: float) -> Float64:
    """Returns float64[n] from 0 (the lowest possible score) to 1 (the highest returned one); 1 if these are the same.

    Args:
        scores: of one question, float64[n].
        lowest: the lowest score that the channel can give, see `lowest_score`.
    """
    if not scores.size:
        return scores
    spread = float(scores.max()) - lowest
    return (scores - lowest) / spread if spread > _LEAST_SPREAD else np.ones_like(scores)


def z_score(scores: Float64) -> Float64:
    """Returns float64[n], the deviations from the mean of these scores; 0 if they are constant."""
    return standardise(scores, float(scores.mean()), float(scores.std())) if scores.size else scores


def robust(scores: Float64) -> Float64:
    """Returns float64[n], the distances from the median in interquartile ranges; 0 if the scores are constant.

    Where the middle half of the scores is constant and the rest is not, the range is that of all scores.
    """
    if not scores.size:
        return scores
    low, middle, high = np.percentile(scores, (25.0, 50.0, 75.0))
    spread = float(high - low)
    return standardise(scores, float(middle), spread if spread > _LEAST_SPREAD else float(np.ptp(scores)))


def standardise(scores: Float64, mean: float, deviation: float) -> Float64:
    """Returns float64[n]: (score - mean) / deviation; 0 if the deviation is 0."""
    return (scores - mean) / deviation if deviation > _LEAST_SPREAD else np.zeros_like(scores)


def lowest_score(channel: Channel) -> float:
    """Returns the lowest score that a channel can give: 0 by BM25, -1 as a cosine similarity."""
    return 0.0 if channel.field is Field.LEXICAL else -1.0
