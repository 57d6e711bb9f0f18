"""Tests how room is divided."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from penstock.query.generate.shares import divide

PARTS = st.lists(st.tuples(st.integers(0, 5_000), st.sampled_from([0.0, 0.1, 0.5, 0.6, 0.8, 1.0])), max_size=8)


def test_what_fits_gets_what_it_needs() -> None:
    assert divide([10, 20, 30], [0.8, 0.6, 0.5], 60) == [10, 20, 30]


def test_room_is_divided_by_weight_where_all_need_more() -> None:
    assert divide([9_999, 9_999, 9_999], [0.8, 0.6, 0.5], 1_900) == [800, 600, 500]


def test_what_one_does_not_need_the_others_get_by_their_weights() -> None:
    assert divide([9_999, 0, 9_999], [0.8, 0.6, 0.5], 1_300) == [800, 0, 500]
    assert divide([100, 9_999, 9_999], [0.8, 0.6, 0.5], 1_200) == [100, 600, 500]


def test_a_weight_of_zero_gets_nothing() -> None:
    assert divide([10, 10], [1.0, 0.0], 100) == [10, 0]


@given(PARTS, st.integers(0, 10_000))
def test_shares_are_bounded_by_needs_and_room_and_no_room_is_wasted(parts: list[tuple[int, float]], room: int) -> None:
    needs, weights = [need for need, _ in parts], [weight for _, weight in parts]
    shares = divide(needs, weights, room)
    assert all(0 <= share <= need for share, need in zip(shares, needs, strict=True))
    assert sum(shares) <= room
    wanting = sum(need for need, weight in parts if weight)
    assert sum(shares) >= min(wanting, room) - len(parts)  # but for rounding down
