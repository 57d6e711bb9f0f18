"""Decides whether an adapter may be promoted, by questions that it was not fitted to.

It may, only if the 95 % interval of its gain in MRR@10 lies above 0 on the questions that it is for, and no slice
falls: none whose interval lies below 0. Slices are those of language, kind, modality, tenant, and whether a fitted pair
had chosen a right document. An adapter that follows another one in its slot is compared with that one, question by
question.

Intervals are over groups: queries of near-duplicates are drawn together. Where pairs say nothing, the interval lies
above 0 in one of forty cases by chance if the adapter changes nothing at all; an adapter that follows such pairs loses.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from penstock.errors import UsageError
from penstock.evaluate.intervals import DRAWS, SEED, Interval, bootstrap
from penstock.evaluate.metrics import MRR
from penstock.train.alignment_data import AlignmentData, IntArray, language_code
from penstock.train.ranks import reciprocal_ranks

ALL = "all"
_DIGITS = 6


@dataclass(frozen=True, slots=True)
class SliceGain:
    """The gain of an adapter on some questions.

    Attributes:
        name: such as `lang ja`; `all` for all of them.
        questions: how many.
        base, adapted: MRR@10, 0 to 1.
        gain: of MRR@10.
    """

    name: str
    questions: int
    base: float
    adapted: float
    gain: Interval

    @property
    def falls(self) -> bool:
        """Returns whether the whole interval lies below 0."""
        return self.gain.high < 0


@dataclass(frozen=True, slots=True)
class GateDecision:
    """The decision of the gate.

    Attributes:
        slices: that of the questions that the adapter is for comes first.
        reasons: why it is declined; empty: it may be promoted.
    """

    slices: tuple[SliceGain, ...]
    reasons: tuple[str, ...]

    @property
    def passes(self) -> bool:
        """Returns whether the adapter may be promoted."""
        return not self.reasons


@dataclass(frozen=True)
class GateFigures:
    """The figures of the gate's questions without and with an adapter, without their words.

    Attributes:
        ids: of the questions: a hash of the words.
        groups: near-duplicates have equal numbers.
        dimensions: what slices differ in; for each name a value for each question.
        base, adapted: 1 / rank of the first right document, 0 beyond the tenth.
    """

    ids: Sequence[str] = field(repr=False)
    groups: Sequence[int] = field(repr=False)
    dimensions: Mapping[str, Sequence[str]] = field(repr=False)
    base: Sequence[float] = field(repr=False)
    adapted: Sequence[float] = field(repr=False)


def collect(
    data: AlignmentData, rows: IntArray, base: npt.NDArray[np.int64], adapted: npt.NDArray[np.int64]
) -> GateFigures:
    """Returns the figures of some questions.

    Args:
        data: what they are questions of.
        rows: int64[n], the questions.
        base, adapted: int64[n], ranks of the first right documents.
    """
    values = {name: [of_data[row] for row in rows.tolist()] for name, of_data in data.dimensions.items()}
    if "lang" in values:
        values["lang"] = [language_code(value) for value in values["lang"]]
    return GateFigures(
        ids=[hashlib.blake2b(data.texts[row].encode(), digest_size=8).hexdigest() for row in rows.tolist()],
        groups=data.groups[rows].tolist(),
        dimensions=values,
        base=np.round(reciprocal_ranks(base), _DIGITS).tolist(),
        adapted=np.round(reciprocal_ranks(adapted), _DIGITS).tolist(),
    )


def judge(figures: GateFigures, *, lang: str | None = None, draws: int | None = None, seed: int = SEED) -> GateDecision:
    """Returns the decision on an adapter.

    Args:
        figures: of all questions of the gate, those in other languages, too.
        lang: of the questions that it is for, ISO 639-1; None: all.
        draws, seed: of the intervals; None: `DRAWS`.
    """
    base, adapted = np.array(figures.base), np.array(figures.adapted)
    places = _slices(figures)
    main = ALL if lang is None else f"lang {lang}"
    if lang is not None:
        places.setdefault(main, np.flatnonzero([value == lang for value in figures.dimensions.get("lang", ())]))
    slices = [
        _gain(name, places[name], base, adapted, np.array(figures.groups), draws=draws or DRAWS, seed=seed)
        for name in dict.fromkeys((main, *places))
    ]
    return GateDecision(tuple(slices), tuple(_reasons(slices)))


def against(candidate: GateFigures, in_use: GateFigures) -> GateFigures:
    """Returns the figures of a candidate with the adapter that is in use as its base.

    Raises:
        UsageError: they were judged by other questions.
    """
    if list(candidate.ids) != list(in_use.ids):
        raise UsageError(
            "the adapter in use was judged by other questions, so the two cannot be compared: train it again on this "
            "data, or roll it back first"
        )
    return GateFigures(candidate.ids, candidate.groups, candidate.dimensions, in_use.adapted, candidate.adapted)


def _reasons(slices: Sequence[SliceGain]) -> list[str]:
    main, *others = slices
    reasons = []
    if not main.questions:
        reasons.append(f"there is no question of {main.name} to judge it by")
    elif not main.gain.above_zero:
        reasons.append(f"the gain on {main.name} is not above 0: {_interval(main.gain)} {MRR}")
    falling = [of_slice for of_slice in others if of_slice.falls]
    return reasons + [f"{of_slice.name} falls: {_interval(of_slice.gain)} {MRR}" for of_slice in falling]


def _interval(gain: Interval) -> str:
    return f"{100 * gain.mean:+.1f} [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]"


def _slices(figures: GateFigures) -> dict[str, IntArray]:
    """Returns where the questions of each slice are; a dimension with a single value makes none."""
    places: dict[str, IntArray] = {ALL: np.arange(len(figures.ids))}
    for dimension, values in figures.dimensions.items():
        distinct = sorted(set(values) - {""})
        if len(set(values)) > 1:
            for value in distinct:
                places[f"{dimension} {value}"] = np.flatnonzero([other == value for other in values])
    return places


def _gain(
    name: str,
    places: IntArray,
    base: npt.NDArray[np.float64],
    adapted: npt.NDArray[np.float64],
    groups: IntArray,
    *,
    draws: int,
    seed: int,
) -> SliceGain:
    if not len(places):
        return SliceGain(name, 0, 0.0, 0.0, Interval(0.0, 0.0, 0.0))
    differences = adapted[places] - base[places]
    gain = bootstrap({MRR: differences}, groups[places], draws=draws, seed=seed)[MRR]
    return SliceGain(name, len(places), float(base[places].mean()), float(adapted[places].mean()), gain)
