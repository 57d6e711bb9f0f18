"""Measures indexes: what they find, the time of a search, their bytes, and the time to build them.

1 load    the vectors of a bank
2 answer  every question exactly, in this process
3 build   one index after the other
4 search  every question one by one, with each setting of the search; a first round warms up and does not count
5 filter  on 1, 10 and 50 % of the vectors, and cold, for the setting that is chosen
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from penstock.config import VectorIndexSettings
from penstock.records import Float32
from penstock.store.index_trials import IndexTrials
from penstock.store.vector_index import bytes_per_row, varied
from penstock.tune.directions import Bank, ExactAnswers, exact_answers
from penstock.tune.grid import Build

K = 10
WARM_UP = 10
SELECTIVITIES = (1, 10, 50)


@dataclass(frozen=True, slots=True)
class DirectionFigures:
    """The figures of one index for the questions of one direction.

    Attributes:
        recall: mean recall@10, 0 to 1.
        worst: the 5th percentile of it: what the unlucky questions get.
        p50_ms, p95_ms: of one search, with one client.
        per_s: searches per second, one after the other.
    """

    recall: float
    worst: float
    p50_ms: float
    p95_ms: float
    per_s: float


@dataclass(frozen=True, slots=True)
class Point:
    """One index of one channel with one setting of its searches.

    Attributes:
        channel: such as `image.joint`.
        index: the settings.
        vectors: number in the index.
        build_s: seconds to build it.
        bytes: of a vector, computed.
        figures: by direction.
    """

    channel: str
    index: VectorIndexSettings
    vectors: int
    build_s: float
    bytes: int
    figures: Mapping[str, DirectionFigures]

    @property
    def name(self) -> str:
        """The index in words, such as `HNSW m 16 ef_construction 200 ef 100`."""
        return index_name(self.index)

    @property
    def least_recall(self) -> float:
        """The recall of the direction that it serves worst."""
        return min(figures.recall for figures in self.figures.values())

    @property
    def cost_ms(self) -> float:
        """The median of the slowest direction: what a search costs."""
        return max(figures.p50_ms for figures in self.figures.values())


@dataclass(frozen=True, slots=True)
class ConditionRow:
    """The figures of the chosen index under a condition: a filter, or a cold start.

    Attributes:
        channel, direction: what was searched.
        condition: in words, such as `1 % allowed`.
        figures: of these searches.
    """

    channel: str
    direction: str
    condition: str
    figures: DirectionFigures


def index_name(index: VectorIndexSettings) -> str:
    """Returns an index in words: its type, and the settings that matter for it."""
    return " ".join([index.type, *(f"{name} {value}" for name, value in varied(index, index.type).items())])


def measure_bank(
    trials: IndexTrials,
    bank: Bank,
    tried: Iterable[Build],
    *,
    limit: int,
    report: Callable[[str], None] = lambda _: None,
) -> list[Point]:
    """Returns a point for each build and each setting of its searches, in their order.

    Args:
        trials: a server, or the double.
        bank: the vectors and the questions.
        tried: what to build.
        limit: entries that a search wants, at least ten; recall is of the first ten.
        report: takes the name of each build that begins.
    """
    trials.load(bank.vectors)
    answers = {direction.name: exact_answers(bank.vectors, direction.queries, k=K) for direction in bank.directions}
    points = []
    for build in tried:
        report(f"{bank.channel}: {index_name(build.index)}")
        build_s = trials.build(build.index)
        size = bytes_per_row(build.index, build.index.type, bank.vectors.shape[1])
        for index in build.searches:
            figures = {name: _search_all(trials, index, exact, limit=limit) for name, exact in answers.items()}
            points.append(Point(bank.channel, index, len(bank.vectors), build_s, size, figures))
    return points


def measure_conditions(
    trials: IndexTrials, bank: Bank, index: VectorIndexSettings, *, limit: int
) -> list[ConditionRow]:
    """Returns what an index gives with filters, and for the first searches after a cold start. Builds it first."""
    trials.load(bank.vectors)
    trials.build(index)
    rows = []
    for direction in bank.directions:
        for percent in SELECTIVITIES:
            exact = exact_answers(bank.vectors, direction.queries, k=K, below_bucket=percent)
            figures = _search_all(trials, index, exact, limit=limit, below_bucket=percent)
            rows.append(ConditionRow(bank.channel, direction.name, f"{percent} % allowed", figures))
    for direction in bank.directions:
        first = direction.queries[:1]
        trials.restart()
        exact = exact_answers(bank.vectors, first, k=K)
        figures = _search_all(trials, index, exact, limit=limit, warm_up=0)
        rows.append(ConditionRow(bank.channel, direction.name, "first search after a start", figures))
    return rows


def _search_all(
    trials: IndexTrials,
    index: VectorIndexSettings,
    exact: ExactAnswers,
    *,
    limit: int,
    below_bucket: int | None = None,
    warm_up: int = WARM_UP,
) -> DirectionFigures:
    """Returns the figures of all questions of a direction."""

    def search(query: Float32) -> tuple[np.ndarray, float]:
        result = trials.search(query, index, limit=limit, below_bucket=below_bucket)
        return result.rows, result.took_ms

    for query in exact.queries[:warm_up]:
        search(query)
    started = time.perf_counter()
    results = [search(query) for query in exact.queries]
    elapsed_s = time.perf_counter() - started
    recalls = [exact.recall(number, rows) for number, (rows, _) in enumerate(results)]
    return _figures(recalls, [took_ms for _, took_ms in results], elapsed_s)


def _figures(recalls: Sequence[float], times_ms: Sequence[float], elapsed_s: float) -> DirectionFigures:
    p50, p95 = np.percentile(times_ms, [50, 95])
    worst = float(np.percentile(recalls, 5))
    return DirectionFigures(float(np.mean(recalls)), worst, float(p50), float(p95), len(times_ms) / elapsed_s)
