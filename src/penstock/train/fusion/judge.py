"""Judges scores of assets: MRR@10 of each question, ties counted against the system."""

from __future__ import annotations

import numpy as np

from penstock.evaluate.evaluation_set import IntArray
from penstock.evaluate.metrics import CUT, FloatArray
from penstock.records import Float32
from penstock.train.fusion.asset_tokens import AssetTokens


def reciprocal_ranks(data: AssetTokens, queries: IntArray, assets: IntArray, scores: Float32) -> FloatArray:
    """Returns 1 / rank of the right asset, 0 beyond the tenth and where it is no candidate: float64[queries].

    Args:
        data: the assets.
        queries: int64[n].
        assets: int64[n, m], candidates, -1 after the last.
        scores: float32[n, m].
    """
    real = assets >= 0
    is_right = real & (assets == data.right[queries][:, np.newaxis])
    rounded = np.where(real, np.round(scores.astype(np.float64), 6), -np.inf)
    of_right = np.where(is_right, rounded, -np.inf).max(axis=1)
    rank = ((rounded >= of_right[:, np.newaxis]) & ~is_right & real).sum(axis=1) + 1
    return np.where(is_right.any(axis=1) & (rank <= CUT), 1 / rank, 0.0)


def mean_mrr(data: AssetTokens, queries: IntArray, assets: IntArray, scores: Float32) -> float:
    """Returns MRR@10 of some questions."""
    return float(reciprocal_ranks(data, queries, assets, scores).mean())
