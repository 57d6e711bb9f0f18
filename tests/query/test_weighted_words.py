"""Further words of a lexical channel: their scores are added at their weight, and they fail alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from penstock.errors import UnavailableError
from penstock.query.understand.understood import WeightedWords
from penstock.query.weighted_words import search_weighted
from penstock.records import Access, AssetRef, Channel, Collection, Entry, Field, bare_entry
from penstock.store.base import EntryQuery
from penstock.store.memory import MemoryStore
from tests.store.builders import spec

LEXICAL = Channel(Collection.TEXT, Field.LEXICAL)
QUERY = EntryQuery(LEXICAL, "手机 壳", Access.to_all_of("a"), None, limit=10, timeout_s=5.0)


def entry(key: str, text: str) -> Entry:
    return replace(bare_entry(AssetRef("a", "docs", key), Collection.TEXT), text=text)


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    store.ensure(spec())
    texts = {"both": "手机 智能手机", "phone": "手机", "smart": "智能 设备", "none": "anchor"}
    store.upsert(Collection.TEXT, [entry(key, text) for key, text in texts.items()])
    return store


def scores(store: MemoryStore, content: str) -> dict[str, float]:
    return {hit.entry.asset.key: hit.score for hit in store.search(replace(QUERY, content=content))}


def test_scores_of_further_words_are_added_at_their_weight(store: MemoryStore) -> None:
    first, synonyms, other = scores(store, "手机 壳"), scores(store, "智能"), scores(store, "设备")
    extra = (WeightedWords("智能", 0.5), WeightedWords("设备", 0.25))
    merged = {hit.entry.asset.key: hit.score for hit in search_weighted(store, QUERY, extra)}
    assert merged.keys() == {"both", "phone", "smart"}
    for key, score in merged.items():
        expected = first.get(key, 0) + 0.5 * synonyms.get(key, 0) + 0.25 * other.get(key, 0)
        assert score == pytest.approx(expected)
    assert list(merged.values()) == sorted(merged.values(), reverse=True)
    assert len(search_weighted(store, replace(QUERY, limit=1), extra)) == 1


def test_without_further_words_there_is_one_search(store: MemoryStore) -> None:
    assert search_weighted(store, QUERY, ()) == store.search(QUERY)


def test_further_words_that_fail_or_are_late_are_left_out(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = store.search
    calls: list[EntryQuery] = []

    def search(query: EntryQuery) -> object:
        calls.append(query)
        if query.content == "智能":
            raise UnavailableError("away")
        return whole(query)

    monkeypatch.setattr(store, "search", search)
    extra = (WeightedWords("智能", 0.5),)
    left_out: list[str] = []
    matches = search_weighted(store, QUERY, extra, on_left_out=lambda: left_out.append("failed"))
    assert matches == whole(QUERY)
    assert 0 < calls[-1].timeout_s <= QUERY.timeout_s
    no_time = replace(QUERY, timeout_s=0.0)
    assert search_weighted(store, no_time, extra, on_left_out=lambda: left_out.append("late")) == whole(QUERY)
    assert len(calls) == 3
    assert search_weighted(store, QUERY, (), on_left_out=lambda: left_out.append("none")) == whole(QUERY)
    assert left_out == ["failed", "late"]


def test_a_question_that_fails_fails(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def search(query: EntryQuery) -> object:
        raise UnavailableError("away")

    monkeypatch.setattr(store, "search", search)
    with pytest.raises(UnavailableError):
        search_weighted(store, QUERY, (WeightedWords("智能", 0.5),))
