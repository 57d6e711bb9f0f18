"""Tests of relevance: probabilities of hits, what is cut, and when nothing is found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import QueryError
from penstock.query.fusion.base import MomentRules
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
from penstock.query.fusion.moments import compose_hit
from penstock.query.fusion.statistics import ChannelStatistics
from penstock.query.relevance import (
    JudgedHits,
    check_min_relevance,
    check_relevance_known,
    evidence_by_collection,
    judge,
    relevance_of_entries,
)
from penstock.query.types import FuseOptions, Query, Rankings
from penstock.records import (
    AssetRef,
    Channel,
    Collection,
    Entry,
    Field,
    ScoredEntry,
    bare_entry,
)

PASSAGE = Channel(Collection.TEXT, Field.PASSAGE)
LEXICAL = Channel(Collection.TEXT, Field.LEXICAL)
IMAGE = Channel(Collection.IMAGE, Field.JOINT)
SPEECH = Channel(Collection.SPEECH, Field.PASSAGE)
SPACES = {PASSAGE: "minilm", LEXICAL: "lexical", IMAGE: "minilm", SPEECH: "minilm"}
ENCODERS: Mapping[Channel, str | None] = {PASSAGE: "passage.text", LEXICAL: None, IMAGE: "passage.text"}

PLAIN = RelevanceMap(gain=1.0, intercept=0.0, weights=QuestionFeatures())


def calibration(
    relevance: RelevanceMap | None = PLAIN, channels: Sequence[Channel] = (PASSAGE, LEXICAL)
) -> Calibration:
    return Calibration(
        {
            channel: ChannelCalibration(LogisticMap(10.0, -6.0), -6.0, 0.4, 0.1, "minilm", "FLAT")
            for channel in channels
        },
        {channel.collection: CollectionCalibration(-4.0, relevance=relevance) for channel in channels},
        Provenance({}, 100, 0, "reference"),
    )


def entry(collection: Collection, number: int, text: str = "", times_ms: tuple[int, int] = (0, 0)) -> Entry:
    asset = AssetRef("default", f"media.{collection}", "one" if any(times_ms) else str(number))
    return replace(bare_entry(asset, collection, number), text=text, start_ms=times_ms[0], end_ms=times_ms[1])


TEXTS = [entry(Collection.TEXT, number, text) for number, text in enumerate(("a red boat", "blue sky", "old tree"))]
IMAGES = [entry(Collection.IMAGE, number) for number in range(3)]


def rankings(of_channel: Mapping[Channel, Sequence[tuple[Entry, float]]]) -> Rankings:
    by_channel = {
        channel: [ScoredEntry(scored, score) for scored, score in ranking] for channel, ranking in of_channel.items()
    }
    return Rankings(by_channel, {}, dict.fromkeys(Collection, 50), SPACES, ENCODERS)


def passages(*scores: float) -> Mapping[Channel, Sequence[tuple[Entry, float]]]:
    return {PASSAGE: list(zip(TEXTS, scores, strict=False))}


def query(text: str | None = "red boat", min_relevance: float | None = None) -> Query:
    image = b"image" if text is None else None
    collections = tuple(Collection)
    return Query(text, image, None, collections, False, None, "default", 10, 1_000, min_relevance=min_relevance)


def judged(
    of_channel: Mapping[Channel, Sequence[tuple[Entry, float]]],
    question: Query | None = None,
    *,
    known: Calibration | None = None,
    floor: float = 0.0,
) -> JudgedHits:
    searched = rankings(of_channel)
    fusion = FusionChooser(ChannelStatistics(), known).choose(FuseOptions(), searched)
    ranked = fusion.rank(searched, MomentRules(5_000, 60_000), 10)
    hits = [compose_hit(candidate, score, searched) for score, candidate in ranked]
    question = question or query()
    return judge(hits, relevance_of_entries(searched, question.text, known), question, floor=floor)


def test_relevance_is_the_probability_of_the_log_odds() -> None:
    hits = judged(passages(0.9, 0.6), known=calibration(channels=(PASSAGE,))).hits
    assert [hit.relevance for hit in hits] == pytest.approx([0.9526, 0.5], abs=1e-4)


def test_without_calibration_relevance_is_unknown_and_something_is_found() -> None:
    result = judged(passages(0.9, 0.1), floor=0.5)
    assert [hit.relevance for hit in result.hits] == [None, None]
    assert not any(hit.below_floor for hit in result.hits)
    assert (result.nothing_found, result.why) == (False, None)


def test_a_collection_without_a_map_and_one_without_calibration_have_no_relevance() -> None:
    both = {**passages(0.9), IMAGE: [(IMAGES[0], 0.8)]}
    assert {hit.entry.collection for hit in judged(both, known=calibration()).hits if hit.relevance is None} == {
        "image"
    }
    assert all(hit.relevance is None for hit in judged(both, known=calibration(None)).hits)


def test_hits_below_the_floor_are_marked_and_stay() -> None:
    result = judged(passages(0.9, 0.3), known=calibration(channels=(PASSAGE,)), floor=0.5)
    assert [hit.below_floor for hit in result.hits] == [False, True]
    assert not result.nothing_found


def test_nothing_is_found_if_the_best_hit_is_below_the_floor() -> None:
    result = judged(passages(0.5, 0.3), known=calibration(channels=(PASSAGE,)), floor=0.5)
    assert len(result.hits) == 2
    assert result.nothing_found
    assert result.why == "the best hit has a relevance of 0.27, and the floor is 0.50 (query.relevance_floor)"


def test_something_may_be_found_where_a_relevance_is_unknown() -> None:
    both = {**passages(0.3), IMAGE: [(IMAGES[0], 0.1)]}
    assert not judged(both, known=calibration(), floor=0.5).nothing_found


def test_no_hits_are_nothing_found() -> None:
    result = judged({PASSAGE: []}, known=calibration())
    assert (result.hits, result.nothing_found) == ([], True)
    assert result.why == "no entry matches the question and its filter"


def test_min_relevance_cuts_lower_and_unknown_hits() -> None:
    both = {**passages(0.9, 0.3), IMAGE: [(IMAGES[0], 0.8)]}
    result = judged(both, query(min_relevance=0.5), known=calibration(channels=(PASSAGE,)))
    assert [hit.entry for hit in result.hits] == [TEXTS[0]]
    assert not result.nothing_found


def test_min_relevance_that_no_hit_has_leaves_nothing_found() -> None:
    result = judged(passages(0.9, 0.3), query(min_relevance=0.99), known=calibration(channels=(PASSAGE,)))
    assert result.hits == []
    assert result.why == "no hit has the relevance of 0.99 that the request demands"


def test_min_relevance_is_refused_where_relevance_is_unknown() -> None:
    with pytest.raises(QueryError, match="this index has none"):
        check_min_relevance(query(min_relevance=0.5), None)
    with pytest.raises(QueryError, match="words alone"):
        check_min_relevance(query(None, min_relevance=0.5), calibration())
    check_min_relevance(query(None), None)


def test_min_relevance_is_refused_where_nothing_searched_is_calibrated() -> None:
    demanded = query(min_relevance=0.5)
    for known, channels in ((calibration(), [IMAGE]), (calibration(None), [PASSAGE])):
        with pytest.raises(QueryError, match="calibration of what is searched") as refused:
            check_relevance_known(demanded, known, channels)
        assert (refused.value.status, refused.value.field) == (400, "/min_relevance")
    check_relevance_known(demanded, calibration(), [IMAGE, PASSAGE])
    check_relevance_known(query(), calibration(), [IMAGE])


def test_why_says_that_every_cut_hit_had_an_unknown_relevance() -> None:
    result = judged({PASSAGE: [], IMAGE: [(IMAGES[0], 0.8)]}, query(min_relevance=0.5), known=calibration())
    assert (result.hits, result.nothing_found) == ([], True)
    assert result.why is not None
    assert result.why.startswith("the relevance of no hit is known")


def test_a_query_by_image_has_no_relevance() -> None:
    searched = replace(rankings(passages(0.9)), encoders={PASSAGE: "joint.image"})
    assert relevance_of_entries(searched, "red boat", calibration()) == {}
    assert relevance_of_entries(rankings(passages(0.9)), None, calibration()) == {}


def test_a_missing_channel_leaves_the_relevance_of_the_others() -> None:
    alone = relevance_of_entries(rankings(passages(0.9, 0.3)), "red boat", calibration())
    assert list(alone.values()) == pytest.approx([0.9526, 0.0474], abs=1e-4)
    both = relevance_of_entries(rankings({**passages(0.9, 0.3), LEXICAL: [(TEXTS[0], 0.7)]}), "red boat", calibration())
    assert both[TEXTS[0].id] > alone[TEXTS[0].id]


def test_a_moment_has_the_relevance_of_its_best_entry() -> None:
    near = [entry(Collection.SPEECH, number, times_ms=(number * 1_000, number * 1_000 + 900)) for number in range(2)]
    of_channel = {SPEECH: [(near[0], 0.9), (near[1], 0.3)]}
    (hit,) = judged(of_channel, known=calibration(channels=(SPEECH,))).hits
    assert hit.relevance == pytest.approx(0.9526, abs=1e-4)


def test_the_features_describe_the_question() -> None:
    searched = rankings({**passages(0.9, 0.5, 0.4), LEXICAL: [(TEXTS[0], 0.7)]})
    features = evidence_by_collection(searched, "the red boat", calibration())[Collection.TEXT].features
    assert features.lead == pytest.approx((0.9 - 0.6) / 0.21602, abs=1e-3)
    assert features.level == pytest.approx((0.9 - 0.4) / 0.1)
    assert features.lexical_level == pytest.approx((0.7 - 0.4) / 0.1)
    assert features.words == pytest.approx(1.386, abs=1e-3)
    assert features.coverage == pytest.approx(2 / 3)


def test_a_single_entry_stands_alone() -> None:
    searched = evidence_by_collection(rankings(passages(0.9)), "red boat", calibration())[Collection.TEXT]
    assert searched.features == QuestionFeatures(
        0.0, pytest.approx(5.0), 0.0, pytest.approx(1.0986, abs=1e-3), -7.0, 1.0
    )


@given(
    st.lists(st.floats(-1, 1), min_size=1, max_size=3, unique=True),
    st.lists(st.floats(0, 20), max_size=3, unique=True),
    st.lists(st.floats(-3, 3), min_size=6, max_size=6),
)
def test_relevance_never_contradicts_the_order_of_a_collection(
    dense: list[float], lexical: list[float], weights: list[float]
) -> None:
    known = calibration(RelevanceMap(0.7, -1.0, QuestionFeatures(*weights)))
    of_channel = {
        PASSAGE: list(zip(TEXTS, sorted(dense, reverse=True), strict=False)),
        LEXICAL: list(zip(reversed(TEXTS), sorted(lexical, reverse=True), strict=False)),
    }
    relevances = [hit.relevance for hit in judged(of_channel, known=known).hits]
    assert all(relevance is not None and 0 <= relevance <= 1 for relevance in relevances)
    assert relevances == sorted(relevances, key=lambda relevance: -(relevance or 0))
