"""Whole searches by several parts: what they find, and the laws that compositions obey."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.config import QuerySettings
from penstock.errors import QueryError
from penstock.query.fingerprint import fingerprint
from penstock.query.parts.base import PartsRequest, QueryPart
from penstock.query.parts.reasons import NO_RELEVANCE, NO_RERANKING
from penstock.query.pipeline import QueryPipeline
from penstock.query.types import RerankRequest, SearchRequest, SearchResult
from penstock.records import Collection, ImageRegion
from tests.query.parts.catalog import REFERENCE, SMALL, Catalog, ids

THINGS = ("cat", "dog", "boat", "tree", "red cat", "red boat", "blue boat", "blue tree", "green dog")
things = st.sampled_from(THINGS)
few = settings(max_examples=40, deadline=None)


def catalog(profile: Any = REFERENCE) -> Catalog:
    """Returns an index with an image and a text of each thing."""
    index = Catalog(profile)
    for thing in THINGS:
        index.add(Collection.IMAGE, thing)
        index.add(Collection.TEXT, thing)
    return index


ONE_SPACE, TWO_SPACES = catalog(REFERENCE), catalog(SMALL)
catalogs = st.sampled_from([ONE_SPACE, TWO_SPACES])


def image_of(index: Catalog, thing: str) -> str:
    return index.add(Collection.IMAGE, thing).id  # the same entry again


def text_of(index: Catalog, thing: str) -> str:
    return index.add(Collection.TEXT, thing).id


def found(result: SearchResult) -> list[tuple[str, float, float | None, list[tuple[str, int, float]]]]:
    """Returns all that a search says about its hits."""
    return [
        (
            hit.entry.id,
            hit.score,
            hit.relevance,
            [(str(by.channel), by.rank, by.score) for by in hit.found_by],
        )
        for hit in result.hits
    ]


# --- laws -------------------------------------------------------------------------------------------------------------


@few
@given(catalogs, things, st.floats(0.1, 1), st.floats(0.1, 1))
def test_the_same_image_twice_finds_itself_first(index: Catalog, thing: str, image: float, frame: float) -> None:
    id_ = image_of(index, thing)
    parts = PartsRequest(frame=id_, compose={"image": image, "frame": frame})
    (result,) = index.search(SearchRequest(image=thing.encode(), parts=parts, modalities=["image"]))
    assert ids(result)[0] == id_
    assert result.hits[0].found_by[0].score == pytest.approx(1, abs=1e-5)


@few
@given(catalogs, things, things, st.floats(0.1, 1))
def test_a_part_of_weight_0_changes_nothing(index: Catalog, words: str, image: str, weight: float) -> None:
    weighted = SearchRequest(text=words, image=image.encode(), parts=PartsRequest(compose={"text": weight, "image": 0}))
    composed, alone = index.search(weighted, SearchRequest(text=words))
    assert found(composed) == found(alone)
    assert (composed.because, composed.weights) == (alone.because, {})
    weighted = replace(weighted, parts=PartsRequest(compose={"text": 0, "image": weight}))
    composed, alone = index.search(weighted, SearchRequest(image=image.encode()))
    assert found(composed) == found(alone)


@few
@given(
    catalogs,
    st.permutations(THINGS[:3]),
    st.permutations(["blue", "green", "stone"]),
    st.permutations(list({"text": 0.5, "image": 0.3, "like": 0.7, "not": 0.2}.items())),
)
def test_the_order_of_what_is_listed_changes_nothing(
    index: Catalog, like: Sequence[str], avoided: Sequence[str], weights: Sequence[tuple[str, float]]
) -> None:
    def request(like: Sequence[str], avoided: Sequence[str], weights: Mapping[str, float]) -> SearchRequest:
        parts = PartsRequest(like=[image_of(index, thing) for thing in like], not_texts=avoided, compose=weights)
        return SearchRequest(text="red", image=b"boat", parts=parts)

    permuted, sorted_ = index.search(
        request(like, avoided, dict(weights)), request(sorted(like), sorted(avoided), dict(sorted(weights)))
    )
    assert found(permuted) == found(sorted_)


@few
@given(catalogs, things, st.integers(1, 20))
def test_like_finds_what_is_nearest_and_not_the_entry_itself(index: Catalog, thing: str, limit: int) -> None:
    id_ = image_of(index, thing)
    request = SearchRequest(parts=PartsRequest(like=[id_]), modalities=["image"], limit=limit)
    (result,) = index.search(request)
    assert id_ not in ids(result)
    assert len(result.hits) == min(limit, len(THINGS) - 1)
    (by_image,) = index.search(SearchRequest(image=thing.encode(), modalities=["image"], limit=limit + 1))
    assert [id_, *ids(result)] == list(ids(by_image))


@few
@given(catalogs, things)
def test_a_frame_is_searched_by_as_its_image(index: Catalog, thing: str) -> None:
    by_frame, by_image = index.search(
        SearchRequest(parts=PartsRequest(frame=image_of(index, thing))), SearchRequest(image=thing.encode())
    )
    assert found(by_frame) == found(by_image)
    assert (by_frame.image_source, by_image.image_source) == ("stored vector", None)


# --- what is found ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", [ONE_SPACE, TWO_SPACES], ids=["one space", "two spaces"])
def test_words_change_what_a_image_finds(index: Catalog) -> None:
    (result,) = index.search(SearchRequest(text="red", image=b"boat", modalities=["image"]))
    assert result.hits[0].entry.title == "red boat"
    assert result.weights == {QueryPart.TEXT: 1.0, QueryPart.IMAGE: 1.0}


def test_parts_without_a_common_space_are_searched_for_by_channels_of_their_own() -> None:
    (result,) = TWO_SPACES.search(SearchRequest(text="tree", image=b"boat"))
    channels = {str(by.channel) for hit in result.hits for by in hit.found_by}
    assert channels == {"text.passage", "text.joint", "text.lexical", "image.joint"}
    scores = {str(by.channel): by.score for hit in result.hits if hit.entry.title == "tree" for by in hit.found_by}
    assert scores["text.passage"] == pytest.approx(1, abs=1e-5)  # the words alone
    assert 0.5 < scores["text.joint"] < 0.9  # both


def test_what_is_avoided_ranks_lower() -> None:
    plain, without = ONE_SPACE.search(
        SearchRequest(text="blue boat", modalities=["image"]),
        SearchRequest(text="blue boat", modalities=["image"], parts=PartsRequest(not_texts=["blue"])),
    )
    assert plain.hits[0].entry.title == "blue boat"
    assert [hit.entry.title for hit in without.hits[:2]] == ["boat", "blue boat"]
    assert without.weights == {QueryPart.TEXT: 1.0, QueryPart.NOT: 0.5}


def test_an_avoided_entry_is_no_hit() -> None:
    avoided = image_of(ONE_SPACE, "blue boat")
    (result,) = ONE_SPACE.search(SearchRequest(text="boat", parts=PartsRequest(not_like=[avoided])))
    assert avoided not in ids(result)


def test_lexical_channels_take_the_words_alone() -> None:
    words, composed = ONE_SPACE.search(
        SearchRequest(text="boat"),
        SearchRequest(text="boat", image=b"tree", parts=PartsRequest(not_texts=["blue"])),
    )

    def lexical(result: SearchResult) -> set[tuple[str, float]]:
        return {
            (hit.entry.title, by.score)
            for hit in result.hits
            for by in hit.found_by
            if str(by.channel) == "text.lexical"
        }

    assert len(lexical(words)) == 3
    assert lexical(words) == lexical(composed)


def test_a_region_of_the_image_is_searched_for() -> None:
    upper = SearchRequest(image=b"red boat", parts=PartsRequest(region=ImageRegion(0, 0, 1, 0.5)), modalities=["image"])
    whole, part = ONE_SPACE.search(SearchRequest(image=b"red boat", modalities=["image"]), upper)
    assert whole.hits[0].entry.title == "red boat"
    assert found(part) == found(ONE_SPACE.search(SearchRequest(image=b"red", modalities=["image"]))[0])


def test_the_relevance_of_several_parts_is_not_known_and_the_answer_says_so() -> None:
    words, both = ONE_SPACE.search(SearchRequest(text="boat"), SearchRequest(text="boat", image=b"boat"))
    assert NO_RELEVANCE in both.because
    assert NO_RELEVANCE not in words.because
    assert {hit.relevance for hit in both.hits} == {None}


def test_a_text_that_is_liked_finds_texts_and_images_of_its_space() -> None:
    (result,) = ONE_SPACE.search(SearchRequest(parts=PartsRequest(like=[text_of(ONE_SPACE, "red cat")]), limit=4))
    assert ("image", "red cat") in {(hit.entry.collection, hit.entry.title) for hit in result.hits}
    (result,) = TWO_SPACES.search(SearchRequest(parts=PartsRequest(like=[image_of(TWO_SPACES, "red cat")])))
    assert {str(by.channel) for hit in result.hits for by in hit.found_by} == {"image.joint", "text.joint"}


def test_several_liked_entries_find_what_is_between_them() -> None:
    like = [image_of(ONE_SPACE, "red cat"), image_of(ONE_SPACE, "blue boat")]
    (result,) = ONE_SPACE.search(SearchRequest(parts=PartsRequest(like=like), modalities=["image"]))
    assert {hit.entry.title for hit in result.hits[:3]} == {"cat", "boat", "red boat"}


# --- what is refused --------------------------------------------------------------------------------------------------

ABSENT = "0" * 32


def refusal(index: Catalog, request: SearchRequest) -> tuple[int, str | None, str]:
    with pytest.raises(QueryError) as caught:
        index.search(request)
    return caught.value.status, caught.value.field, str(caught.value)


@pytest.mark.parametrize(
    ("parts", "field"),
    [
        (PartsRequest(like=[ABSENT]), "/like/0"),
        (PartsRequest(not_like=[ABSENT]), "/not/like/0"),
        (PartsRequest(frame=ABSENT), "/frame/id"),
    ],
)
def test_an_entry_of_another_tenant_is_answered_as_an_absent_one(parts: PartsRequest, field: str) -> None:
    others = ONE_SPACE.add(Collection.IMAGE, "secret", tenant="other").id
    theirs = replace(
        parts,
        like=parts.like and [others],
        not_like=parts.not_like and [others],
        frame=parts.frame and others,
    )
    absent = refusal(ONE_SPACE, SearchRequest(text="cat", parts=parts))
    assert absent[:2] == (400, field)
    status, pointer, message = refusal(ONE_SPACE, SearchRequest(text="cat", parts=theirs))
    assert (status, pointer, message.replace(others, ABSENT)) == absent


def test_the_store_is_called_alike_for_an_absent_entry_and_for_one_of_another_tenant() -> None:
    others = ONE_SPACE.add(Collection.IMAGE, "secret", tenant="other").id

    def calls(id_: str) -> list[str]:
        counted: list[str] = []

        class Counted:
            def __getattr__(self, name: str) -> Any:
                counted.append(name)
                return getattr(ONE_SPACE.store, name)

        async def search() -> None:
            pipeline = QueryPipeline(Counted(), ONE_SPACE.encoder, REFERENCE, QuerySettings())  # type: ignore[arg-type]
            try:
                await pipeline.search(SearchRequest(parts=PartsRequest(like=[id_])))
            finally:
                pipeline.close()

        with pytest.raises(QueryError):
            asyncio.run(search())
        return sorted(counted)

    assert calls(others) == calls(ABSENT)


def test_an_entry_without_a_vector_is_named() -> None:
    bare = ONE_SPACE.bare(Collection.IMAGE, "bare").id
    status, field, message = refusal(ONE_SPACE, SearchRequest(parts=PartsRequest(like=[bare])))
    assert (status, field) == (400, "/like/0")
    assert "has no vector" in message


def test_a_passage_is_no_image() -> None:
    request = SearchRequest(parts=PartsRequest(frame=text_of(ONE_SPACE, "cat")))
    status, field, message = refusal(ONE_SPACE, request)
    assert (status, field) == (400, "/frame/id")
    assert "is of text and has no image" in message


def test_weights_need_a_common_space() -> None:
    both = SearchRequest(
        text="cat", image=b"cat", modalities=["text", "audio"], parts=PartsRequest(compose={"text": 2})
    )
    assert ids(TWO_SPACES.search(both)[0])  # text.joint has both
    apart = replace(both, modalities=["audio"])
    TWO_SPACES.add(Collection.SPEECH, "cat")
    status, field, _ = refusal(TWO_SPACES, apart)
    assert (status, field) == (400, "/compose/image")
    (left_out,) = TWO_SPACES.search(replace(apart, parts=PartsRequest()))
    assert left_out.because == ("The part image was left out: nothing that is searched compares with it.",)
    assert {str(by.channel) for hit in left_out.hits for by in hit.found_by} <= {"speech.passage", "speech.lexical"}


def test_what_nothing_can_avoid_is_refused() -> None:
    TWO_SPACES.add(Collection.SPEECH, "cat")
    parts = PartsRequest(not_like=[image_of(TWO_SPACES, "cat")])
    request = SearchRequest(text="boat", modalities=["audio"], parts=parts)
    assert refusal(TWO_SPACES, request)[:2] == (400, "/not")


def test_what_is_wanted_and_avoided_alike_cancels_out() -> None:
    like = [image_of(ONE_SPACE, "cat")]
    same = ONE_SPACE.add(Collection.IMAGE, "cat", key="copy").id
    parts = PartsRequest(like=like, not_like=[same], compose={"like": 1, "not": 1})
    assert refusal(ONE_SPACE, SearchRequest(parts=parts))[:2] == (400, "/not")
    assert np.isfinite(ONE_SPACE.search(SearchRequest(parts=replace(parts, compose=None)))[0].hits[0].score)


@pytest.mark.parametrize("image", [b"boat", None])
def test_min_relevance_is_refused_for_what_is_not_words_alone(image: bytes | None) -> None:
    request = SearchRequest(text="cat", image=image, min_relevance=0.5)
    assert refusal(ONE_SPACE, request)[:2] == (400, "/min_relevance")


def test_what_is_not_words_alone_is_not_reranked_and_the_answer_says_so() -> None:
    class Reader:
        reranks_by = "maxsim"

        def tokens_to_read(self, passages: Sequence[str]) -> Sequence[int]:
            return [1] * len(passages)

        async def score_passages(self, question: str, passages: Sequence[str]) -> Any:
            return np.arange(len(passages), dtype=np.float32)

    def searched(request: SearchRequest) -> SearchResult:
        async def search() -> SearchResult:
            pipeline = QueryPipeline(ONE_SPACE.store, ONE_SPACE.encoder, REFERENCE, QuerySettings(), reader=Reader())
            try:
                return await pipeline.search(request)
            finally:
                pipeline.close()

        return asyncio.run(search())

    words = SearchRequest(text="boat", rerank=RerankRequest(model="auto"))
    assert searched(words).rerank is not None
    both = searched(replace(words, image=b"boat"))
    assert both.rerank is None
    assert NO_RERANKING in both.because


def test_pages_of_a_composed_search_are_one_large_page() -> None:
    parts = PartsRequest(not_texts=["blue"], compose={"text": 0.4, "image": 0.6})
    request = SearchRequest(text="red", image=b"boat", parts=parts, limit=4)
    (whole,) = ONE_SPACE.search(replace(request, limit=8))
    (first,) = ONE_SPACE.search(request)
    (second,) = ONE_SPACE.search(replace(request, cursor=first.next_cursor))
    assert [*ids(first), *ids(second)] == list(ids(whole))


@pytest.mark.parametrize(
    "parts",
    [
        PartsRequest(like=["a"]),
        PartsRequest(not_like=["a"]),
        PartsRequest(not_texts=["a"]),
        PartsRequest(frame="a"),
        PartsRequest(region=ImageRegion(0, 0, 0.5, 0.5)),
        PartsRequest(compose={"text": 0.5}),
    ],
)
def test_a_part_makes_another_request_for_cursors_and_cached_answers(parts: PartsRequest) -> None:
    words = SearchRequest(text="cat")
    assert fingerprint(replace(words, parts=parts)) != fingerprint(words)
    assert fingerprint(replace(words, parts=PartsRequest())) == fingerprint(words)
