"""Tests of what the pages of a search have in common."""

from __future__ import annotations

from penstock.query.fusion.pins import FusionPins
from penstock.query.fusion.statistics import Spread


def test_a_spread_that_was_noted_is_not_asked_for_again() -> None:
    pins = FusionPins()
    assert pins.spread("text.lexical", lambda: Spread(1.0, 2.0)) == Spread(1.0, 2.0)
    assert pins.spread("text.lexical", lambda: Spread(9.0, 9.0)) == Spread(1.0, 2.0)


def test_a_later_page_has_the_first_kind_of_the_first_page() -> None:
    first = FusionPins()
    leader = first.leader(lambda best: "image")
    assert leader is not None
    assert leader({"text": 0.9, "image": 0.8}) == "image"
    later = FusionPins(first.spreads, first.first, noted=True).leader(lambda best: "text")
    assert later is not None
    assert later({"text": 0.9, "image": 0.8}) == "image"
    assert later({"text": 0.9, "moment": 0.95}) == "moment"


def test_a_later_page_has_no_leader_if_the_first_page_had_none() -> None:
    first = FusionPins()
    assert first.leader(None) is None
    assert FusionPins(noted=True).leader(lambda best: "image") is None
