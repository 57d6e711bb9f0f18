"""Fits an adapter to pairs of questions and right documents, and measures it on questions it has not seen.

    1 choose   the pairs: all of the split `train`, of one language, or a number of them drawn by a seed
    2 fit      in closed form with strength and mix by cross-validation among these pairs, or by gradient with the
               epoch chosen by pairs held back; the unchanged encoder is always a candidate
    3 measure  the questions of the gate, which neither step has seen

Ridge towards the identity is the default: it takes a second, cross-validation included.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from penstock.encoders.transform import LayeredTransform, linear_transform
from penstock.errors import UsageError
from penstock.query.adapters import question_language
from penstock.records import Float32
from penstock.train.alignment_data import FIT, MIN_PAIRS, AlignmentData, IntArray
from penstock.train.closed_forms import procrustes, ridge_to_identity
from penstock.train.hard_negatives import NegativeFilter, chosen_by_words, mine_negatives
from penstock.train.ranks import first_ranks, reciprocal_ranks

AdapterKind: TypeAlias = Literal["ridge", "procrustes", "linear", "low-rank", "mlp", "projection"]
CLOSED_FORMS = ("ridge", "procrustes")

# In pairs: 1 follows a hundred pairs closely, 300 hardly moves for them.
STRENGTHS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
MIXES = (0.5, 1.0)
_FOLDS = 5
_HELD_BACK = 0.2
# Candidates differ by chance: the encoder as it is stays unless the best one gains over it on pairs held back, at this
# level. Pairs that say nothing correct the mean of the questions, which is a gain on any question: the gate
# alone promoted 9 of 20 adapters of shuffled Japanese pairs. But they do not find each other's documents: of 100, at
# most four gained and none lost, which 1.645 standard errors let pass, as four gains are not normally distributed.
_LEVEL = 0.05
_FLIPS = 2_000
_FLIPS_AT_ONCE = 250


@dataclass(frozen=True)
class FittedAdapter:
    """A fitted map, with what it was fitted to.

    Attributes:
        transform: None: the encoder as it is was the best candidate.
        rows: int64[n], the questions of the pairs.
        parameters: what was chosen, such as strength and mix.
        collapsed: the message, if training ended by a collapse.
    """

    transform: LayeredTransform | None
    rows: IntArray = field(repr=False)
    parameters: Mapping[str, float]
    collapsed: str = ""


@dataclass(frozen=True, slots=True)
class AdapterOptions:
    """The options of a fit.

    Attributes:
        kind: the form of the map.
        lang: of the pairs and of the questions that the adapter is for, ISO 639-1; None: all.
        pairs: number of pairs; None: all.
        seed: of their choice and of training.
        hard_negatives: for each question, of heads that are trained.
        negative_filter: says which candidates may be right.
    """

    kind: AdapterKind = "ridge"
    lang: str | None = None
    pairs: int | None = None
    seed: int = 0
    hard_negatives: int = 0
    negative_filter: NegativeFilter = field(default_factory=NegativeFilter)


def choose_pairs(data: AlignmentData, options: AdapterOptions) -> IntArray:
    """Returns the questions to fit to.

    Raises:
        UsageError: there are fewer than `MIN_PAIRS`, or than the options ask for.
    """
    rows = data.rows(FIT, lang=options.lang)
    requested = len(rows) if options.pairs is None else options.pairs
    if len(rows) < requested or requested < MIN_PAIRS:
        of_language = f" in {options.lang}" if options.lang else ""
        needed = f"the {requested} that were requested" if requested > len(rows) else f"at least {MIN_PAIRS}"
        raise UsageError(f"{data.name} has {len(rows)} pairs{of_language} to fit to, and an adapter needs {needed}")
    return np.sort(np.random.default_rng(options.seed).permutation(rows)[:requested])


def fit_closed_form(data: AlignmentData, rows: IntArray, options: AdapterOptions, *, side: str) -> FittedAdapter:
    """Fits ridge or Procrustes, with strength and mix by cross-validation.

    Args:
        data: questions and documents.
        rows: of the pairs.
        options: the kind.
        side: query or document: the side that is mapped onto the other one.
    """
    candidates: dict[tuple[float, float], list[npt.NDArray[np.float64]]] = {}
    strengths = STRENGTHS if options.kind == "ridge" else (0.0,)
    identity = np.eye(data.bank.shape[1], dtype=np.float32)
    folds = _folds(data, rows, options.seed)
    bases = [_found(data, held_back, None, side) for _, held_back in folds]
    for (part, held_back), base in zip(folds, bases, strict=True):
        for strength in strengths:
            fitted = _map(data, part, options, side, strength)
            for mix in MIXES:
                matrix = mix * fitted + (1 - mix) * identity
                reciprocal = _found(data, held_back, linear_transform(matrix), side)
                candidates.setdefault((strength, mix), []).append(reciprocal - base)
    gains = np.stack([np.concatenate(of_folds) for of_folds in candidates.values()])
    groups = data.groups[np.concatenate([held_back for _, held_back in folds])]
    if not is_gain(gains, groups):
        return FittedAdapter(None, rows, {"strength": 0.0, "mix": 0.0})
    strength, mix = list(candidates)[int(gains.mean(axis=1).argmax())]
    matrix = mix * _map(data, rows, options, side, strength) + (1 - mix) * identity
    transform = linear_transform(np.asarray(matrix, dtype=np.float32))
    return FittedAdapter(transform, rows, {"strength": strength, "mix": mix})


def is_gain(gains: npt.NDArray[np.float64], groups: IntArray) -> bool:
    """Returns whether the best of some candidates gains on pairs held back by more than chance (one-sided, 95 %).

    A randomisation test: where a map changes nothing, each gain might as well have been a loss. The best candidate is
    compared with the best one of each draw, so that many candidates are no more likely to pass than one (Westfall and
    Young, 1993).

    Args:
        gains: float64[candidates, n], or float64[n] of a single one.
        groups: int64[n]; those of a group depend on each other, so that their mean counts as one.
    """
    _, group_of = np.unique(groups, return_inverse=True)
    sizes = np.bincount(group_of)
    means = np.stack([np.bincount(group_of, of_candidate) / sizes for of_candidate in np.atleast_2d(gains)])
    observed = means.sum(axis=1).max()
    if observed <= 0:
        return False
    rng = np.random.default_rng(0)
    extreme = 0
    for _ in range(_FLIPS // _FLIPS_AT_ONCE):
        signs = rng.integers(0, 2, (_FLIPS_AT_ONCE, means.shape[1]), dtype=np.int8) * 2.0 - 1.0
        extreme += int(((signs @ means.T).max(axis=1) >= observed - 1e-9).sum())
    return (extreme + 1) / (_FLIPS + 1) <= _LEVEL


def map_questions(data: AlignmentData, rows: IntArray, transform: LayeredTransform, lang: str | None) -> Float32:
    """Returns the vectors of questions as the query plane makes them: mapped if they are in the adapter's language."""
    questions = data.questions[rows]
    if lang is None:
        return transform.apply(questions)
    inside = np.array([question_language(data.texts[row]) == lang for row in rows.tolist()], dtype=np.bool_)
    mapped = questions.copy()
    if inside.any():
        mapped[inside] = transform.apply(questions[inside])
    return mapped


def measure_adapter(
    data: AlignmentData, rows: IntArray, transform: LayeredTransform | None, *, side: str, lang: str | None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Returns the first right ranks of questions without and with an adapter: int64[rows] both."""
    judgements = data.judgements.take(rows)
    base = first_ranks(data.questions[rows], data.bank, judgements)
    if transform is None:
        return base, base
    questions = data.questions[rows] if side == "document" else map_questions(data, rows, transform, lang)
    bank = data.bank if side == "query" else transform.apply(data.bank)
    return base, first_ranks(questions, bank, judgements)


def hold_back(data: AlignmentData, rows: IntArray, seed: int) -> tuple[IntArray, IntArray]:
    """Returns the pairs to train on, and those that choose the epoch; a group is in one of them."""
    groups = np.unique(data.groups[rows])
    drawn = np.random.default_rng(seed).permutation(groups)[: max(1, round(_HELD_BACK * len(groups)))]
    held = np.isin(data.groups[rows], drawn)
    return rows[~held], rows[held]


def negatives_of(data: AlignmentData, rows: IntArray, options: AdapterOptions) -> Float32 | None:
    """Returns hard negatives, float32[rows, k, dim], with zeros where a question has fewer; None: none."""
    if not options.hard_negatives:
        return None
    right = [frozenset(rows_of_query.tolist()) for rows_of_query in data.judgements.rows()]
    chosen = chosen_by_words(data.texts, right)
    mined = mine_negatives(
        data.questions[rows],
        data.bank,
        [chosen[row] for row in rows.tolist()],
        count=options.hard_negatives,
        rule=options.negative_filter,
    )
    vectors = data.bank[mined]
    vectors[mined < 0] = 0.0
    return np.asarray(vectors, dtype=np.float32)


def _folds(data: AlignmentData, rows: IntArray, seed: int) -> list[tuple[IntArray, IntArray]]:
    """Returns training and held-back rows of each fold; a group is in one fold."""
    groups, group_of = np.unique(data.groups[rows], return_inverse=True)
    fold_of = np.random.default_rng(seed).permutation(len(groups)) % min(_FOLDS, len(groups))
    of_row = fold_of[group_of]
    return [(rows[of_row != number], rows[of_row == number]) for number in range(int(fold_of.max()) + 1)]


def _map(data: AlignmentData, rows: IntArray, options: AdapterOptions, side: str, strength: float) -> Float32:
    questions, documents = data.pairs(rows)
    source, target = data.questions[questions], data.bank[documents]
    if side == "document":
        source, target = target, source
    return procrustes(source, target) if options.kind == "procrustes" else ridge_to_identity(source, target, strength)


def _found(
    data: AlignmentData, rows: IntArray, transform: LayeredTransform | None, side: str
) -> npt.NDArray[np.float64]:
    """Returns the reciprocal ranks of questions, all of them mapped: float64[rows]."""
    _, ranks = measure_adapter(data, rows, transform, side=side, lang=None)
    return reciprocal_ranks(ranks)


def distinct_items(data: AlignmentData, rows: IntArray) -> IntArray:
    """Returns for each question the number of its right document, int64[rows]: equal for equal documents."""
    _, documents = data.pairs(rows)
    return documents
