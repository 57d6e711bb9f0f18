"""Computes hit@k, recall@k, MRR@10 and nDCG@10 for each query, with ties counted against the system.

    hit@k      1 if any relevant document is among the first k
    recall@k   the share of the relevant documents that are among the first k
    MRR@10     1 / rank of the first relevant document; 0 beyond the tenth
    nDCG@10    Σ gain / log2(rank + 1) over the first ten, divided by its largest possible value (Järvelin and
               Kekäläinen, 2002, in the form of trec_eval)

Among documents of equal score, those that are not relevant come first: a system that gives every document the same
score finds nothing, however its documents happen to be ordered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from penstock.evaluate.judgements import Judgements

FloatArray: TypeAlias = npt.NDArray[np.float64]
Values: TypeAlias = Mapping[str, FloatArray]
"""The figure of each query by metric: float64[queries]."""

MRR, NDCG = "MRR@10", "nDCG@10"
CUT = 10
KS = (1, 5, 10)


@dataclass(frozen=True)
class Run:
    """The documents that a system returned for each query.

    Attributes:
        documents: int64[queries, depth], rows of documents, each at most once in a query; -1 after the last.
        scores: float64[queries, depth]; the larger the better, -inf after the last document. They need no order.
    """

    documents: npt.NDArray[np.int64]
    scores: FloatArray

    def take(self, queries: npt.NDArray[np.int64]) -> Run:
        """Returns the run of some queries, in this order."""
        return Run(self.documents[queries], self.scores[queries])


def measure(run: Run, judgements: Judgements, *, ks: Sequence[int] = KS) -> Values:
    """Returns every metric for each query. Every query must have a relevant document."""
    ranked = ranked_gains(run, judgements)
    relevant = ranked > 0
    values: dict[str, FloatArray] = {f"hit@{k}": np.asarray(relevant[:, :k].any(axis=1), dtype=np.float64) for k in ks}
    values |= {f"recall@{k}": np.asarray(relevant[:, :k].sum(axis=1) / judgements.counts) for k in ks}
    first = relevant[:, :CUT]
    values[MRR] = np.where(first.any(axis=1), 1 / (first.argmax(axis=1) + 1), 0.0)
    values[NDCG] = ranked[:, :CUT] @ discounts(min(CUT, ranked.shape[1])) / ideal(judgements)
    return values


def ranked_gains(run: Run, judgements: Judgements) -> FloatArray:
    """Returns the gain of the document at each rank: float64[queries, depth], the best rank first.

    At equal scores the smaller gain comes first: ties count against the system.
    """
    gains = judgements.gains_at(run.documents)
    scores = np.where(run.documents >= 0, run.scores, -np.inf)
    order = np.lexsort((gains, -scores), axis=-1)
    return np.take_along_axis(gains, order, axis=1)


def order_against(run: Run, judgements: Judgements) -> npt.NDArray[np.int64]:
    """Returns the documents in the order in which `measure` ranks them: int64[queries, depth]."""
    gains = judgements.gains_at(run.documents)
    scores = np.where(run.documents >= 0, run.scores, -np.inf)
    order = np.lexsort((run.documents, gains, -scores), axis=-1)
    return np.take_along_axis(run.documents, order, axis=1)


def chance(judgements: Judgements, documents: int, *, ks: Sequence[int] = KS) -> Values:
    """Returns what a random order of all documents is expected to give for each query."""
    counts = judgements.counts
    # miss[r]: the probability that none of the first r documents is relevant
    steps = (documents - counts[:, None] - np.arange(max(*ks, CUT))) / np.maximum(
        documents - np.arange(max(*ks, CUT)), 1
    )
    miss = np.concatenate([np.ones((len(counts), 1)), np.cumprod(np.maximum(steps, 0.0), axis=1)], axis=1)
    values: dict[str, FloatArray] = {f"hit@{k}": 1 - miss[:, k] for k in ks}
    values |= {f"recall@{k}": np.full(len(counts), min(1.0, k / documents)) for k in ks}
    values[MRR] = (miss[:, :CUT] - miss[:, 1 : CUT + 1]) @ (1 / np.arange(1, CUT + 1))
    total = _per_query(judgements, judgements.gains)
    values[NDCG] = total / documents * discounts(min(CUT, documents)).sum() / ideal(judgements)
    return values


def ideal(judgements: Judgements) -> FloatArray:
    """Returns the largest Σ gain / log2(rank + 1) over ten ranks that each query allows: float64[queries]."""
    order = np.lexsort((-judgements.gains, judgements.query_of_pair))
    ranks = np.arange(len(judgements.documents)) - np.repeat(judgements.offsets[:-1], judgements.counts)
    weights = np.where(ranks < CUT, 1 / np.log2(ranks + 2), 0.0)
    return _per_query(judgements, judgements.gains[order] * weights)


def discounts(ranks: int) -> FloatArray:
    """Returns 1 / log2(rank + 1) for the ranks from 1: float64[ranks]."""
    return np.asarray(1 / np.log2(np.arange(2, ranks + 2)), dtype=np.float64)


def _per_query(judgements: Judgements, of_pairs: FloatArray) -> FloatArray:
    """Returns the sum over the pairs of each query: float64[queries]."""
    sums = np.bincount(judgements.query_of_pair, of_pairs, minlength=len(judgements.counts))
    return np.asarray(sums, dtype=np.float64)
