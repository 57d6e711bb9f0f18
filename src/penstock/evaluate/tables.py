"""Computes the rows of a result: each system on each slice, with intervals; and the comparison with another run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from penstock.errors import UsageError
from penstock.evaluate.evaluation_set import EvaluationSet
from penstock.evaluate.intervals import bootstrap, holm, randomisation_p, win_tie_loss
from penstock.evaluate.metrics import NDCG, Run, Values, chance, measure
from penstock.evaluate.result import DIGITS, PairedComparison, Row, SetResult
from penstock.evaluate.slices import Slice, slices_of

CHANCE = "chance"
SEARCH = "search"


def measure_systems(
    dataset: EvaluationSet, queries: npt.NDArray[np.int64], runs: Mapping[str, Run], *, ks: Sequence[int]
) -> dict[str, Values]:
    """Returns the figures of chance and of each run, query by query, chance first.

    Args:
        dataset: the set.
        queries: int64[n], rows of the evaluated queries.
        runs: by system; their rows are those of `queries`.
        ks: the k of hit@k and recall@k.
    """
    judgements = dataset.judgements.take(queries)
    values: dict[str, Values] = {CHANCE: chance(judgements, len(dataset.documents), ks=ks)}
    return values | {system: measure(run, judgements, ks=ks) for system, run in runs.items()}


def rows_of(
    dataset: EvaluationSet,
    queries: npt.NDArray[np.int64],
    values: Mapping[str, Values],
    *,
    draws: int,
    seed: int,
) -> list[Row]:
    """Returns a row for each system on each slice, all systems of a slice together."""
    groups = dataset.query_groups[queries]
    return [
        row
        for of_slice in slices_of(dataset, queries)
        for row in _rows_of_slice(of_slice, groups[of_slice.places], values, draws=draws, seed=seed)
    ]


def _rows_of_slice(
    of_slice: Slice, groups: npt.NDArray[np.int64], values: Mapping[str, Values], *, draws: int, seed: int
) -> list[Row]:
    together = {
        f"{system}/{metric}": of_queries[of_slice.places]
        for system, of_system in values.items()
        for metric, of_queries in of_system.items()
    }
    intervals = bootstrap(together, groups, draws=draws, seed=seed)
    return [
        Row(
            system,
            of_slice.dimension,
            of_slice.value,
            len(of_slice.places),
            len(np.unique(groups)),
            {metric: intervals[f"{system}/{metric}"] for metric in of_system},
        )
        for system, of_system in values.items()
    ]


def per_query(dataset: EvaluationSet, queries: npt.NDArray[np.int64], values: Values) -> dict[str, dict[str, float]]:
    """Returns the figures of each query by its id, with the digits that a file keeps."""
    rounded = {metric: np.round(of_queries, DIGITS).tolist() for metric, of_queries in values.items()}
    return {
        dataset.queries[query].id: {metric: of_queries[place] for metric, of_queries in rounded.items()}
        for place, query in enumerate(queries.tolist())
    }


def compare(
    datasets: Sequence[tuple[EvaluationSet, npt.NDArray[np.int64], SetResult]],
    base: Sequence[SetResult],
    *,
    draws: int,
    seed: int,
    metric: str = NDCG,
) -> list[PairedComparison]:
    """Compares the fused search with that of another result, on every slice of every set, corrected by Holm.

    Args:
        datasets: the sets with their evaluated queries and results.
        base: the sets of the other result.
        draws, seed: of intervals and tests.
        metric: the one that is compared.

    Raises:
        UsageError: the other result lacks a set, or has it with other content or without its queries.
    """
    comparisons: list[PairedComparison] = []
    for dataset, queries, result in datasets:
        other = _same_set(result, base)
        ids = [dataset.queries[query].id for query in queries.tolist()]
        before = np.array([other.per_query[query_id][metric] for query_id in ids])
        differences = np.array([result.per_query[query_id][metric] for query_id in ids]) - before
        groups = dataset.query_groups[queries]
        for of_slice in slices_of(dataset, queries):
            places = of_slice.places
            in_slice, of_groups = differences[places], groups[places]
            comparisons.append(
                PairedComparison(
                    set_name=result.name,
                    dimension=of_slice.dimension,
                    value=of_slice.value,
                    queries=len(places),
                    metric=metric,
                    base=float(before[places].mean()),
                    difference=bootstrap({metric: in_slice}, of_groups, draws=draws, seed=seed)[metric],
                    p=randomisation_p(in_slice, of_groups, draws=draws, seed=seed),
                    p_holm=1.0,
                    counts=win_tie_loss(in_slice),
                )
            )
    corrected = holm([comparison.p for comparison in comparisons])
    return [replace(comparison, p_holm=p) for comparison, p in zip(comparisons, corrected, strict=True)]


def _same_set(result: SetResult, base: Sequence[SetResult]) -> SetResult:
    other = next((of_set for of_set in base if of_set.name == result.name), None)
    if other is None:
        names = ", ".join(of_set.name for of_set in base)
        raise UsageError(f"the other result has no set {result.name}; it has {names}")
    if other.hash != result.hash:
        raise UsageError(f"set {result.name} has changed since the other result ({other.hash}, now {result.hash})")
    if not set(result.per_query) <= set(other.per_query):
        raise UsageError(
            f"the other result has no figures of the same queries of set {result.name} (its split is {other.split}); "
            "evaluate it again with the same --split, and with --output"
        )
    return other
