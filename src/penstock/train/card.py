"""Judges a calibration by questions that it was not fitted to, and describes it in a card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from penstock.evaluate.fusions import open_fusion, shares_of
from penstock.evaluate.metrics import NDCG, measure
from penstock.evaluate.offline import MOMENTS, fuse_offline
from penstock.evaluate.reliability import (
    FoundPoint,
    ReliabilityBin,
    brier_score,
    expected_calibration_error,
    found_curve,
    reliability_table,
    separation,
)
from penstock.evaluate.slices import slices_of
from penstock.query.fusion.base import Fusion
from penstock.query.fusion.calibration import Calibration
from penstock.query.relevance import relevance_of_entries
from penstock.query.types import FuseOptions
from penstock.train.fitting import Bool, Float64
from penstock.train.labels import LabelledQuestion, LabelledRankings

FIRST_HIT = "hit@1"
SHOWN_HITS = 10


@dataclass(frozen=True, slots=True)
class SliceFigures:
    """The figures of some held-out questions, without labels (z-by-channel) and with the calibration.

    Attributes:
        name: such as `lang de`, or `all`.
        questions: how many.
        base, calibrated: nDCG@10 and hit@1, 0 to 1.
    """

    name: str
    questions: int
    base: Mapping[str, float]
    calibrated: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class RelevanceFigures:
    """Compares relevance with what was right for held-out questions, each with and without its answer in the index.

    Attributes:
        first_ece, first_brier: of the first hits of both versions.
        hits_ece: of the first ten hits of the questions as they are.
        reliability: of the first hits of both versions.
        found_curve: its points, by the best relevance of each question.
        separation: the probability that the version with the answer has the higher one.
    """

    first_ece: float
    first_brier: float
    hits_ece: float
    reliability: list[ReliabilityBin]
    found_curve: list[FoundPoint]
    separation: float


@dataclass(frozen=True, slots=True)
class SetCard:
    """The judgement of one set.

    Attributes:
        name, hash: of the set.
        fitted: number of its questions that the calibration was fitted to.
        slices: of the held-out questions, all of them first.
        relevance: None if no hit has one.
    """

    name: str
    hash: str
    fitted: int
    slices: list[SliceFigures]
    relevance: RelevanceFigures | None


@dataclass(frozen=True, slots=True)
class CalibrationCard:
    """Describes a calibration: its data, its figures, and how long it took.

    Attributes:
        profile: whose encoders were used.
        seed: of splits and choices.
        labels: questions that it was fitted to.
        seconds: of fitting and judging.
        sets: one for each set.
    """

    profile: str
    seed: int
    labels: int
    seconds: float
    sets: list[SetCard] = field(default_factory=list)

    def to_json(self) -> Mapping[str, object]:
        """Returns the card as JSON-like values; figures that do not exist are null."""
        return {name: _finite(value) for name, value in asdict(self).items()}


def judge_set(held_out: LabelledRankings, fitted: int, calibration: Calibration) -> SetCard:
    """Judges a calibration by the held-out questions of a set."""
    dataset = held_out.rankings.dataset
    return SetCard(
        dataset.name, dataset.hash, fitted, _slices(held_out, calibration), _relevance(held_out, calibration)
    )


def _slices(held_out: LabelledRankings, calibration: Calibration) -> list[SliceFigures]:
    dataset, rows = held_out.rankings.dataset, held_out.questions
    if not len(rows):
        return []
    judgements, shares = dataset.judgements.take(rows), shares_of(dataset)
    fusions = [open_fusion(FuseOptions(), known, shares) for known in (None, calibration)]
    values = [measure(fuse_offline(held_out.rankings, fusion, queries=rows).run, judgements) for fusion in fusions]
    figures = []
    for part in slices_of(dataset, rows):
        base, calibrated = (
            {name: float(of_query[name][part.places].mean()) for name in (NDCG, FIRST_HIT)} for of_query in values
        )
        name = part.value if part.dimension == part.value else f"{part.dimension} {part.value}"
        figures.append(SliceFigures(name, len(part.places), base, calibrated))
    return figures


def _relevance(held_out: LabelledRankings, calibration: Calibration) -> RelevanceFigures | None:
    fusion = open_fusion(FuseOptions(), calibration, shares_of(held_out.rankings.dataset))
    shown = [
        [_shown(version, calibration, fusion) for version in (question, question.without_answer())]
        for question in held_out
    ]
    with_answer, without = (_stack([versions[place] for versions in shown]) for place in (0, 1))
    if with_answer is None or without is None:
        return None
    best, best_without = (np.nanmax(relevances, axis=1) for relevances in (with_answer[0], without[0]))
    first = np.concatenate([with_answer[0][:, 0], without[0][:, 0]])
    right = np.concatenate([with_answer[1][:, 0], without[1][:, 0]])
    known = np.isfinite(first)
    first, right = first[known], right[known]
    of_first_ten = np.isfinite(with_answer[0])
    return RelevanceFigures(
        first_ece=expected_calibration_error(first, right),
        first_brier=brier_score(first, right),
        hits_ece=expected_calibration_error(with_answer[0][of_first_ten], with_answer[1][of_first_ten]),
        reliability=reliability_table(first, right),
        found_curve=found_curve(best, best_without),
        separation=separation(best, best_without),
    )


def _shown(question: LabelledQuestion, calibration: Calibration, fusion: Fusion) -> tuple[Float64, Bool]:
    """Returns relevance, nan where unknown, and rightness of the first hits: float64 and bool[SHOWN_HITS]."""
    relevances = relevance_of_entries(question.rankings, question.text, calibration)
    ranked = fusion.rank(question.rankings, MOMENTS, SHOWN_HITS)
    values, right = np.full(SHOWN_HITS, np.nan), np.zeros(SHOWN_HITS, dtype=np.bool_)
    for place, (_, candidate) in enumerate(ranked):
        values[place] = relevances.get(candidate.best.id, np.nan)
        right[place] = candidate.best.id in question.right
    return values, right


def _stack(shown: Sequence[tuple[Float64, Bool]]) -> tuple[Float64, Bool] | None:
    """Returns float64 and bool[questions, SHOWN_HITS] of questions with a known relevance; None without any."""
    known = [row for row in shown if np.isfinite(row[0]).any()]
    return (np.stack([row[0] for row in known]), np.stack([row[1] for row in known])) if known else None


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    return [_finite(part) for part in value] if isinstance(value, list | tuple) else value
