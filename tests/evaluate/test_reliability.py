"""Tests of the measures of probabilities."""

from __future__ import annotations

import math

import numpy as np
import pytest

from penstock.evaluate.reliability import (
    brier_score,
    expected_calibration_error,
    found_curve,
    reliability_table,
    separation,
)


def test_true_probabilities_have_a_small_calibration_error() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.uniform(size=50_000)
    right = rng.uniform(size=50_000) < probabilities
    assert expected_calibration_error(probabilities, right) < 0.01
    assert expected_calibration_error(np.sqrt(probabilities), right) > 0.1


def test_a_bin_has_its_stated_and_observed_share() -> None:
    table = reliability_table(np.array([0.81, 0.89, 1.0, 0.05]), np.array([True, False, True, False]))
    assert (table[8].count, table[8].stated, table[8].observed) == (2, pytest.approx(0.85), 0.5)
    assert (table[9].count, table[9].observed) == (1, 1.0)
    assert math.isnan(table[3].observed)
    assert expected_calibration_error(np.array([0.81, 0.89]), np.array([True, False])) == pytest.approx(0.35)


def test_the_brier_score_is_the_mean_square() -> None:
    assert brier_score(np.array([0.9, 0.2]), np.array([True, False])) == pytest.approx((0.01 + 0.04) / 2)
    assert math.isnan(brier_score(np.zeros(0), np.zeros(0, dtype=np.bool_)))


def test_the_floor_lets_at_most_the_allowed_share_through() -> None:
    unanswerable = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95])
    answerable = np.array([0.97, 0.92, 0.91, 0.2])
    (tenth,) = found_curve(answerable, unanswerable, false_found=(0.1,))
    assert tenth.false_found == pytest.approx(0.1)
    assert tenth.kept == pytest.approx(0.75)
    assert tenth.floor == pytest.approx(0.9)


def test_equal_relevance_is_not_found() -> None:
    (point,) = found_curve(np.full(5, 0.5), np.full(5, 0.5), false_found=(0.2,))
    assert (point.false_found, point.kept) == (0.0, 0.0)


def test_separation_counts_pairs_in_order() -> None:
    assert separation(np.array([0.9, 0.5]), np.array([0.5, 0.1])) == pytest.approx((1 + 1 + 0.5 + 1) / 4)
