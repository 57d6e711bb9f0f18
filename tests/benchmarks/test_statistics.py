from __future__ import annotations

import math

import pytest

from benchmarks.statistics import growth, median, quantile


def test_a_quantile_is_a_value_that_was_measured() -> None:
    values = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert [quantile(values, share) for share in (0.0, 0.2, 0.21, 0.5, 0.95, 1.0)] == [1, 1, 2, 3, 5, 5]


def test_the_95th_percentile_of_a_hundred_leaves_five_above() -> None:
    assert quantile([float(value) for value in range(1, 101)], 0.95) == 95


def test_the_median_of_an_even_number_lies_between() -> None:
    assert median([1.0, 9.0, 2.0, 4.0]) == 3
    assert median([7.0, 1.0, 3.0]) == 3


def test_nothing_has_neither() -> None:
    assert math.isnan(quantile([], 0.5))
    assert math.isnan(median([]))


def test_growth_compares_the_ends_of_the_stretch_and_no_more() -> None:
    series = [(0, 1.0), *((events, 100.0 + events / 1000) for events in range(2_000, 20_001, 500)), (30_000, 999.0)]
    assert growth(series, 2_000, 20_000) == pytest.approx(119.5 / 102.5 - 1)
    assert growth([(events, 50.0) for events in range(0, 20_000, 100)], 2_000, 20_000) == 0


def test_one_sample_says_nothing_of_growth() -> None:
    assert math.isnan(growth([(5_000, 1.0)], 2_000, 20_000))
