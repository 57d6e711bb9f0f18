"""Tests of moving hits back that resemble those before them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.config import QuerySettings
from penstock.errors import QueryError, UnavailableError
from penstock.query.diversify import marginal_order, similarity_matrix
from penstock.query.pipeline import QueryPipeline
from penstock.query.types import SearchRequest, SearchResult
from penstock.records import Channel, Collection, Field, Float32
from tests.query.conftest import FaultyStore, WordEncoder
from tests.query.test_stages import SMALL

TEXT_AND_IMAGE = frozenset({Channel(Collection.TEXT, Field.PASSAGE), Channel(Collection.IMAGE, Field.JOINT)})


def search(store: FaultyStore, share: float | None, *, limit: int = 20, top: int = 30) -> SearchResult:
    async def run() -> SearchResult:
        pipeline = QueryPipeline(store, WordEncoder(), SMALL, QuerySettings(diversify_top=top))  # type: ignore[arg-type]
        try:
            return await pipeline.search(SearchRequest(text="heron", limit=limit, diversify=share))
        finally:
            pipeline.close()

    return asyncio.run(run())


def words(result: SearchResult) -> list[str]:
    return [hit.entry.text for hit in result.hits]


@pytest.fixture
def copies() -> FaultyStore:
    """Three copies of the best text, and others."""
    store = FaultyStore(frozenset({Channel(Collection.TEXT, Field.PASSAGE)}))
    for number, word in enumerate(["heron", "heron", "heron", "water", "boat", "reed", "stone"]):
        store.add(Collection.TEXT, word, asset=f"text-{number}")
    return store


def test_copies_of_the_best_hit_move_behind_others(copies: FaultyStore) -> None:
    assert words(search(copies, None))[:3] == ["heron"] * 3
    diversified = search(copies, 0.3)
    assert words(diversified)[0] == "heron"
    assert "heron" not in words(diversified)[1:5]
    assert sorted(words(diversified)) == sorted(words(search(copies, None)))
    scores = [hit.score for hit in diversified.hits]
    assert scores == sorted(scores, reverse=True)
    assert "diversify" in diversified.took_ms
    assert diversified.because == ()
    assert not diversified.shortened


def test_a_share_of_one_changes_nothing(copies: FaultyStore) -> None:
    assert search(copies, 1.0).hits == search(copies, None).hits


def test_only_the_first_hits_change_places(copies: FaultyStore) -> None:
    plain, diversified = words(search(copies, None)), words(search(copies, 0.0, top=4))
    assert diversified[4:] == plain[4:]
    assert diversified[1] == plain[3]


def test_hits_of_two_spaces_do_not_resemble_each_other() -> None:
    store = FaultyStore(TEXT_AND_IMAGE)
    for number in range(4):
        store.add(Collection.TEXT, "heron", asset=f"text-{number}")
        store.add(Collection.IMAGE, "heron", asset=f"image-{number}")
    kinds = [hit.entry.collection for hit in search(store, 0.5).hits]
    assert set(kinds[:2]) == {Collection.TEXT, Collection.IMAGE}


def test_without_vectors_the_order_stays_and_the_answer_says_why(copies: FaultyStore) -> None:
    copies.failing_vectors = UnavailableError("the store is down")
    result = search(copies, 0.3)
    assert result.hits == search(copies, None).hits
    assert result.because == ("The hits are not diversified: the store did not return their vectors in time.",)
    assert not result.partial
    assert result.shortened


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_outside_zero_to_one_is_refused(copies: FaultyStore, share: float) -> None:
    with pytest.raises(QueryError, match=r"diversify.lambda is .* it can be 0 to 1") as refused:
        search(copies, share)
    assert refused.value.field == "/diversify/lambda"


def unit_rows(size: int, seed: int) -> Sequence[Float32]:
    rows = np.random.default_rng(seed).normal(size=(size, 4)).astype(np.float32)
    return list(rows / np.linalg.norm(rows, axis=1, keepdims=True))


@given(size=st.integers(1, 12), seed=st.integers(0, 1_000), share=st.floats(0, 1))
def test_the_order_is_that_of_the_definition(size: int, seed: int, share: float) -> None:
    scores = np.sort(np.random.default_rng(seed).random(size))[::-1]
    similarity = similarity_matrix([dict(enumerate(unit_rows(size, seed)))], size)
    order = marginal_order(scores, similarity, share)
    assert sorted(order) == list(range(size))
    for place, row in enumerate(order):
        chosen, free = order[:place], order[place:]
        values = {
            other: share * scores[other]
            - (1 - share) * max((similarity[other, before] for before in chosen), default=0)
            for other in free
        }
        assert values[row] == pytest.approx(max(values.values()))


def test_a_row_without_a_vector_resembles_none() -> None:
    vectors = unit_rows(2, 0)
    similarity = similarity_matrix([{0: vectors[0], 2: vectors[0]}, {1: vectors[1]}], 4)
    assert similarity[0, 2] == pytest.approx(1)
    assert similarity[3].tolist() == [0, 0, 0, 0]
    assert similarity[1, [0, 2, 3]].tolist() == [0, 0, 0]
