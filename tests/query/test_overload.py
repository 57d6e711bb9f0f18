"""Tests of the load of a replica, the order in which steps are left out, and how they come back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.config import QuerySettings
from penstock.encoders.profiles import load_profile
from penstock.errors import UnavailableError
from penstock.observability import metrics
from penstock.query.changes import IndexChanges
from penstock.query.find import NO_TIME_FOR_MORE
from penstock.query.overload import HOLD_S, SHED_CHANNEL, ReplicaLoad, SheddableStep, Shedding
from penstock.query.pipeline import QueryPipeline
from penstock.query.result_cache import ResultCache
from penstock.query.trace import Trace
from penstock.query.types import SearchRequest, SearchResult
from penstock.query.understand.rewrite import RewriteError, Rewriting
from penstock.query.understand.understanding import WordTools
from penstock.query.understand.understood import UnderstandRequest
from penstock.records import Channel, Collection, Field, ScoredEntry
from penstock.store.base import EntryQuery
from tests.clock import Clock
from tests.query.test_stages import DigitReader
from tests.query.understand.test_understanding import ScriptedRewriter

SMALL = load_profile("small")


def meter(clock: Clock | None = None, *, queue: float = 0.0, max_lag_s: float = 0.0) -> ReplicaLoad:
    return ReplicaLoad(lambda: queue, max_lag_s=max_lag_s, clock=clock or Clock())


@pytest.mark.parametrize(
    ("load", "shed"),
    [
        (0.0, []),
        (0.19, []),
        (0.2, ["REWRITE"]),
        (0.4, ["REWRITE", "RERANK"]),
        (0.6, ["REWRITE", "RERANK", "DEEPER"]),
        (0.8, ["REWRITE", "RERANK", "DEEPER", "CHANNELS"]),
        (5.0, ["REWRITE", "RERANK", "DEEPER", "CHANNELS"]),
    ],
)
def test_steps_are_left_out_in_their_order(load: float, shed: list[str]) -> None:
    shedding, trace = meter().note(load), Trace(Clock())
    assert [step.name for step in SheddableStep if shedding.sheds(step, trace)] == shed
    assert trace.shed == [name.lower() for name in shed]
    assert len(trace.because) == len(shed)


def test_a_step_that_is_left_out_is_counted() -> None:
    before = metrics.QUERY_SHED.labels("rerank")._value.get()
    Shedding(2).sheds(SheddableStep.RERANK, Trace(Clock()))
    Shedding(1).sheds(SheddableStep.RERANK, Trace(Clock()))
    assert metrics.QUERY_SHED.labels("rerank")._value.get() == before + 1


def test_steps_come_back_one_at_a_time_after_the_load_has_stayed_low() -> None:
    clock = Clock()
    measured = meter(clock)
    assert measured.note(0.9).level == 4
    levels = []
    for _ in range(9):
        levels.append(measured.note(0.0).level)
        clock.now_s += HOLD_S / 2
    assert levels == [4, 4, 3, 3, 2, 2, 1, 1, 0]


def test_a_load_just_below_a_limit_brings_nothing_back() -> None:
    clock = Clock()
    measured = meter(clock)
    measured.note(0.4)
    for _ in range(10):
        clock.now_s += HOLD_S
        assert measured.note(0.21).level == 2


def test_a_high_load_in_between_starts_the_wait_again() -> None:
    clock = Clock()
    measured = meter(clock)
    measured.note(0.4)
    measured.note(0.0)
    clock.now_s = 0.9 * HOLD_S
    measured.note(0.3)
    clock.now_s = 1.1 * HOLD_S
    assert measured.note(0.0).level == 2


@given(st.lists(st.tuples(st.floats(0, 2), st.floats(0, 5)), max_size=50))
def test_the_level_rises_with_the_load_and_falls_by_single_steps(loads: list[tuple[float, float]]) -> None:
    clock = Clock()
    measured = meter(clock)
    levels = [0]
    for load, passed_s in loads:
        clock.now_s += passed_s
        levels.append(measured.note(load).level)
        assert levels[-1] >= sum(load >= begins for begins in (0.2, 0.4, 0.6, 0.8))
    assert all(after >= before - 1 for before, after in pairwise(levels))


def test_the_queue_of_the_store_is_load() -> None:
    assert asyncio.run(meter(queue=0.6).measure()).level == 3


def test_a_turn_of_the_event_loop_is_load() -> None:
    clock = Clock()
    measured = meter(clock, max_lag_s=0.1)

    async def run(turns_s: list[float]) -> int:
        shedding = Shedding()
        for turn_s in turns_s:

            def busy(turn_s: float = turn_s) -> None:
                clock.now_s += turn_s

            asyncio.get_running_loop().call_soon(busy)
            shedding = await measured.measure()
        return shedding.level

    assert asyncio.run(run([0.0, 5.0, 0.0, 5.0])) == 0  # the process did not run for a while
    assert asyncio.run(run([0.05, 0.05, 0.05])) == 2


# --- in a search -----------------------------------------------------------------------------------------------------


def searched(store: Any, encoder: Any, level: int, **request: Any) -> SearchResult:
    async def run() -> SearchResult:
        words = WordTools(rewriter=ScriptedRewriter(RewriteError("the generator is away")))
        settings = QuerySettings(rerank="auto", candidates=1, max_lag_ms=0)
        pipeline = QueryPipeline(store, encoder, SMALL, settings, reader=DigitReader(), words=words)
        pipeline._replica_load = ReplicaLoad(lambda: level / 5 + 0.01, max_lag_s=0, clock=Clock())
        try:
            return await pipeline.search(
                SearchRequest(deadline_ms=60_000, understand=UnderstandRequest(rewrite=True), **request)
            )
        finally:
            pipeline.close()

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("level", "shed"),
    [
        (0, ()),
        (1, ("rewrite",)),
        (2, ("rewrite", "rerank")),
        (3, ("rewrite", "rerank", "deeper")),
        (4, ("rewrite", "channels", "rerank", "deeper")),
    ],
)
def test_a_search_names_each_step_that_it_leaves_out(
    store: Any, encoder: Any, level: int, shed: tuple[str, ...]
) -> None:
    for key in ("cat", "dog", "boat"):
        store.add(Collection.TEXT, key)
    result = searched(store, encoder, level, text="cat")
    assert result.shed == shed
    assert len([sentence for sentence in result.because if "overloaded" in sentence]) == len(shed)
    assert (result.rerank is None) == (level >= 2)
    assert (len(result.hits) == 1) == (level >= 3)
    assert result.hits[0].entry.title == "cat"


def test_the_channels_that_weigh_least_are_left_out_and_named(store: Any, encoder: Any) -> None:
    store.add(Collection.TEXT, "photo")
    store.add(Collection.IMAGE, "photo")
    result = searched(store, encoder, 4, text="photo")
    joint, passage, lexical = (Channel(Collection.TEXT, field) for field in (Field.JOINT, Field.PASSAGE, Field.LEXICAL))
    assert result.missing == dict.fromkeys((joint, lexical), SHED_CHANNEL)
    assert result.partial
    assert {channel for channel, *_ in store.calls} == {Channel(Collection.IMAGE, Field.JOINT), passage}


def test_weights_of_the_request_decide_which_channels_stay(store: Any, encoder: Any) -> None:
    store.add(Collection.TEXT, "cat")
    route = {"text.lexical": 3.0, "text.joint": 2.0}
    result = searched(store, encoder, 4, text="cat", route=route)
    assert {str(channel) for channel in result.missing} == {"image.joint", "text.passage"}


def test_an_answer_without_words_that_were_not_searched_is_shortened(store: Any, encoder: Any) -> None:
    store.add(Collection.TEXT, "cat")
    search = store.search

    def without_dogs(query: EntryQuery) -> Sequence[ScoredEntry]:
        if isinstance(query.content, str) and query.content == "dog":
            raise UnavailableError("away")
        answer: Sequence[ScoredEntry] = search(query)
        return answer

    async def run() -> SearchResult:
        words = WordTools(rewriter=ScriptedRewriter(Rewriting("cat", ("dog",))))
        pipeline = QueryPipeline(store, encoder, SMALL, QuerySettings(max_lag_ms=0), words=words)
        try:
            return await pipeline.search(SearchRequest(text="cat", understand=UnderstandRequest(rewrite=True)))
        finally:
            pipeline.close()

    assert not asyncio.run(run()).shortened
    store.search = without_dogs
    result = asyncio.run(run())
    assert (result.shortened, result.partial, len(result.hits)) == (True, False, 1)


def test_a_search_for_more_entries_does_not_begin_with_less_time_than_the_first_took(store: Any, encoder: Any) -> None:
    for key in ("cat", "dog", "boat"):
        store.add(Collection.TEXT, key)
    clock, search = Clock(), store.search

    def slow(query: EntryQuery) -> Sequence[ScoredEntry]:
        clock.now_s = 31.0
        answer: Sequence[ScoredEntry] = search(query)
        return answer

    store.search = slow

    async def run() -> list[SearchResult]:
        settings = QuerySettings(candidates=1, max_lag_ms=0)
        pipeline = QueryPipeline(store, encoder, SMALL, settings, clock=clock)
        cache = ResultCache(pipeline, IndexChanges(available=True, clock=clock), max_bytes=2**20, clock=clock)
        try:
            short = await cache.search(SearchRequest(text="cat", deadline_ms=59_000))
            store.search = search
            long = [await cache.search(SearchRequest(text="cat", deadline_ms=60_000)) for _ in range(2)]
            return [short, *long]
        finally:
            pipeline.close()

    short, long, cached = asyncio.run(run())
    assert (len(short.hits), short.because, short.shed, short.shortened) == (1, (NO_TIME_FOR_MORE,), (), True)
    assert (len(long.hits), long.shortened, "cached" in long.took_ms) == (3, False, False)
    assert "cached" in cached.took_ms
