"""Intervals over groups, the randomisation test and Holm's correction."""

from __future__ import annotations

import numpy as np
import pytest

from penstock.evaluate.intervals import Interval, bootstrap, holm, randomisation_p, win_tie_loss


def test_equal_seeds_give_equal_intervals() -> None:
    values = {"hit@1": np.random.default_rng(0).random(80)}
    groups = np.arange(80)
    assert bootstrap(values, groups, seed=3) == bootstrap(values, groups, seed=3)
    assert bootstrap(values, groups, seed=3) != bootstrap(values, groups, seed=4)


def test_an_interval_has_the_width_of_theory_where_each_query_is_a_group() -> None:
    values = np.random.default_rng(0).normal(0.5, 0.2, 400)
    interval = bootstrap({"x": values}, np.arange(400))["x"]
    assert interval.mean == pytest.approx(values.mean())
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.05)


def test_intervals_are_drawn_over_groups() -> None:
    """Twenty copies of a query say no more than one: the interval must not shrink."""
    rng = np.random.default_rng(0)
    once = rng.random(50)
    alone = bootstrap({"x": once}, np.arange(50))["x"]
    copied = bootstrap({"x": np.repeat(once, 20)}, np.repeat(np.arange(50), 20))["x"]
    assert copied.high - copied.low == pytest.approx(alone.high - alone.low, rel=0.05)


def test_an_interval_without_queries_is_not_a_number() -> None:
    interval = bootstrap({"x": np.zeros(0)}, np.zeros(0, dtype=np.int64))["x"]
    assert np.isnan([interval.mean, interval.low, interval.high]).all()
    assert not interval.above_zero
    assert Interval(2.0, 1.0, 3.0).above_zero


def test_p_is_one_more_than_the_extreme_draws_over_one_more_than_all() -> None:
    """No draw of 99 reaches a difference that all 60 queries share: p is 1 / 100, not 0."""
    assert randomisation_p(np.ones(60), np.arange(60), draws=99) == 1 / 100
    assert randomisation_p(np.zeros(60), np.arange(60), draws=99) == 1.0


def test_p_equals_full_enumeration_on_few_queries() -> None:
    differences = np.array([3.0, 1.0, 2.0, -1.0, 4.0, 2.0])
    signs = np.array(np.meshgrid(*[[-1, 1]] * 6)).reshape(6, -1).T
    exact = (np.abs(signs @ differences) >= abs(differences.sum())).mean()
    assert randomisation_p(differences, np.arange(6), draws=50_000) == pytest.approx(exact, abs=0.01)


def test_queries_of_one_group_are_swapped_together() -> None:
    differences = np.ones(40)
    assert randomisation_p(differences, np.zeros(40, dtype=np.int64)) == 1.0  # one group: no evidence at all
    assert randomisation_p(differences, np.arange(40)) < 0.001


def test_holm_corrects_in_steps_and_keeps_the_order() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_wins_ties_and_losses_are_counted() -> None:
    counts = win_tie_loss(np.array([0.5, 0.0, -0.1, 1e-12, 1.0]))
    assert (counts.win, counts.tie, counts.loss) == (2, 2, 1)
