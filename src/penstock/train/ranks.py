"""Ranks documents for questions, exactly, with ties counted against the system."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from penstock.evaluate.judgements import Judgements
from penstock.evaluate.metrics import CUT
from penstock.records import Float32

Float64: TypeAlias = npt.NDArray[np.float64]

_DECIMALS = 6  # as in `evaluate.offline`
_BLOCK = 512


def first_ranks(questions: Float32, bank: Float32, judgements: Judgements) -> npt.NDArray[np.int64]:
    """Returns the rank of the best right document of each question, from 1: int64[questions].

    Documents that are not right and have the same score count as before it.

    Args:
        questions: float32[questions, dim], L2-normalised.
        bank: float32[documents, dim], L2-normalised.
        judgements: of the questions; each has a right document.
    """
    ranks = np.zeros(len(questions), dtype=np.int64)
    for start in range(0, len(questions), _BLOCK):
        scores = np.round(questions[start : start + _BLOCK] @ bank.T, _DECIMALS)
        of_block = judgements.take(np.arange(start, start + len(scores)))
        query_of_pair = of_block.query_of_pair
        best = np.maximum.reduceat(scores[query_of_pair, of_block.documents], of_block.offsets[:-1])
        at_least = (scores >= best[:, None]).sum(axis=1)
        right = scores[query_of_pair, of_block.documents] >= best[query_of_pair]
        ranks[start : start + len(scores)] = at_least - np.bincount(query_of_pair, right, len(scores)) + 1
    return ranks


def reciprocal_ranks(ranks: npt.NDArray[np.int64]) -> Float64:
    """Returns 1 / rank, and 0 beyond the tenth: what MRR@10 is the mean of."""
    return np.where(ranks <= CUT, 1.0 / ranks, 0.0)
