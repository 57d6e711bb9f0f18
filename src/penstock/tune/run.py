"""Tunes an index: measures every candidate in every direction, and chooses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

from penstock.store.index_trials import IndexTrials
from penstock.tune.choice import IndexCandidate, candidates, cheapest, pareto_front
from penstock.tune.directions import Bank
from penstock.tune.grid import builds
from penstock.tune.measure import ConditionRow, Point, measure_bank, measure_conditions


@dataclass(frozen=True, slots=True)
class TuneOptions:
    """The limits of a tuning.

    Attributes:
        target_recall: recall@10 that every direction has to meet.
        limit: entries that a search wants, `query.candidates`.
        index_types: those to try; None: all of the server.
        quick: few builds instead of all.
        conditions: whether filters and a cold start are measured for the chosen index.
    """

    target_recall: float
    limit: int
    index_types: Sequence[str] | None = None
    quick: bool = False
    conditions: bool = True


@dataclass(frozen=True, slots=True)
class TuneResult:
    """The measured points, and the choice.

    Attributes:
        product: name and version of the server.
        target_recall, limit: as in the options.
        points: of every channel, in the order in which they were measured.
        chosen: the cheapest candidate that meets the target in every direction; None: none does.
        conditions: of the chosen index.
    """

    product: str
    target_recall: float
    limit: int
    points: Sequence[Point]
    chosen: IndexCandidate | None
    conditions: Sequence[ConditionRow]

    @property
    def candidates(self) -> list[IndexCandidate]:
        """The settings that were tried in every channel."""
        return candidates(self.points)

    def to_json(self) -> Mapping[str, object]:
        """Returns the result as JSON-like values."""
        points = [{**asdict(point), "index": point.index.model_dump(), "name": point.name} for point in self.points]
        return {
            "product": self.product,
            "target_recall": self.target_recall,
            "limit": self.limit,
            "points": points,
            "front": [candidate.name for candidate in pareto_front(self.candidates)],
            "chosen": None if self.chosen is None else self.chosen.name,
            "settings": None if self.chosen is None else self.chosen.index.model_dump(),
            "conditions": [asdict(row) for row in self.conditions],
        }


def tune(
    trials: IndexTrials, banks: Sequence[Bank], options: TuneOptions, report: Callable[[str], None] = lambda _: None
) -> TuneResult:
    """Measures every candidate in every direction of every bank, and chooses the cheapest that meets the target.

    Args:
        trials: a server, or the double.
        banks: the channels of the index; all take the same settings.
        options: what is tried.
        report: takes the name of each build that begins.
    """
    tried = options.index_types or trials.index_types
    kinds = [kind for kind in trials.index_types if kind in tried]
    # The same list for every bank: one that is too small for some cells would else leave them out of the choice.
    vectors = min(len(bank.vectors) for bank in banks)
    points = [
        point
        for bank in banks
        for point in measure_bank(
            trials,
            bank,
            builds(kinds, vectors, limit=options.limit, quick=options.quick),
            limit=options.limit,
            report=report,
        )
    ]
    chosen = cheapest(candidates(points), options.target_recall)
    conditions: list[ConditionRow] = []
    if chosen is not None and options.conditions:
        for bank in banks:
            report(f"{bank.channel}: filters and cold start")
            conditions += measure_conditions(trials, bank, chosen.index, limit=options.limit)
    return TuneResult(trials.product, options.target_recall, options.limit, points, chosen, conditions)
