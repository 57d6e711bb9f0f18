"""Distinguishes gains from chance: bootstrap intervals over groups, a paired randomisation test, and Holm's correction.

Queries that share documents are not independent. So what is drawn and what is swapped is a group of queries, never a
single query; where every group has one query both are the usual methods.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from penstock.evaluate.metrics import Values

DRAWS = 10_000
SEED = 20_260
# Weights of this many draws are in memory together: of 6,000 groups, 50 MB.
_BLOCK = 1_000


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and its 95 % interval."""

    mean: float
    low: float
    high: float

    @property
    def above_zero(self) -> bool:
        """Returns whether the whole interval lies above 0."""
        return self.low > 0


@dataclass(frozen=True, slots=True)
class WinTieLoss:
    """The number of queries at which a run is better than, equal to and worse than another."""

    win: int
    tie: int
    loss: int


def bootstrap(
    values: Values, groups: npt.NDArray[np.int64], *, draws: int = DRAWS, seed: int = SEED
) -> Mapping[str, Interval]:
    """Returns the mean of each metric over the queries with its 95 % percentile interval (Efron, 1979).

    Args:
        values: float64[queries] by metric.
        groups: int64[queries], the group of each query. Whole groups are drawn, with replacement.
        draws: the number of resamples.
        seed: of the draws: equal seeds give equal intervals.
    """
    names = list(values)
    if not len(groups):
        return {name: Interval(float("nan"), float("nan"), float("nan")) for name in names}
    _, group_of = np.unique(groups, return_inverse=True)
    sums = np.stack([np.bincount(group_of, values[name]) for name in names], axis=1)  # float64[groups, metrics]
    sizes = np.bincount(group_of).astype(np.float64)
    means = np.concatenate(
        [weights @ sums / (weights @ sizes)[:, None] for weights in _group_weights(len(sizes), draws, seed)]
    )
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    return {
        name: Interval(float(values[name].mean()), float(low[column]), float(high[column]))
        for column, name in enumerate(names)
    }


def randomisation_p(
    differences: npt.NDArray[np.float64], groups: npt.NDArray[np.int64], *, draws: int = DRAWS, seed: int = SEED
) -> float:
    """Returns the two-sided p of a mean difference by Fisher's paired randomisation test.

    Each draw swaps the two systems for a random half of the groups. p = (b + 1) / (n + 1), where b of n draws have a
    difference at least as large as the observed one: the observed assignment is one of those possible, so p is never 0
    (Phipson and Smyth, 2010).

    Args:
        differences: float64[queries], figure of the one system minus that of the other.
        groups: int64[queries], the group of each query.
        draws: n.
        seed: of the draws.
    """
    if not len(differences):
        return 1.0
    _, group_of = np.unique(groups, return_inverse=True)
    sums = np.bincount(group_of, differences)
    observed = abs(sums.sum())
    rng = np.random.default_rng(seed)
    extreme = 0
    for size in _block_sizes(draws):
        signs = rng.integers(0, 2, (size, len(sums)), dtype=np.int8) * 2.0 - 1.0
        extreme += int((np.abs(signs @ sums) >= observed - 1e-9).sum())
    return (extreme + 1) / (draws + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns the p values corrected for the number of tests (Holm, 1979), in the same order."""
    corrected = [1.0] * len(p_values)
    largest = 0.0
    for number, row in enumerate(sorted(range(len(p_values)), key=lambda row: p_values[row])):
        largest = max(largest, min(1.0, (len(p_values) - number) * p_values[row]))
        corrected[row] = largest
    return corrected


def win_tie_loss(differences: npt.NDArray[np.float64], *, tolerance: float = 1e-9) -> WinTieLoss:
    """Counts the queries with a gain, without a difference, and with a loss."""
    win, loss = int((differences > tolerance).sum()), int((differences < -tolerance).sum())
    return WinTieLoss(win, len(differences) - win - loss, loss)


def _group_weights(groups: int, draws: int, seed: int) -> Iterator[npt.NDArray[np.float64]]:
    """Yields how often each group is in each draw: float64[block, groups]."""
    rng = np.random.default_rng(seed)
    for size in _block_sizes(draws):
        chosen = rng.integers(0, groups, (size, groups), dtype=np.int32)
        chosen += (np.arange(size, dtype=np.int32) * groups)[:, None]
        yield np.bincount(chosen.ravel(), minlength=size * groups).reshape(size, groups).astype(np.float64)


def _block_sizes(draws: int) -> Iterator[int]:
    for start in range(0, draws, _BLOCK):
        yield min(_BLOCK, draws - start)
