"""Fusion by relevance: the question decides which kind is first, and channels that found nothing do not take part."""

from __future__ import annotations

from dataclasses import replace

import pytest

from penstock.query.fusion.base import MomentRules
from penstock.query.fusion.by_relevance import RelevanceFusion
from penstock.query.fusion.calibration import (
    Calibration,
    ChannelCalibration,
    CollectionCalibration,
    LogisticMap,
    Provenance,
    QuestionFeatures,
    RelevanceMap,
)
from penstock.query.fusion.choose import FusionChooser
from penstock.query.fusion.statistics import ChannelStatistics
from penstock.query.relevance import relevance_of_entries
from penstock.query.types import FuseOptions, Rankings
from penstock.records import Channel, Collection, Field
from tests.query.fusion.test_rrf import IMAGE_JOINT, TEXT_PASSAGE
from tests.query.fusion.test_weighted import Scores, rankings_of

RULES = MomentRules(max_gap_ms=5_000, max_ms=60_000)
IMAGE_LEXICAL = Channel(Collection.IMAGE, Field.LEXICAL)
# The more the best entry leads, the more relevant it is; images have lower odds at the same score.
LEADING = QuestionFeatures(lead=2.0)
CALIBRATION = Calibration(
    {
        channel: ChannelCalibration(LogisticMap(15.0, intercept), -6.0, 0.3, 0.1, "", "")
        for channel, intercept in ((TEXT_PASSAGE, -9.0), (IMAGE_JOINT, -9.5))
    },
    {
        collection: CollectionCalibration(-4.0, relevance=RelevanceMap(1.0, -3.0, LEADING))
        for collection in (Collection.TEXT, Collection.IMAGE)
    },
    Provenance({}, 100, 0, "reference"),
)
# The best text has the higher log-odds, and the best image leads by far.
SCORES: Scores = {
    TEXT_PASSAGE: {1: 0.50, 2: 0.49, 3: 0.48, 4: 0.47},
    IMAGE_JOINT: {1: 0.50, 2: 0.20, 3: 0.20, 4: 0.20},
}


def question(scores: Scores = SCORES, text: str | None = "a red boat") -> Rankings:
    return replace(rankings_of(scores), text=text)


def ids(rankings: Rankings, calibration: Calibration = CALIBRATION, options: FuseOptions | None = None) -> list[str]:
    fusion = FusionChooser(ChannelStatistics(), calibration).choose(options or FuseOptions(), rankings)
    return [candidate.best.id for _, candidate in fusion.rank(rankings, RULES, 100)]


def test_the_order_of_kinds_is_that_of_the_relevance_of_hits() -> None:
    rankings = question()
    relevance = relevance_of_entries(rankings, rankings.text, CALIBRATION)
    order = ids(rankings)
    assert order[0].startswith("image")
    assert [relevance[id_] for id_ in order] == sorted(relevance.values(), reverse=True)


def test_log_odds_compare_kinds_where_the_words_are_not_known() -> None:
    assert ids(question(text=None))[0].startswith("text")


def test_within_each_kind_the_order_is_that_of_log_odds() -> None:
    by_relevance, by_log_odds = ids(question()), ids(question(text=None))
    for kind in ("text", "image"):
        in_order = [id_ for id_ in by_log_odds if id_.startswith(kind)]
        assert [id_ for id_ in by_relevance if id_.startswith(kind)] == in_order


def test_a_channel_without_calibration_that_found_nothing_changes_nothing() -> None:
    spaces = {**question().spaces, IMAGE_LEXICAL: "lexical"}
    assert ids(replace(question({**SCORES, IMAGE_LEXICAL: {}}), spaces=spaces)) == ids(question())


def test_a_channel_without_calibration_that_found_something_takes_part_by_its_statistics() -> None:
    spaces = {**question().spaces, IMAGE_LEXICAL: "lexical"}
    rankings = replace(question({**SCORES, IMAGE_LEXICAL: {4: 9.0}}), spaces=spaces)
    fusion = FusionChooser(ChannelStatistics(), CALIBRATION).choose(FuseOptions(), rankings)
    assert not isinstance(fusion, RelevanceFusion)
    assert any(IMAGE_LEXICAL in (hit.channel for hit in c.found_by) for _, c in fusion.rank(rankings, RULES, 100))


def test_the_hits_of_a_smaller_limit_are_the_first_of_a_larger_one() -> None:
    fusion = FusionChooser(ChannelStatistics(), CALIBRATION).choose(FuseOptions(), question())
    many = [candidate.best.id for _, candidate in fusion.rank(question(), RULES, 100)]
    for limit in range(1, 6):
        assert [candidate.best.id for _, candidate in fusion.rank(question(), RULES, limit)] == many[:limit]


@pytest.mark.parametrize(("weight", "first"), [(0.001, "text"), (1.0, "image")])
def test_the_weight_of_a_collection_counts_as_odds(weight: float, first: str) -> None:
    assert ids(question(), options=FuseOptions(weights={Collection.IMAGE: weight}))[0].startswith(first)
