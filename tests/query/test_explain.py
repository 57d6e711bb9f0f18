"""The parts of an explanation add up to the score and to the relevance that the steps gave."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from penstock.config import Normalisation
from penstock.query.explanations import Combined, HitExplanation
from penstock.query.types import FuseRequest, GroupBy, Hit, SearchRequest
from penstock.records import Channel, Collection, Field
from tests.query.conftest import FaultyStore
from tests.query.test_pages import made_store, search
from tests.query.test_stages import FUSIONS

REQUEST = SearchRequest(text="word7", explain=True, limit=12)


def explanation_of(hit: Hit) -> HitExplanation:
    assert hit.explanation is not None
    return hit.explanation


def sum_of(explanation: HitExplanation) -> float | None:
    """Returns the score that the parts give; None where the values of other hits decide on it, too."""
    weighted = [value.weighted for value in explanation.score_parts.collections]
    match explanation.score_parts.combined:
        case Combined.SUM:
            assert len(weighted) == 1
            return weighted[0]
        case Combined.EITHER:
            return math.log(sum(math.exp(value) for value in weighted))
        case _:
            return None


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    calibrated=st.booleans(),
    fuse=st.sampled_from([*FUSIONS, FuseRequest("calibrated", weights={"speech": 0.5, "text.lexical": 0.3})]),
    group_by=st.sampled_from(GroupBy),
    limit=st.sampled_from([3, 40]),
)
def test_the_parts_of_a_hit_add_up(
    seed: int, calibrated: bool, fuse: FuseRequest | None, group_by: GroupBy, limit: int
) -> None:
    assume(calibrated or fuse is None or fuse.normalise != Normalisation.LOG_ODDS)
    request = replace(REQUEST, fuse=fuse, group_by=group_by, limit=limit)
    store = made_store(seed)
    result = search(store, request, calibrated=calibrated)
    assert [replace(hit, explanation=None) for hit in result.hits] == list(
        search(store, replace(request, explain=False), calibrated=calibrated).hits
    )
    for place, hit in enumerate(result.hits, start=1):
        explanation = explanation_of(hit)
        assert explanation.rank == explanation.fused_rank == place
        values = explanation.score_parts.collections
        channels = [part for value in values for part in value.channels]
        assert {(part.channel, part.rank, part.score) for part in channels if part.rank is not None} == {
            (channel.channel, channel.rank, channel.score) for channel in hit.found_by
        }
        for value in values:
            assert value.value == pytest.approx(value.constant + sum(part.part for part in value.channels))
        shares = sum(explanation.share(part.channel) for part in channels)
        assert shares == pytest.approx(1.0) or shares == 0
        assert explanation.fused_score == hit.score
        score = sum_of(explanation)
        if score is not None and place <= 3:  # what deeper searches find has at most the score of the hit before it
            assert score == pytest.approx(hit.score, abs=1e-9)
        assert (explanation.relevance_parts is None) == (hit.relevance is None)
        if explanation.relevance_parts is not None and hit.relevance is not None:
            log_odds = sum(explanation.relevance_parts.values())
            assert 1 / (1 + math.exp(-log_odds)) == pytest.approx(hit.relevance, abs=1e-9)
            assert explanation.relevance_parts.get("cap", 0.0) <= 1e-9
            if place <= 3:
                assert "cap" not in explanation.relevance_parts


@pytest.mark.parametrize(
    ("fuse", "calibrated", "combined"),
    [
        (FuseRequest("rrf"), False, {Combined.RANK}),
        (FuseRequest("weighted", "min-max"), False, {Combined.SUM, Combined.MEAN}),
        (FuseRequest("weighted", "z-score"), False, {Combined.SUM, Combined.EITHER}),
        (None, True, {Combined.SUM, Combined.EITHER}),
    ],
)
def test_every_fusion_says_how_values_become_a_score(
    fuse: FuseRequest | None, calibrated: bool, combined: set[Combined]
) -> None:
    hits = search(made_store(1), replace(REQUEST, fuse=fuse), calibrated=calibrated).hits
    assert {explanation_of(hit).score_parts.combined for hit in hits} == combined


def test_by_ranks_the_parts_are_reciprocal_ranks() -> None:
    hits = search(made_store(1), replace(REQUEST, fuse=FuseRequest("rrf", k=10))).hits
    part = next(
        part
        for hit in hits
        for value in explanation_of(hit).score_parts.collections
        for part in value.channels
        if part.channel == Channel(Collection.TEXT, Field.PASSAGE) and part.rank is not None
    )
    assert part.part == pytest.approx(part.weight / (10 + (part.rank or 0)))


def test_ranks_before_and_after_reranking_and_diversifying_are_given() -> None:
    store = made_store(2)
    plain = search(store, replace(REQUEST, limit=30), rerank_top=20)
    moved: Sequence[Hit] = plain.hits
    fused = [explanation_of(hit).fused_rank for hit in moved]
    assert sorted(fused) == list(range(1, len(fused) + 1))
    assert fused != sorted(fused)
    reranked = [explanation_of(hit).reranked_rank for hit in moved]
    assert reranked[:20] == list(range(1, 21))
    diversified = search(store, replace(REQUEST, limit=30, diversify=0.0), rerank_top=20).hits
    by_rank = {explanation_of(hit).reranked_rank: hit.entry.id for hit in diversified}
    assert all(by_rank[place] == hit.entry.id for place, hit in enumerate(moved[:20], start=1))
    assert [explanation_of(hit).rank for hit in diversified] == list(range(1, len(diversified) + 1))


def test_ranks_are_counted_over_all_pages() -> None:
    store = made_store(3)
    first = search(store, replace(REQUEST, limit=4))
    second = search(store, replace(REQUEST, limit=4, cursor=first.next_cursor))
    assert [explanation_of(hit).rank for hit in second.hits] == [5, 6, 7, 8]


def test_a_channel_that_did_not_return_a_hit_has_its_part_without_a_rank() -> None:
    faulty = FaultyStore(frozenset({Channel(Collection.TEXT, Field.PASSAGE), Channel(Collection.TEXT, Field.LEXICAL)}))
    faulty.add(Collection.TEXT, "word7")
    faulty.add(Collection.TEXT, "other")
    hits = search(faulty, REQUEST, calibrated=True).hits
    by_text = {hit.entry.text: explanation_of(hit).score_parts.collections[0].channels for hit in hits}
    assert [part.rank for part in by_text["word7"]] == [1, 1]
    assert [part.rank for part in by_text["other"]] == [2, None]
    assert by_text["other"][1].value < by_text["word7"][1].value
