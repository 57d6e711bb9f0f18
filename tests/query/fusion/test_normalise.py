"""Normalisation: properties of any scores (hypothesis)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.query.fusion.normalise import (
    Float64,
    lowest_score,
    min_max,
    robust,
    standardise,
    theoretical_min,
    z_score,
)
from penstock.records import Channel, Collection, Field

ALL: dict[str, Callable[[Float64], Float64]] = {
    "min-max": min_max,
    "theoretical-min": partial(theoretical_min, lowest=-1.0),
    "z-score": z_score,
    "robust": robust,
    "z-by-channel": partial(standardise, mean=0.3, deviation=0.1),
}
BY_QUESTION = {name: ALL[name] for name in ("min-max", "z-score", "robust")}

any_scores = st.lists(st.integers(-1_000, 1_000).map(lambda score: score / 1_000), max_size=30).map(
    lambda scores: np.sort(np.array(scores, np.float64))[::-1]
)
methods = st.sampled_from(list(ALL.values()))


@given(methods, any_scores)
def test_the_order_stays_and_different_scores_stay_different(
    method: Callable[[Float64], Float64], scores: Float64
) -> None:
    values = method(scores)
    assert values.shape == scores.shape
    assert np.all(np.isfinite(values))
    if scores.size and (np.ptp(scores) > 0 or method not in BY_QUESTION.values()):
        assert np.array_equal(np.diff(values) < 0, np.diff(scores) < 0)


@given(st.sampled_from(list(BY_QUESTION.values())), any_scores, st.floats(0.01, 100), st.floats(-100, 100))
def test_what_sees_one_question_does_not_depend_on_the_unit_of_the_scores(
    method: Callable[[Float64], Float64], scores: Float64, scale: float, shift: float
) -> None:
    assert method(scores * scale + shift) == pytest.approx(method(scores), abs=1e-6)


@given(any_scores, st.floats(0.01, 100))
def test_theoretical_min_does_not_depend_on_the_unit_where_the_lowest_score_is_zero(
    scores: Float64, scale: float
) -> None:
    positive = scores[scores > 0]
    assert theoretical_min(positive * scale, 0.0) == pytest.approx(theoretical_min(positive, 0.0), abs=1e-9)


@given(any_scores, st.floats(0.01, 100), st.floats(-100, 100))
def test_z_by_channel_does_not_depend_on_the_unit_of_scores_and_statistics(
    scores: Float64, scale: float, shift: float
) -> None:
    moved = standardise(scores * scale + shift, 0.3 * scale + shift, 0.1 * scale)
    assert moved == pytest.approx(standardise(scores, 0.3, 0.1), abs=1e-6)


@given(st.floats(-1, 1), st.integers(1, 5))
def test_constant_scores_are_the_best_from_0_to_1_and_average_in_deviations(score: float, count: int) -> None:
    scores = np.full(count, score)
    assert min_max(scores).tolist() == [1.0] * count
    assert theoretical_min(scores, -1.0) == pytest.approx(np.ones(count))
    assert z_score(scores).tolist() == robust(scores).tolist() == [0.0] * count


@pytest.mark.parametrize("name", ALL)
def test_no_scores_give_no_values(name: str) -> None:
    assert ALL[name](np.empty(0)).shape == (0,)


@given(any_scores)
def test_min_max_reaches_from_0_to_1_and_z_scores_have_mean_0_and_deviation_1(scores: Float64) -> None:
    if scores.size and np.ptp(scores) > 0:
        assert (min_max(scores).min(), min_max(scores).max()) == (0.0, 1.0)
        assert (z_score(scores).mean(), z_score(scores).std()) == pytest.approx((0.0, 1.0), abs=1e-9)


def test_one_outlier_moves_z_scores_and_not_the_robust_ones() -> None:
    plain = np.array([0.5, 0.4, 0.3, 0.2, 0.1])
    outlier = np.array([50.0, 0.4, 0.3, 0.2, 0.1])
    assert robust(outlier)[1:] == pytest.approx(robust(plain)[1:])
    assert z_score(outlier)[1] < 0 < z_score(plain)[1]


def test_robust_uses_the_whole_range_where_the_middle_half_is_constant() -> None:
    assert robust(np.array([0.9, 0.5, 0.5, 0.5, 0.5])).tolist() == pytest.approx([1.0, 0.0, 0.0, 0.0, 0.0])


def test_a_deviation_of_zero_gives_zeros() -> None:
    assert standardise(np.array([3.0, 1.0]), 2.0, 0.0).tolist() == [0.0, 0.0]


def test_bm25_starts_at_0_and_a_cosine_at_minus_1() -> None:
    assert lowest_score(Channel(Collection.TEXT, Field.LEXICAL)) == 0.0
    assert lowest_score(Channel(Collection.TEXT, Field.PASSAGE)) == -1.0
