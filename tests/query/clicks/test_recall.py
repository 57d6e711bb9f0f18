"""Tests of recalling choices: only what the caller may read now, and never at the cost of the answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from penstock.encoders.profiles import load_profile
from penstock.errors import UnavailableError
from penstock.query.clicks.guards import ClickRules
from penstock.query.clicks.recall import NOT_RECALLED, ClickMemory
from penstock.query.executor import BoundedExecutor
from penstock.query.fusion.calibration import LogisticMap
from penstock.query.parts.base import QueryParts
from penstock.query.trace import Trace
from penstock.query.types import Query
from penstock.records import Access, ClickedEntry, Collection, Entry, Float32, bare_entry
from penstock.store.clicks import MemoryClicks
from penstock.store.filters import parse_filter
from penstock.store.memory import MemoryStore
from penstock.store.spec import index_spec
from tests.choices import NOW_MS, choice, question_vector

PROFILE = load_profile("null:32")
SCORES = LogisticMap(20.0, -16.0)
TEXTS = frozenset({Collection.TEXT})


class Encoder:
    """Encodes questions as the choices of tests are encoded."""

    async def encode_text(self, encoder: str, text: str) -> Float32:
        assert encoder == "passage.text"
        return question_vector(text)

    async def encode_image(self, data: bytes, region: object) -> Float32:
        raise NotImplementedError


@pytest.fixture
def executor() -> Iterator[BoundedExecutor]:
    executor = BoundedExecutor(threads=2, queue_size=4, clock=time.monotonic, calls="calls", retry_after_s=1.0)
    yield executor
    executor.close()


@pytest.fixture
def store() -> MemoryStore:
    from penstock.config import StoreSettings
    from penstock.encoders.load import profile_fingerprints

    store = MemoryStore()
    store.ensure(index_spec(PROFILE, profile_fingerprints(PROFILE), StoreSettings()))
    return store


def put(store: MemoryStore, key: str, **fields: Any) -> Entry:
    asset = choice("any", key).asset
    entry = replace(bare_entry(asset, Collection.TEXT), acl=("tenant",), **fields)
    store.upsert(Collection.TEXT, [entry])
    return entry


def query(text: str = "grey heron", **fields: Any) -> Query:
    defaults: dict[str, Any] = {"access": Access.to_all_of("default"), "where": None}
    fields = {**defaults, **fields}
    return Query(text, None, None, tuple(TEXTS), False, limit=10, deadline_ms=5_000, **fields)


@pytest.fixture
def recall(store: MemoryStore, executor: BoundedExecutor) -> Any:
    clicks = MemoryClicks()
    memory = ClickMemory(
        clicks, store, executor, Encoder(), profile=PROFILE, rules=ClickRules(2, 90.0), wall_ms=lambda: NOW_MS
    )

    def run(of: Query, trace: Trace | None = None) -> list[str]:
        async def ask() -> tuple[ClickedEntry, ...]:
            deadline_s = executor.clock() + 5
            return await memory.recall(of, TEXTS, SCORES, trace or Trace(executor.clock), deadline_s=deadline_s)

        return [match.entry.asset.key for match in asyncio.run(ask())]

    run.clicks = clicks  # type: ignore[attr-defined]
    return run


def agree(recall: Any, key: str, question: str = "grey heron") -> None:
    recall.clicks.put([choice(question, key, person) for person in ("ann", "bob")])


def test_what_two_people_chose_for_a_close_question_is_recalled(store: MemoryStore, recall: Any) -> None:
    put(store, "heron")
    put(store, "otter")
    agree(recall, "heron")
    recall.clicks.put([choice("grey heron", "otter", "ann")])
    assert recall(query()) == ["heron"]
    assert recall(query("heron grey")) == ["heron"]
    assert recall(query("zinc oxide paint")) == []


def test_an_entry_that_is_deleted_or_not_to_be_read_does_not_come_back(store: MemoryStore, recall: Any) -> None:
    entry = put(store, "heron")
    agree(recall, "heron")
    agree(recall, "never indexed")
    assert recall(query()) == ["heron"]
    assert recall(query(access=Access("default", frozenset({"hr"})))) == []
    assert recall(query(access=Access.to_all_of("acme"))) == []
    put(store, "heron", mime="text/plain")
    assert recall(query(access=Access("default", frozenset({"tenant"})))) == ["heron"]
    store.delete(Collection.TEXT, [entry.id])
    assert recall(query()) == []


def test_filters_and_exclusions_hold_for_what_was_chosen(store: MemoryStore, recall: Any) -> None:
    entry = put(store, "heron", mime="text/html")
    agree(recall, "heron")
    assert recall(query(where=parse_filter({"mime": "text/html"}))) == ["heron"]
    assert recall(query(where=parse_filter({"mime": "text/plain"}))) == []
    assert recall(query(parts=QueryParts(like=(entry.id,)))) == []


def test_a_choice_that_names_the_entry_of_another_asset_is_not_believed(store: MemoryStore, recall: Any) -> None:
    entry = put(store, "heron")
    forged = [choice("grey heron", "otter", person, entry_id=entry.id) for person in ("ann", "bob")]
    recall.clicks.put(forged)
    assert recall(query()) == []


def test_a_click_memory_that_fails_costs_the_answer_nothing_but_a_notice(store: MemoryStore, executor: Any) -> None:
    def down() -> None:
        raise UnavailableError("the store is down")

    memory = ClickMemory(
        MemoryClicks(down), store, executor, Encoder(), profile=PROFILE, rules=ClickRules(2, 90.0), wall_ms=lambda: 0
    )
    trace = Trace(executor.clock)
    recalled = asyncio.run(memory.recall(query(), TEXTS, SCORES, trace, deadline_s=executor.clock() + 5))
    assert (recalled, list(trace.notices)) == ((), [NOT_RECALLED])
