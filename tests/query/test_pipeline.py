"""Tests whole searches: the channels that are searched, and the result if one of them fails or is late."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from penstock.config import QuerySettings
from penstock.encoders.profiles import Profile, load_profile
from penstock.errors import OverloadedError, PermanentError, QueryError, UnavailableError
from penstock.query.fusion.choose import FusionChooser
from penstock.query.fusion.statistics import ChannelStatistics
from penstock.query.options import RerankRequest
from penstock.query.pipeline import QueryPipeline
from penstock.query.rerank import NO_MODEL
from penstock.query.route import NOT_OFFERED
from penstock.query.routing.exemplars import Exemplars
from penstock.query.routing.proposals import FilterProposals
from penstock.query.routing.router import Router
from penstock.query.routing.sources import NamedSources
from penstock.query.routing.words import ModalityWords
from penstock.query.types import FuseRequest, Rankings, SearchRequest, SearchResult
from penstock.records import (
    Access,
    Channel,
    Checkpoint,
    Collection,
    Field,
    Float32,
    MediaPosition,
    ScoredEntry,
    Version,
)
from penstock.store.base import EntryQuery
from penstock.store.filters import parse_filter
from tests.query.conftest import word_vector

# Texts and images share a space of their own; the sentence encoder knows English.
SMALL = replace(load_profile("small"), passage=load_profile("reference").passage)
REFERENCE = load_profile("reference")  # one space for everything
TEXT_PASSAGE = Channel(Collection.TEXT, Field.PASSAGE)
TEXT_LEXICAL = Channel(Collection.TEXT, Field.LEXICAL)
IMAGE_JOINT = Channel(Collection.IMAGE, Field.JOINT)
FRAME_JOINT = Channel(Collection.FRAME, Field.JOINT)
SPEECH_LEXICAL = Channel(Collection.SPEECH, Field.LEXICAL)
SPEECH_PASSAGE = Channel(Collection.SPEECH, Field.PASSAGE)


NOTHING_READ = (
    "Of 2 hits with words 0 were reranked within the {} ms that there were; the others keep the places of the fusion."
)


def ask(store: Any, encoder: Any, request: SearchRequest, profile: Profile = SMALL, **settings: Any) -> SearchResult:
    async def run() -> SearchResult:
        pipeline = QueryPipeline(store, encoder, profile, QuerySettings(**settings))
        try:
            return await pipeline.search(request)
        finally:
            pipeline.close()

    return asyncio.run(run())


async def until(condition: Callable[[], bool]) -> None:
    """Lets other tasks run until the condition holds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  (no event signals this count)
            await asyncio.sleep(0)


def test_a_word_finds_its_image_and_its_text_first(store: Any, encoder: Any) -> None:
    for key in ("cat", "dog", "boat"):
        store.add(Collection.TEXT, key)
        store.add(Collection.IMAGE, key)
    result = ask(store, encoder, SearchRequest(text="cat"))
    assert {(hit.entry.collection, hit.entry.title) for hit in result.hits[:2]} == {("text", "cat"), ("image", "cat")}
    assert not result.partial
    assert result.missing == {}


def test_every_hit_names_its_channels_with_rank_and_raw_score(store: Any, encoder: Any) -> None:
    store.add(Collection.TEXT, "cat")
    store.add(Collection.TEXT, "dog")
    (cat, dog) = ask(store, encoder, SearchRequest(text="cat")).hits
    assert [(str(by.channel), by.rank) for by in cat.found_by] == [
        ("text.passage", 1),
        ("text.joint", 1),
        ("text.lexical", 1),
    ]
    assert cat.found_by[0].score == pytest.approx(1.0, abs=1e-5)
    assert [str(by.channel) for by in dog.found_by] == ["text.passage", "text.joint"]


def test_a_question_in_a_language_that_the_sentence_encoder_does_not_know_gets_a_notice(
    store: Any, encoder: Any
) -> None:
    store.add(Collection.TEXT, "cat")
    result = ask(store, encoder, SearchRequest(text="ねこ"), REFERENCE)
    assert result.language == "ja"
    assert "looks Japanese" in result.notices[0]
    result = ask(store, encoder, SearchRequest(text="cat"), REFERENCE)
    assert (result.language, result.notices) == (None, ())


def test_an_image_finds_images_and_texts(store: Any, encoder: Any) -> None:
    for key in ("cat", "dog"):
        store.add(Collection.TEXT, key)
        store.add(Collection.IMAGE, key)
    result = ask(store, encoder, SearchRequest(image=b"dog", limit=2), REFERENCE)
    assert {(hit.entry.collection, hit.entry.title) for hit in result.hits} == {("text", "dog"), ("image", "dog")}


def test_one_vector_serves_every_channel_of_its_encoder(store: Any, encoder: Any) -> None:
    ask(store, encoder, SearchRequest(text="cat"), REFERENCE)
    assert encoder.calls == [("passage.text", "cat")]


def test_tenant_and_candidates_reach_every_channel(store: Any, encoder: Any) -> None:
    store.add(Collection.TEXT, "cat", tenant="acme")
    assert ask(store, encoder, SearchRequest(text="cat")).hits == []
    result = ask(store, encoder, SearchRequest(text="cat", access=Access.to_all_of("acme"), limit=70), candidates=50)
    assert [hit.entry.asset.tenant for hit in result.hits] == ["acme"]
    assert {(tenant, limit) for _, tenant, limit, _ in store.calls[-4:]} == {("acme", 50)}


def test_searches_with_a_condition_are_not_counted_in_the_statistics(store: Any, encoder: Any) -> None:
    store.add(Collection.TEXT, "cat")
    fusions = FusionChooser(ChannelStatistics())

    async def run() -> None:
        pipeline = QueryPipeline(store, encoder, SMALL, QuerySettings(), fusions=fusions)
        try:
            canary = SearchRequest(text="cat", where=parse_filter({"attributes.canary": "nonce"}), limit=1)
            assert (await pipeline.search(canary)).hits
            assert fusions.statistics.blocks() == {}
            await pipeline.search(SearchRequest(text="cat"))
        finally:
            pipeline.close()

    asyncio.run(run())
    assert fusions.statistics.questions == 1


def test_a_channel_that_fails_is_left_out_and_named(store: Any, encoder: Any) -> None:
    store.add(Collection.TEXT, "cat")
    store.add(Collection.IMAGE, "cat")
    store.failing[TEXT_LEXICAL] = UnavailableError("the store hung up")
    result = ask(store, encoder, SearchRequest(text="cat"))
    assert result.partial
    assert result.missing == {TEXT_LEXICAL: "the store hung up"}
    assert len(result.hits) == 2


def test_an_unexpected_error_costs_one_channel_and_is_logged(
    store: Any, encoder: Any, caplog: pytest.LogCaptureFixture
) -> None:
    store.add(Collection.TEXT, "cat")
    store.failing[TEXT_LEXICAL] = ZeroDivisionError("secret")
    result = ask(store, encoder, SearchRequest(text="cat"))
    assert result.hits
    assert "secret" not in result.missing[TEXT_LEXICAL]
    assert "secret" in caplog.text


def test_a_channel_that_hangs_costs_no_more_than_the_deadline(store: Any, encoder: Any) -> None:
    store.add(Collection.TEXT, "cat")
    store.hanging.add(IMAGE_JOINT)
    started = time.monotonic()
    result = ask(store, encoder, SearchRequest(text="cat", deadline_ms=200))
    assert time.monotonic() - started < 2
    assert result.missing == {IMAGE_JOINT: "did not answer within the deadline"}
    assert result.partial
    assert result.hits[0].entry.title == "cat"


def test_channels_are_searched_concurrently(store: Any, encoder: Any) -> None:
    """All four hang until the last is called: one after the other they would never end."""
    all_called = threading.Barrier(4, timeout=10)
    search = store.search

    def together(*args: Any, **options: Any) -> Any:
        all_called.wait()
        return search(*args, **options)

    store.search = together
    assert not ask(store, encoder, SearchRequest(text="cat", deadline_ms=20_000)).partial


def test_the_store_is_given_the_time_that_is_left(store: Any, encoder: Any) -> None:
    ask(store, encoder, SearchRequest(text="cat", deadline_ms=500))
    assert all(0 < timeout_s <= 0.5 for *_, timeout_s in store.calls)


def test_a_dead_encoder_costs_only_the_channels_that_need_it(store: Any, encoder: Any) -> None:
    store.add(Collection.TEXT, "cat")
    encoder.failing["joint.text"] = UnavailableError("the GPU is gone")
    result = ask(store, encoder, SearchRequest(text="cat"))
    assert {str(channel): reason for channel, reason in result.missing.items()} == {
        "text.joint": "the GPU is gone",
        "image.joint": "the GPU is gone",
    }
    assert [str(by.channel) for by in result.hits[0].found_by] == ["text.passage", "text.lexical"]


def test_no_answer_from_any_channel_is_an_error_with_the_reasons(store: Any, encoder: Any) -> None:
    for channel in store.channels():
        store.failing[channel] = UnavailableError("connection refused")
    with pytest.raises(UnavailableError, match="connection refused"):
        ask(store, encoder, SearchRequest(text="cat"))


def test_a_query_that_the_store_rejects_is_the_clients_fault(store: Any, encoder: Any) -> None:
    store.failing[TEXT_LEXICAL] = QueryError("no such attribute", field="/filter")
    with pytest.raises(QueryError, match="no such attribute"):
        ask(store, encoder, SearchRequest(text="cat"))


def test_an_invalid_image_is_the_clients_fault(store: Any, encoder: Any) -> None:
    encoder.failing["joint.image"] = QueryError("not an image", status=422, field="/image")
    with pytest.raises(QueryError, match="not an image"):
        ask(store, encoder, SearchRequest(image=b"cat"))


def test_a_text_that_no_encoder_takes_is_still_searched_for_by_bm25(store: Any, encoder: Any) -> None:
    store.add(Collection.TEXT, "cat")
    for role in ("joint.text", "passage.text"):
        encoder.failing[role] = PermanentError("too strange")
    result = ask(store, encoder, SearchRequest(text="cat"))
    assert [str(by.channel) for by in result.hits[0].found_by] == ["text.lexical"]


def test_a_channel_that_the_store_does_not_offer_is_missing_but_not_partial(make_store: Any, encoder: Any) -> None:
    store = make_store(frozenset({TEXT_PASSAGE, IMAGE_JOINT}))
    result = ask(store, encoder, SearchRequest(text="cat"))
    assert set(result.missing.values()) == {NOT_OFFERED}
    assert not result.partial


def test_an_empty_index_gives_an_empty_result(make_store: Any, encoder: Any) -> None:
    result = ask(make_store(frozenset()), encoder, SearchRequest(text="cat"))
    assert (result.hits, result.partial) == ([], False)


def test_a_hung_store_fills_a_bounded_queue_and_then_rejects_immediately(store: Any, encoder: Any) -> None:
    store.hanging.update(store.channels())

    async def run() -> None:
        pipeline = QueryPipeline(store, encoder, SMALL, QuerySettings(search_threads=4, search_queue_size=4))
        late = [asyncio.create_task(pipeline.search(SearchRequest(text="cat", deadline_ms=150))) for _ in range(2)]
        outcomes = await asyncio.gather(*late, return_exceptions=True)
        assert all(isinstance(outcome, UnavailableError) for outcome in outcomes)
        assert pipeline.executor.pending == 4  # waiting calls were dropped; hanging ones keep their threads
        waiting = asyncio.create_task(pipeline.search(SearchRequest(text="cat", deadline_ms=5_000)))
        await until(lambda: pipeline.executor.pending == 8)
        with pytest.raises(OverloadedError):
            await pipeline.search(SearchRequest(text="cat", deadline_ms=5_000))
        store.release.set()
        assert not (await waiting).partial
        pipeline.close()

    asyncio.run(run())


def test_took_ms_adds_up_to_the_total(store: Any, encoder: Any) -> None:
    took_ms = ask(store, encoder, SearchRequest(text="cat")).took_ms
    assert list(took_ms) == ["understand", "route", "encode", "search", "fuse", "judge", "mark", "total"]
    *steps, total = took_ms.values()
    assert total == pytest.approx(sum(steps), abs=0.01)


def test_new_channels_are_noticed_without_a_restart(store: Any, encoder: Any) -> None:
    now = [0.0]

    async def run() -> None:
        pipeline = QueryPipeline(store, encoder, SMALL, QuerySettings(), clock=lambda: now[0])
        store._channels = frozenset({TEXT_PASSAGE})
        await pipeline.search(SearchRequest(text="cat"))
        store._channels = frozenset({TEXT_PASSAGE, TEXT_LEXICAL})
        now[0] = 60.0
        while TEXT_LEXICAL not in {call[0] for call in store.calls}:
            await pipeline.search(SearchRequest(text="cat"))
        pipeline.close()

    asyncio.run(asyncio.wait_for(run(), 10))


def add_videos(store: Any, videos: int, shots: int) -> None:
    """Adds videos that show a cat in this number of shots each."""
    for video in range(videos):
        for shot in range(shots):
            times_ms = (400 * shot, 400 * shot + 399)
            store.add(Collection.FRAME, "cat", asset=f"video-{video}", part=shot, times_ms=times_ms)


def test_speech_and_a_frame_at_the_same_time_are_one_hit(make_store: Any, encoder: Any) -> None:
    store = make_store(frozenset({FRAME_JOINT, SPEECH_LEXICAL}))
    store.add(Collection.SPEECH, "cat", asset="video", times_ms=(4_000, 9_000))
    store.add(Collection.FRAME, "cat", asset="video", times_ms=(5_000, 6_000))
    store.add(Collection.FRAME, "cat", asset="video", part=1, times_ms=(60_000, 61_000))
    both, shown = ask(store, encoder, SearchRequest(text="cat"), max_moment_gap_ms=1_000).hits
    assert [str(by.channel) for by in both.found_by] == ["frame.joint", "speech.lexical"]
    assert [str(by.channel) for by in shown.found_by] == ["frame.joint"]
    assert [(hit.moment.start_ms, hit.moment.end_ms) for hit in (both, shown)] == [(5_000, 6_000), (60_000, 61_000)]


def test_hits_of_a_version_that_is_still_being_indexed_are_marked(make_store: Any, encoder: Any) -> None:
    store = make_store(frozenset({FRAME_JOINT, IMAGE_JOINT}))
    video, other = (store.add(Collection.FRAME, "cat", asset=name, times_ms=(0, 5_000)) for name in ("video", "other"))
    store.add(Collection.IMAGE, "cat")
    same_version = Checkpoint(video.asset, Version(0, 0, 0), MediaPosition(9, 9, 9), {}, "", "")
    newer_version = Checkpoint(other.asset, Version(0, 0, 7), MediaPosition(9, 9, 9), {}, "", "")
    store.stored_checkpoints = {video.asset.id: same_version, other.asset.id: newer_version}
    hits = ask(store, encoder, SearchRequest(text="cat")).hits
    assert {hit.entry.asset.key: hit.indexing for hit in hits} == {"video": True, "other": False, "cat": False}


def test_a_store_that_fails_to_return_checkpoints_costs_no_hit(make_store: Any, encoder: Any) -> None:
    store = make_store(frozenset({FRAME_JOINT}))
    store.add(Collection.FRAME, "cat", asset="video", times_ms=(0, 5_000))
    store.stored_checkpoints = UnavailableError("down")
    result = ask(store, encoder, SearchRequest(text="cat"))
    [hit] = result.hits
    assert not hit.indexing
    assert result.shortened
    store.stored_checkpoints = {}
    assert not ask(store, encoder, SearchRequest(text="cat")).shortened


def test_timed_media_are_searched_deeper_until_moments_fill_the_limit(make_store: Any, encoder: Any) -> None:
    store = make_store(frozenset({FRAME_JOINT, SPEECH_LEXICAL, IMAGE_JOINT}))
    add_videos(store, videos=12, shots=5)
    store.add(Collection.IMAGE, "cat")
    result = ask(store, encoder, SearchRequest(text="cat", limit=10), candidates=10)
    assert len(result.hits) == 10
    assert {(str(channel), limit) for channel, _, limit, _ in store.calls} == {
        ("image.joint", 10),
        ("speech.lexical", 10),
        *(("frame.joint", limit) for limit in (10, 40, 160)),
    }


class SilentReader:
    """Never answers, and counts how often it is called."""

    def __init__(self) -> None:
        self.calls = 0

    reranks_by = "silent"

    def tokens_to_read(self, passages: Sequence[str]) -> Sequence[int]:
        return [1] * len(passages)

    async def score_passages(self, question: str, passages: Sequence[str]) -> Float32:
        self.calls += 1
        await asyncio.Event().wait()
        raise AssertionError


def test_reranking_has_only_its_share_of_the_deadline(store: Any, encoder: Any) -> None:
    """Without a share of its own the reader would hold the search for a minute."""
    for key in ("cat", "dog"):
        store.add(Collection.TEXT, key)
    fused = ask(store, encoder, SearchRequest(text="cat"))
    reader = SilentReader()

    async def run() -> SearchResult:
        settings = QuerySettings(rerank="auto", rerank_ms=60_000, rerank_share=0.001)
        pipeline = QueryPipeline(store, encoder, SMALL, settings, reader=reader)
        try:
            async with asyncio.timeout(30):
                return await pipeline.search(SearchRequest(text="cat", deadline_ms=60_000))
        finally:
            pipeline.close()

    result = asyncio.run(run())
    assert (reader.calls, result.because, result.partial) == (1, (NOTHING_READ.format(60),), False)
    assert result.rerank is not None
    assert (result.rerank.model, result.rerank.done, result.rerank.of) == ("silent", 0, 2)
    assert [hit.entry.id for hit in result.hits] == [hit.entry.id for hit in fused.hits]


def test_reranking_does_not_begin_when_the_deadline_has_passed(store: Any, encoder: Any) -> None:
    now_s = [0.0]
    for key in ("cat", "dog"):
        store.add(Collection.TEXT, key)

    class SlowStatistics(ChannelStatistics):
        def observe(self, rankings: Rankings, depth: int) -> None:
            super().observe(rankings, depth)
            now_s[0] += 61.0

    reader = SilentReader()

    async def run() -> SearchResult:
        pipeline = QueryPipeline(
            store,
            encoder,
            SMALL,
            QuerySettings(rerank="auto"),
            fusions=FusionChooser(SlowStatistics()),
            reader=reader,
            clock=lambda: now_s[0],
        )
        try:
            return await pipeline.search(SearchRequest(text="cat", deadline_ms=60_000))
        finally:
            pipeline.close()

    result = asyncio.run(run())
    assert (reader.calls, result.because, len(result.hits)) == (0, (NOTHING_READ.format(0),), 2)


def test_a_request_turns_reranking_on_and_off(store: Any, encoder: Any) -> None:
    for key in ("cat", "dog"):
        store.add(Collection.TEXT, key)

    async def run(setting: str, request: RerankRequest | None) -> SearchResult:
        settings = QuerySettings(rerank=setting, rerank_ms=1)
        pipeline = QueryPipeline(store, encoder, SMALL, settings, reader=SilentReader())
        try:
            return await pipeline.search(SearchRequest(text="cat", rerank=request))
        finally:
            pipeline.close()

    def model_of(setting: str, request: RerankRequest | None) -> str | None:
        report = asyncio.run(run(setting, request)).rerank
        return None if report is None else report.model

    assert model_of("off", None) is None
    assert model_of("off", RerankRequest(top=5)) == "silent"
    assert model_of("off", RerankRequest("silent")) == "silent"
    assert model_of("auto", None) == "silent"
    assert model_of("auto", RerankRequest("off")) is None
    with pytest.raises(QueryError, match="no reranking model 'loud': it has silent") as caught:
        model_of("auto", RerankRequest("loud"))
    assert caught.value.field == "/rerank/model"


def test_a_request_that_no_model_can_rerank_says_so(store: Any, encoder: Any) -> None:
    store.add(Collection.TEXT, "cat")
    assert ask(store, encoder, SearchRequest(text="cat", rerank=RerankRequest("auto"))).because == (NO_MODEL,)
    assert ask(store, encoder, SearchRequest(text="cat"), rerank="auto").because == (NO_MODEL,)


@pytest.mark.parametrize(
    ("settings", "setting"),
    [
        ({"fusion": "early"}, "query.fusion = early"),
        ({"fusion": "weighted", "normalise": "log-odds"}, "query.normalise = log-odds"),
    ],
)
def test_a_setting_that_does_not_apply_gives_way_with_a_notice(
    store: Any, encoder: Any, settings: dict[str, Any], setting: str
) -> None:
    for key in ("cat", "dog"):
        store.add(Collection.TEXT, key)
    result = ask(store, encoder, SearchRequest(text="cat"), **settings)
    (notice,) = result.notices
    assert notice.startswith(f"The setting {setting} does not apply here")
    calibrated = ask(store, encoder, SearchRequest(text="cat"))
    assert [(hit.entry.id, hit.score) for hit in result.hits] == [(hit.entry.id, hit.score) for hit in calibrated.hits]


@pytest.mark.parametrize("fuse", [FuseRequest("early"), FuseRequest(alpha=0.0), FuseRequest("weighted", "log-odds")])
def test_a_request_for_what_does_not_apply_is_refused(store: Any, encoder: Any, fuse: FuseRequest) -> None:
    with pytest.raises(QueryError) as refused:
        ask(store, encoder, SearchRequest(text="cat", fuse=fuse), fusion="early", normalise="log-odds")
    assert refused.value.status == 400


def test_timed_media_are_searched_once_if_there_are_no_more_entries(make_store: Any, encoder: Any) -> None:
    store = make_store(frozenset({FRAME_JOINT, SPEECH_LEXICAL}))
    add_videos(store, videos=1, shots=9)
    assert len(ask(store, encoder, SearchRequest(text="cat", limit=10), candidates=10).hits) == 1
    assert len(store.calls) == 2


def test_a_deeper_search_ends_at_the_maximum_of_candidates(make_store: Any, encoder: Any) -> None:
    store = make_store(frozenset({FRAME_JOINT}))
    add_videos(store, videos=1, shots=1_000)
    request = SearchRequest(text="cat", limit=5)
    result = ask(store, encoder, request, candidates=5, max_moment_ms=10**9, max_moment_gap_ms=10**9)
    assert len(result.hits) == 1
    assert [limit for _, _, limit, _ in store.calls] == [5, 20, 80, 320]


def test_a_deeper_search_that_fails_keeps_the_earlier_entries_and_is_named(make_store: Any, encoder: Any) -> None:
    store = make_store(frozenset({FRAME_JOINT, SPEECH_LEXICAL}))
    add_videos(store, videos=1, shots=30)
    search = store.search

    def fail_deeper(query: EntryQuery) -> Any:
        if query.limit > 10:
            raise UnavailableError("the store hung up")
        return search(query)

    store.search = fail_deeper
    result = ask(store, encoder, SearchRequest(text="cat", limit=10), candidates=10)
    assert len(result.hits) == 1
    assert result.partial
    assert "the store hung up" in result.missing[FRAME_JOINT]
    assert "search for more entries" in result.missing[FRAME_JOINT]


def test_a_deeper_search_leaves_the_order_of_the_first_hits(make_store: Any, encoder: Any) -> None:
    """Deeper, a second channel finds one of two hits: a request for fewer hits would not know that."""
    store = make_store(frozenset({SPEECH_PASSAGE, SPEECH_LEXICAL}))
    by_meaning, by_both = (
        store.add(Collection.SPEECH, "cat", asset=asset, times_ms=(0, 999)) for asset in ("meaning", "both")
    )
    video = [store.add(Collection.SPEECH, "cat", asset="video", part=part, times_ms=(0, 999)) for part in range(14)]
    rankings = {SPEECH_PASSAGE: [by_meaning, by_both, *video], SPEECH_LEXICAL: [*video[:9], by_both, *video[9:]]}
    store.search = lambda query: [ScoredEntry(entry, 1.0) for entry in rankings[query.channel][: query.limit]]
    hits = ask(store, encoder, SearchRequest(text="cat", limit=4), candidates=4, fusion="rrf").hits
    assert [hit.entry.asset.key for hit in hits] == ["video", "meaning", "both"]


def test_a_question_that_names_a_kind_has_its_hits_first_and_the_reason(store: Any, encoder: Any) -> None:
    for key in ("cat", "photo"):
        store.add(Collection.TEXT, key)
        store.add(Collection.IMAGE, key)
    routed = ask(store, encoder, SearchRequest(text="photo"))
    assert routed.hits[0].entry.collection is Collection.IMAGE
    assert routed.route == {"image.joint": 1.0, "text.joint": 0.3, "text.lexical": 0.3, "text.passage": 0.3}
    assert any("“photo”" in sentence for sentence in routed.because)
    even = ask(store, encoder, SearchRequest(text="photo", route="all"))
    assert even.hits[0].entry.collection is Collection.TEXT
    assert set(even.route.values()) == {1.0}
    assert even.because == ()


def test_a_weight_of_0_excludes_a_channel_and_nothing_else_does(store: Any, encoder: Any) -> None:
    store.add(Collection.TEXT, "cat")
    store.add(Collection.IMAGE, "cat")
    result = ask(store, encoder, SearchRequest(text="cat", route={"image": 0.0, "text.lexical": 0.0}))
    assert {str(channel) for channel, *_ in store.calls} == {"text.passage", "text.joint"}
    assert (result.missing, result.partial) == ({}, False)
    with pytest.raises(QueryError, match="0 for every channel") as caught:
        ask(store, encoder, SearchRequest(text="cat", route={"image": 0.0, "text": 0.0}))
    assert caught.value.field == "/route"


def test_examples_take_the_vector_that_the_search_computes_anyway(store: Any, encoder: Any) -> None:
    for key in ("cat", "dog"):
        store.add(Collection.TEXT, key)
        store.add(Collection.IMAGE, key)
    images, texts = frozenset({Collection.IMAGE}), frozenset({Collection.TEXT})
    exemplars = Exemplars([(images, "cat"), (texts, "dog")], np.stack([word_vector("cat"), word_vector("dog")]))
    settings = QuerySettings()
    router = Router(ModalityWords(), NamedSources(settings), FilterProposals(), exemplars=exemplars)

    async def run() -> SearchResult:
        pipeline = QueryPipeline(store, encoder, SMALL, settings, router=router)
        try:
            return await pipeline.search(SearchRequest(text="cat"))
        finally:
            pipeline.close()

    result = asyncio.run(run())
    assert (result.route["image.joint"], result.route["text.passage"]) == (1.0, 0.5)
    assert sorted(role for role, _ in encoder.calls) == ["joint.text", "passage.text"]


def test_an_implied_filter_is_proposed_and_not_applied(store: Any, encoder: Any) -> None:
    store.add(Collection.TEXT, "cat")
    result = ask(store, encoder, SearchRequest(text="cat by camera x100", deadline_ms=60_000))
    assert result.proposed_filter == {"attributes.camera": "x100"}
    assert [hit.entry.title for hit in result.hits] == ["cat"]
