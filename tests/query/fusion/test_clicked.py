"""Tests of the fusion with choices, and of its refusal where nothing is calibrated."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.config import FusionMethod, QuerySettings
from penstock.errors import QueryError
from penstock.query.fusion.base import MomentRules
from penstock.query.fusion.calibration import (
    Calibration,
    ChannelCalibration,
    CollectionCalibration,
    LogisticMap,
    Provenance,
)
from penstock.query.fusion.choose import FusionChooser
from penstock.query.fusion.clicked import either, with_clicked_relevance
from penstock.query.fusion.statistics import ChannelStatistics
from penstock.query.types import FuseOptions, FuseRequest, Rankings
from penstock.query.understand.fuse_options import fuse_options
from penstock.records import AssetRef, Channel, ClickedEntry, Collection, Entry, Field, ScoredEntry, bare_entry

PASSAGE = Channel(Collection.TEXT, Field.PASSAGE)
RULES = MomentRules(5_000, 120_000)
_CHANNEL = ChannelCalibration(LogisticMap(10.0, -5.0), -6.0, 0.4, 0.1, "minilm", "exact")
CALIBRATION = Calibration(
    {PASSAGE: _CHANNEL}, {Collection.TEXT: CollectionCalibration(-3.0)}, Provenance({}, 10, 0, "test"), _CHANNEL
)


def entry(key: str) -> Entry:
    return bare_entry(AssetRef("default", "media.text", key), Collection.TEXT)


def rankings(scores: dict[str, float], clicked: dict[str, float]) -> Rankings:
    ranked = sorted(scores.items(), key=lambda item: -item[1])
    by_channel = {PASSAGE: [ScoredEntry(entry(key), score) for key, score in ranked]}
    chosen = tuple(ClickedEntry(entry(key), log_odds, 2) for key, log_odds in clicked.items())
    return Rankings(by_channel, {}, dict.fromkeys(Collection, 50), {PASSAGE: "s"}, {}, "heron", chosen)


def order(of: Rankings, calibration: Calibration | None = CALIBRATION, **options: object) -> list[str]:
    chooser = FusionChooser(ChannelStatistics(), calibration)
    fusion = chooser.choose(FuseOptions(**options), of)  # type: ignore[arg-type]
    return [candidate.best.asset.key for _, candidate in fusion.rank(of, RULES, 10)]


def test_what_was_chosen_comes_first_also_where_no_channel_found_it() -> None:
    scores = {"a": 0.6, "b": 0.5, "c": 0.4}
    assert order(rankings(scores, {})) == ["a", "b", "c"]
    assert order(rankings(scores, {"c": 2.0})) == ["c", "a", "b"]
    assert order(rankings(scores, {"elsewhere": 2.0})) == ["elsewhere", "a", "b", "c"]
    assert order(rankings(scores, {"elsewhere": -0.5})) == ["a", "b", "elsewhere", "c"]


def test_choices_count_neither_without_a_calibration_nor_where_the_request_leaves_them_out() -> None:
    of = rankings({"a": 0.6, "b": 0.5}, {"b": 9.0})
    assert order(of) == ["b", "a"]
    assert order(of, calibration=None) == ["a", "b"]
    assert order(of, calibration=replace(CALIBRATION, clicked=None)) == ["a", "b"]
    assert order(of, clicked=0.0) == ["a", "b"]
    assert order(of, clicked=1e-6) == ["a", "b"]


@pytest.mark.parametrize("method", [FusionMethod.RRF, FusionMethod.WEIGHTED])
def test_other_methods_do_not_fuse_choices(method: FusionMethod) -> None:
    assert order(rankings({"a": 0.6, "b": 0.5}, {"b": 9.0}), method=method) == ["a", "b"]


@pytest.mark.parametrize("method", ["rrf", "weighted", "early"])
def test_clicked_is_refused_by_name_under_a_method_that_knows_no_probabilities(method: str) -> None:
    with pytest.raises(QueryError, match="clicked is fused by method calibrated only") as caught:
        fuse_options(FuseRequest(method=method, weights={"clicked": 1.0}), QuerySettings())
    assert caught.value.field == "/fuse/weights/clicked"
    assert fuse_options(FuseRequest(method=method, weights={"clicked": 0.0}), QuerySettings()).clicked == 0.0


def test_a_weight_of_choices_is_taken_by_the_method_that_fuses_them() -> None:
    assert fuse_options(FuseRequest(weights={"clicked": 2.0}), QuerySettings()).clicked == 2.0
    assert fuse_options(None, QuerySettings()).clicked == 1.0


@given(st.floats(-30, 30), st.floats(-30, 30))
def test_either_is_the_probability_that_at_least_one_holds(first: float, second: float) -> None:
    ours, theirs = (1 / (1 + math.exp(-value)) for value in (first, second))
    expected = 1 - (1 - ours) * (1 - theirs)
    assert 1 / (1 + math.exp(-either(first, second))) == pytest.approx(expected, rel=1e-6, abs=1e-12)
    assert either(first, second) >= max(first, second) - 1e-9


@pytest.mark.parametrize(("first", "second"), [(1e6, 3.0), (-1e6, -1e6), (-1e6, 2.0), (700.0, 700.0)])
def test_either_stays_finite(first: float, second: float) -> None:
    assert either(first, second) == pytest.approx(max(first, second))


@given(st.dictionaries(st.sampled_from("abcdef"), st.floats(0, 1), min_size=1), st.permutations("abcdef"))
def test_one_chosen_entry_moves_no_other_by_more_than_one_rank(scores: dict[str, float], keys: list[str]) -> None:
    before = order(rankings(scores, {}))
    after = [key for key in order(rankings(scores, {keys[0]: 3.0})) if key in before]
    for key in before:
        if key != keys[0]:
            assert abs(before.index(key) - after.index(key)) <= 1


def test_relevance_rises_by_choices_and_never_falls() -> None:
    clicked = [ClickedEntry(entry("a"), 0.0, 2), ClickedEntry(entry("new"), 0.0, 2)]
    combined = with_clicked_relevance({entry("a").id: 0.5, entry("b").id: 0.2}, clicked)
    assert np.allclose([combined[entry(key).id] for key in ("a", "b", "new")], [0.75, 0.2, 0.5])
