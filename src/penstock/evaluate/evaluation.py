"""Evaluates sets offline or with a given run, and composes the results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from penstock.errors import UsageError
from penstock.evaluate.diagnostics import diagnose
from penstock.evaluate.evaluation_set import ALL, TWO_SPLITS, EvaluationSet, reverse
from penstock.evaluate.intervals import DRAWS, SEED
from penstock.evaluate.metrics import KS, Run
from penstock.evaluate.offline import SetRankings, document_vectors, fuse_offline, query_vectors, search_offline
from penstock.evaluate.result import Latency, SetResult
from penstock.evaluate.tables import SEARCH, measure_systems, per_query, rows_of
from penstock.evaluate.vectors import VectorFiles
from penstock.query.fusion.base import Fusion
from penstock.records import Field, Float32

DEFAULT_SPLIT = "test"


@dataclass(frozen=True, slots=True)
class EvaluationOptions:
    """The options of an evaluation: which queries, which metrics, which draws.

    Attributes:
        ks: the k of hit@k and recall@k.
        split: train, dev, test or all; a set without splits is evaluated as a whole.
        draws, seed: of intervals and tests.
    """

    ks: tuple[int, ...] = KS
    split: str = DEFAULT_SPLIT
    draws: int = DRAWS
    seed: int = SEED


@dataclass(frozen=True)
class Evaluated:
    """A set with its evaluated queries, what was found, and the result.

    Attributes:
        queries: int64[n], rows of the set's queries.
        run: the fused ranking of these queries.
    """

    dataset: EvaluationSet = field(repr=False)
    queries: npt.NDArray[np.int64] = field(repr=False)
    run: Run = field(repr=False)
    result: SetResult


def evaluate_offline(
    dataset: EvaluationSet, vectors: VectorFiles, fusion: Fusion, options: EvaluationOptions
) -> list[Evaluated]:
    """Evaluates a set in both directions: its queries, and where they find images, the images as queries.

    Raises:
        UsageError: the set has audio, or no query in the split.
    """
    directions = [dataset]
    if len(dataset.rows_of("image")) and any(not query.image for query in dataset.queries):
        directions.append(reverse(dataset))
    return [
        evaluate_rankings(search_offline(direction, vectors), fusion, options, vectors=vectors)
        for direction in directions
    ]


def evaluate_rankings(
    rankings: SetRankings, fusion: Fusion, options: EvaluationOptions, *, vectors: VectorFiles | None = None
) -> Evaluated:
    """Evaluates the fused rankings of a set.

    Args:
        rankings: of its channels.
        fusion: the one to measure.
        options: split, metrics and intervals.
        vectors: those that were searched; without them the channels alone and the spaces are left out of the result.

    Raises:
        UsageError: there is no query in the split.
    """
    dataset = rankings.dataset
    queries = choose_queries(dataset, options)
    fused = fuse_offline(rankings, fusion, queries=queries)
    latencies = {"fuse": fused.fuse_ms, "fuse, computing": fused.fuse_cpu_ms}
    runs = {SEARCH: fused.run}
    spaces: Mapping[str, Mapping[str, Float32]] = {}
    if vectors is not None:
        runs = {str(channel): rankings.run_of(channel).take(queries) for channel in rankings.by_channel} | runs
        spaces = _vectors_by_space(rankings, vectors)
    return evaluate_queries(dataset, queries, runs, options, latencies=latencies, spaces=spaces)


def evaluate_run(
    dataset: EvaluationSet,
    run: Run,
    options: EvaluationOptions,
    *,
    system: str = SEARCH,
    latencies: Mapping[str, npt.NDArray[np.float64]] | None = None,
) -> Evaluated:
    """Evaluates a run that has a row for every query of the set.

    Args:
        dataset: the set.
        run: its rows are those of the set's queries.
        options: split, metrics and intervals.
        system: the name of its rows in the tables.
        latencies: milliseconds of each query by step.
    """
    queries = choose_queries(dataset, options)
    return evaluate_queries(dataset, queries, {system: run.take(queries)}, options, latencies=latencies)


def choose_queries(dataset: EvaluationSet, options: EvaluationOptions) -> npt.NDArray[np.int64]:
    """Returns the rows of the queries to evaluate.

    Raises:
        UsageError: there are none.
    """
    queries = dataset.select(split=options.split if any(dataset.splits) else ALL)
    if not len(queries):
        raise UsageError(f"set {dataset.name} has no labelled query in split {options.split}")
    return queries


def percentiles(step: str, times_ms: npt.NDArray[np.float64]) -> Latency:
    """Returns the percentiles of a step's times."""
    p50, p95, p99 = np.percentile(times_ms, [50, 95, 99]).tolist()
    return Latency(step, len(times_ms), p50, p95, p99)


def evaluate_queries(
    dataset: EvaluationSet,
    queries: npt.NDArray[np.int64],
    runs: Mapping[str, Run],
    options: EvaluationOptions,
    *,
    latencies: Mapping[str, npt.NDArray[np.float64]] | None = None,
    spaces: Mapping[str, Mapping[str, Float32]] | None = None,
) -> Evaluated:
    """Returns the result of some queries.

    Args:
        dataset: the set.
        queries: int64[n], rows of queries.
        runs: by system, with a row for each of these queries; the last one is the search itself.
        options: metrics and intervals.
        latencies: milliseconds of each query by step.
        spaces: by space and modality, the vectors of documents and queries.
    """
    *_, system = runs
    values = measure_systems(dataset, queries, runs, ks=options.ks)
    in_two_splits = int((dataset.query_splits == TWO_SPLITS).sum()) if options.split != ALL else 0
    result = SetResult(
        name=dataset.name,
        hash=dataset.hash,
        split=options.split if any(dataset.splits) else ALL,
        documents=len(dataset.documents),
        rows=rows_of(dataset, queries, values, draws=options.draws, seed=options.seed),
        diagnostics=diagnose(dataset, queries, left_out=in_two_splits, run=runs[system], spaces=spaces or {}),
        latency=[percentiles(step, times_ms) for step, times_ms in (latencies or {}).items()],
        per_query=per_query(dataset, queries, values[system]),
    )
    return Evaluated(dataset, queries, runs[system], result)


def _vectors_by_space(rankings: SetRankings, vectors: VectorFiles) -> dict[str, dict[str, Float32]]:
    """Returns the vectors of documents by space and modality, and of the queries as `query`."""
    spaces: dict[str, dict[str, Float32]] = {}
    dataset = rankings.dataset
    for channel in rankings.by_channel:
        if channel.field is Field.LEXICAL:
            continue
        rows = dataset.rows_of(channel.collection.value)
        of_space = spaces.setdefault(rankings.spaces[channel], {})
        of_space[channel.collection.value] = document_vectors(dataset, channel, rows, vectors)
        of_space["query"] = query_vectors(dataset, channel, vectors)
    return spaces
