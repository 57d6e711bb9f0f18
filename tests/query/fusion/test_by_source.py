"""Tests of fusion by named sources."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from penstock.config import FusionMethod, Normalisation
from penstock.query.fusion.base import MomentRules
from penstock.query.fusion.choose import FusionChooser
from penstock.query.fusion.moments import compose_hit
from penstock.query.fusion.statistics import ChannelStatistics
from penstock.query.options import SourceWeight
from penstock.query.types import FuseOptions, Rankings
from penstock.records import AssetRef, Channel, Collection, Field, ScoredEntry, bare_entry
from penstock.store.filters import parse_filter

PASSAGE = Channel(Collection.TEXT, Field.PASSAGE)
RULES = MomentRules(5_000, 120_000)
OPTIONS = [
    FuseOptions(),
    FuseOptions(FusionMethod.RRF),
    *(
        FuseOptions(FusionMethod.WEIGHTED, normalise)
        for normalise in Normalisation
        if normalise is not Normalisation.LOG_ODDS
    ),
]


def rankings(count: int = 10) -> Rankings:
    entries = [
        replace(
            bare_entry(AssetRef("default", "media.text", str(number)), Collection.TEXT),
            attributes_json=f'{{"shelf": "{"odd" if number % 2 else "even"}"}}',
            text=f"text {number}",
        )
        for number in range(count)
    ]
    scored = [ScoredEntry(entry, 0.9 - 0.05 * number) for number, entry in enumerate(entries)]
    return Rankings({PASSAGE: scored}, {}, dict.fromkeys(Collection, 50), {PASSAGE: "minilm"}, text="question")


def keys(options: FuseOptions, limit: int = 10) -> list[int]:
    ranked = FusionChooser(ChannelStatistics()).choose(options, rankings()).rank(rankings(), RULES, limit)
    assert all(better >= worse for (better, _), (worse, _) in pairwise(ranked))
    return [int(candidate.best.asset.key) for _, candidate in ranked]


def source(weight: float, shelf: str = "odd") -> SourceWeight:
    condition = parse_filter({"attributes.shelf": shelf})
    assert condition is not None
    return SourceWeight(shelf, condition, weight)


@pytest.mark.parametrize("options", OPTIONS)
def test_a_weight_of_1_changes_nothing(options: FuseOptions) -> None:
    assert keys(replace(options, sources=(source(1.0),))) == keys(options) == list(range(10))


@pytest.mark.parametrize("options", [options for options in OPTIONS if options.normalise is not Normalisation.NONE])
def test_a_heavier_source_moves_its_entries_up_and_keeps_their_order(options: FuseOptions) -> None:
    order = keys(replace(options, sources=(source(1_000.0),)))
    assert order[:5] == [1, 3, 5, 7, 9] or options.normalise is Normalisation.MIN_MAX  # the last has 0 of 1
    assert [key for key in order if key % 2] == [1, 3, 5, 7, 9]
    assert [key for key in order if not key % 2] == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("options", OPTIONS)
def test_a_weight_of_0_comes_last(options: FuseOptions) -> None:
    order = keys(replace(options, sources=(source(0.0),)))
    assert set(order[5:]) == {1, 3, 5, 7, 9} or options.normalise is Normalisation.MIN_MAX


def test_the_best_of_a_source_are_found_beyond_the_limit() -> None:
    options: Any = FuseOptions(sources=(source(1_000.0),))
    assert keys(options, limit=3) == [1, 3, 5]


def test_weights_of_several_sources_multiply() -> None:
    assert keys(FuseOptions(sources=(source(100.0), source(0.01)))) == list(range(10))


@pytest.mark.parametrize("options", OPTIONS)
def test_the_explanation_has_the_weight_of_the_source(options: FuseOptions) -> None:
    chooser, of_question = FusionChooser(ChannelStatistics()), rankings()
    fusion = chooser.choose(replace(options, sources=(source(2.0),)), of_question)
    hits = [compose_hit(candidate, score, of_question) for score, candidate in fusion.rank(of_question, RULES, 10)]
    weighted = {
        hit.entry.id: parts.collections[0].weighted
        for hit, parts in zip(hits, fusion.explain(of_question, hits), strict=True)
    }
    if options.method is not FusionMethod.RRF:
        assert [weighted[hit.entry.id] for hit in hits] == pytest.approx([hit.score for hit in hits])
