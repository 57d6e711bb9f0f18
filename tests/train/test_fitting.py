"""Tests of the maps from scores to log-odds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.train.fitting import fit_isotonic_map, fit_logistic, fit_logistic_map, pool_adjacent, sigmoid


def drawn(count: int, slope: float, intercept: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Returns scores and labels of which P(right) is sigmoid(slope · score + intercept)."""
    rng = np.random.default_rng(seed)
    scores = rng.uniform(0, 1, count)
    return scores, rng.uniform(size=count) < sigmoid(slope * scores + intercept)


def test_a_logistic_map_finds_the_curve_that_made_the_labels() -> None:
    scores, right = drawn(20_000, 9.0, -6.0)
    fitted = fit_logistic_map(scores, right)
    assert fitted.slope == pytest.approx(9.0, abs=0.5)
    assert fitted.intercept == pytest.approx(-6.0, abs=0.4)


def test_an_isotonic_map_finds_a_curve_that_no_line_fits() -> None:
    rng = np.random.default_rng(0)
    scores = rng.uniform(0, 1, 20_000)
    probability = np.where(scores < 0.5, 0.1, 0.6)
    fitted = fit_isotonic_map(scores, rng.uniform(size=len(scores)) < probability)
    assert sigmoid(fitted.log_odds(np.array([0.2, 0.4, 0.6, 0.8]))).tolist() == pytest.approx(
        [0.1, 0.1, 0.6, 0.6], abs=0.06
    )


def test_a_channel_that_never_finds_anything_stays_silent() -> None:
    scores = np.linspace(0.2, 0.9, 1_000)
    fitted = fit_logistic_map(scores, np.zeros(1_000, dtype=np.bool_))
    assert sigmoid(fitted.log_odds(scores)).mean() < 0.002
    assert sigmoid(fitted.log_odds(scores)).max() < 0.1


def test_a_channel_that_is_always_right_has_finite_odds() -> None:
    scores = np.array([0.9, 0.8, 0.3, 0.2])
    fitted = fit_logistic_map(scores, np.array([True, True, False, False]))
    assert np.isfinite(fitted.log_odds(scores)).all()
    assert (np.diff(fitted.log_odds(scores)) < 0).all()


def test_scores_that_say_the_opposite_keep_their_order_and_the_share_of_hits() -> None:
    scores, right = drawn(5_000, -8.0, 2.0)
    fitted = fit_logistic_map(scores, right)
    assert fitted.slope > 0
    assert sigmoid(fitted.log_odds(scores)).mean() == pytest.approx(right.mean(), abs=0.01)


def test_constant_scores_have_the_share_of_hits() -> None:
    fitted = fit_logistic_map(np.full(98, 0.5), np.arange(98) < 24)
    assert sigmoid(fitted.log_odds(np.array([0.5])))[0] == pytest.approx(0.25, abs=0.001)


@given(
    st.lists(st.tuples(st.floats(-1, 30, allow_nan=False), st.booleans()), min_size=1, max_size=40),
    st.sampled_from([fit_logistic_map, fit_isotonic_map]),
)
def test_any_labels_give_a_map_that_keeps_order(labels, fit) -> None:  # type: ignore[no-untyped-def]
    scores = np.array([score for score, _ in labels])
    fitted = fit(scores, np.array([right for _, right in labels]))
    log_odds = fitted.log_odds(np.sort(scores))
    assert np.isfinite(log_odds).all()
    assert (np.diff(log_odds) >= -1e-12).all()  # a block of equal scores may differ by rounding


def test_weights_count_rows_as_often() -> None:
    scores, right = drawn(300, 5.0, -2.0)
    weights = np.where(right, 2.0, 1.0)
    repeated = np.concatenate([scores, scores[right]]), np.concatenate([right, right[right]])
    slopes, intercept = fit_logistic(scores[:, None], right, weights)
    expected_slopes, expected = fit_logistic(repeated[0][:, None], repeated[1])
    assert slopes[0] == pytest.approx(expected_slopes[0], rel=1e-3)
    assert intercept == pytest.approx(expected, rel=1e-3)


def test_adjacent_violators_are_pooled() -> None:
    assert list(pool_adjacent(np.array([1.0, 3.0, 2.0, 4.0, 0.0]), np.ones(5))) == [0, 1]
    assert list(pool_adjacent(np.array([1.0, 2.0, 3.0]), np.ones(3))) == [0, 1, 2]
