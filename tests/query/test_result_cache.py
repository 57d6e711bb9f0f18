"""Answers are kept while the index of their tenant stays as it is, and no longer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import Counter

from penstock.errors import OverloadedError
from penstock.observability import metrics
from penstock.query import result_cache as module
from penstock.query.adapters import AdapterSet
from penstock.query.changes import IndexChanges
from penstock.query.fingerprint import fingerprint
from penstock.query.options import RerankReport
from penstock.query.parts.base import PartsRequest
from penstock.query.result_cache import TTL_S, ResultCache
from penstock.query.types import Hit, SearchRequest, SearchResult
from penstock.query.understand.understood import ChatMessage, UnderstandRequest
from penstock.records import Access, AssetRef, Collection, IndexChange, Position, bare_entry
from tests.query.made_adapters import loaded_adapter

REQUEST = SearchRequest(text="heron")


class Seconds:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def result(text: str = "", **fields: Any) -> SearchResult:
    entry = replace(bare_entry(AssetRef("default", "media.text", "k"), Collection.TEXT), text=text)
    return replace(SearchResult([Hit(entry, 1.0, ())], False, {}, {"total": 9.0}), **fields)


class Index:
    """A search that counts its calls, and an index whose changes are announced."""

    def __init__(self, *, max_bytes: int = 1_000_000, visible_after_s: float = 0.0, available: bool = True) -> None:
        self.clock = Seconds()
        self.changes = IndexChanges(available=available, clock=self.clock)
        self.calls: list[SearchRequest] = []
        self.answer: Callable[[SearchRequest], Awaitable[SearchResult]] = self._answer
        self.next = result()
        self.adapters = AdapterSet()
        self.cache = ResultCache(
            self,
            self.changes,
            max_bytes=max_bytes,
            visible_after_s=visible_after_s,
            clock=self.clock,
            adapters=lambda: self.adapters,
        )

    async def search(self, request: SearchRequest) -> SearchResult:
        self.calls.append(request)
        return await self.answer(request)

    async def _answer(self, _: SearchRequest) -> SearchResult:
        self.clock.now += 0.02
        return self.next

    def send(self, request: SearchRequest = REQUEST, **fields: Any) -> SearchResult:
        return asyncio.run(self.cache.search(replace(request, **fields)))

    def change(self, tenant: str = "default") -> None:
        self.changes.receive([IndexChange(tenant, "media.text", "k", Position("media.text", 0, 0), False, {}, 0)])


def test_an_equal_request_is_answered_from_the_cache_and_says_so() -> None:
    index = Index()
    assert index.send().took_ms == {"total": 9.0}
    again = index.send()
    assert list(again.hits) == index.next.hits
    assert again.took_ms == {"cached": 0.0, "total": 0.0}
    assert len(index.calls) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"text": "Heron"},
        {"limit": 3},
        {"cursor": "x"},
        {"explain": True},
        {"group_by": "asset"},
        {"diversify": 0.5},
        {"access": Access.to_all_of("globex")},
        {"access": Access("default", frozenset({"tenant"}))},
        {"access": Access("default", frozenset())},
        {"min_relevance": 0.5},
        {"image": b"x"},
    ],
)
def test_a_request_that_differs_is_searched(fields: dict[str, Any]) -> None:
    index = Index()
    index.send()
    assert "cached" not in index.send(**fields).took_ms
    assert len(index.calls) == 2


def test_the_deadline_does_not_tell_requests_apart() -> None:
    index = Index()
    index.send(deadline_ms=500)
    assert "cached" in index.send(deadline_ms=900).took_ms


def test_a_change_of_the_tenant_outdates_its_answers_and_those_of_no_other() -> None:
    index = Index()
    index.send()
    index.send(access=Access.to_all_of("globex"))
    index.change("default")
    assert "cached" not in index.send().took_ms
    assert "cached" in index.send(access=Access.to_all_of("globex")).took_ms
    assert "cached" in index.send().took_ms


def test_an_answer_that_was_searched_before_a_change_arrived_is_not_used_after_it() -> None:
    index = Index()

    async def changes_meanwhile(_: SearchRequest) -> SearchResult:
        index.change()
        return result("old")

    index.answer = changes_meanwhile
    index.send()
    index.answer = index._answer
    assert "cached" not in index.send().took_ms


def test_an_answer_of_other_adapters_is_not_used() -> None:
    index = Index()
    index.send()
    index.adapters = AdapterSet([loaded_adapter("one")])
    assert "cached" not in index.send().took_ms
    assert "cached" in index.send().took_ms

    async def swapped_meanwhile(_: SearchRequest) -> SearchResult:
        index.adapters = AdapterSet([loaded_adapter("two")])
        return index.next

    index.answer = swapped_meanwhile
    index.send(text="another")
    index.adapters = AdapterSet([loaded_adapter("one")])
    assert "cached" not in index.send(text="another").took_ms, "it may be an answer of the other adapter"


def test_an_answer_expires() -> None:
    index = Index()
    index.send()
    index.clock.now += TTL_S - 0.1
    assert "cached" in index.send().took_ms
    index.clock.now += 0.2
    assert "cached" not in index.send().took_ms


@pytest.mark.parametrize(
    "fields",
    [{"partial": True}, {"rerank": RerankReport("maxsim", done=3, of=10, ms=50.0)}, {"shortened": True}],
    ids=["partial", "rerank", "shortened"],
)
def test_an_answer_that_was_cut_short_is_not_kept(fields: dict[str, Any]) -> None:
    index = Index()
    index.next = result(**fields)
    index.send()
    index.send()
    assert len(index.calls) == 2


@pytest.mark.parametrize(
    "fields",
    [
        {"text": "é" * 100_001},
        {"modalities": ["text"] * 10_000},
        {"route": {str(number): 1.0 for number in range(10_000)}},
        {"parts": PartsRequest(not_texts=["x" * 60_000, "y" * 60_000])},
        {"understand": UnderstandRequest(messages=tuple(ChatMessage("user", "x" * 10_000) for _ in range(11)))},
    ],
    ids=["text", "list", "map", "texts", "messages"],
)
def test_a_request_of_very_many_characters_is_searched_without_hashing_it(
    fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[SearchRequest] = []

    def noted(request: SearchRequest) -> bytes:
        hashed.append(request)
        return fingerprint(request)

    monkeypatch.setattr(module, "fingerprint", noted)
    index = Index()
    index.send(**fields)
    index.send(**fields)
    assert (len(index.calls), index.cache.bytes, hashed) == (2, 0, [])


def test_a_request_with_large_media_is_kept() -> None:
    index = Index()
    index.send(image=bytes(200_000))
    assert "cached" in index.send(image=bytes(200_000)).took_ms


def test_an_answer_is_kept_only_once_the_store_shows_the_last_change_in_any_case() -> None:
    index = Index(visible_after_s=5.0)
    index.change()
    index.clock.now += 4.9
    index.send()
    index.clock.now += 0.1
    assert "cached" not in index.send().took_ms
    assert "cached" in index.send().took_ms


def test_nothing_is_kept_or_answered_while_changes_are_not_received() -> None:
    index = Index(available=False)
    index.send()
    index.send()
    assert (len(index.calls), index.cache.bytes) == (2, 0)
    index.changes.set_available(True)
    index.send()
    assert index.cache.bytes > 0
    index.changes.set_available(False)
    index.send()
    assert (len(index.calls), index.cache.bytes) == (4, 0)
    index.changes.set_available(True)
    assert "cached" not in index.send().took_ms


def test_a_cache_of_no_bytes_is_off() -> None:
    index = Index(max_bytes=0)
    index.send()
    index.send()
    assert len(index.calls) == 2


def test_the_bytes_are_bounded_and_the_least_recently_used_answers_go_first() -> None:
    index = Index(max_bytes=40_000)
    index.next = result("x" * 1_000)
    for number in range(3):
        index.send(text=str(number))
    index.send(text="0")
    for number in range(3, 5):
        index.send(text=str(number))
        assert index.cache.bytes <= 40_000
    calls = len(index.calls)
    assert "cached" in index.send(text="0").took_ms
    assert "cached" not in index.send(text="1").took_ms
    assert len(index.calls) == calls + 1
    index.next = result("x" * 100_000)
    index.send(text="too large")
    assert index.cache.bytes <= 40_000


def _shared() -> float:
    counter = metrics.CACHE_REQUESTS.labels("results", "shared")
    assert isinstance(counter, Counter)
    return float(counter._value.get())


async def _wait_for(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  # the event loop has nothing else to wait for
            await asyncio.sleep(0)


def test_equal_requests_share_a_search_that_runs() -> None:
    index = Index()

    async def run() -> list[SearchResult]:
        gate = asyncio.Event()

        async def held(_: SearchRequest) -> SearchResult:
            await gate.wait()
            return index.next

        index.answer = held
        tasks = [asyncio.create_task(index.cache.search(REQUEST)) for _ in range(5)]
        other = asyncio.create_task(index.cache.search(replace(REQUEST, access=Access.to_all_of("globex"))))
        await _wait_for(lambda: len(index.calls) == 2)
        index.change()  # a request that comes after a change does not share the search from before it
        later = asyncio.create_task(index.cache.search(REQUEST))
        await _wait_for(lambda: len(index.calls) == 3)
        gate.set()
        return await asyncio.gather(*tasks, other, later)

    before = _shared()
    results = asyncio.run(run())
    assert sum("shared" in result.took_ms for result in results) == 4
    assert (len(index.calls), _shared() - before) == (3, 4)


def test_the_error_of_a_shared_search_reaches_all_and_is_not_kept() -> None:
    index = Index()

    async def run() -> list[Any]:
        async def full(_: SearchRequest) -> SearchResult:
            await asyncio.sleep(0)
            raise OverloadedError("full", retry_after_s=1.0)

        index.answer = full
        return await asyncio.gather(*(index.cache.search(REQUEST) for _ in range(3)), return_exceptions=True)

    assert [type(error) for error in asyncio.run(run())] == [OverloadedError] * 3
    assert len(index.calls) == 1
    index.answer = index._answer
    assert index.send().hits


def test_a_cancelled_search_is_started_again_by_a_request_that_waits_for_it() -> None:
    index = Index()

    async def run() -> SearchResult:
        gate = asyncio.Event()

        async def held(_: SearchRequest) -> SearchResult:
            await gate.wait()
            return index.next

        index.answer = held
        first, second = (asyncio.create_task(index.cache.search(REQUEST)) for _ in range(2))
        await _wait_for(lambda: len(index.calls) == 1)
        first.cancel()
        await _wait_for(lambda: len(index.calls) == 2)
        gate.set()
        return await second

    assert list(asyncio.run(run()).hits) == index.next.hits
