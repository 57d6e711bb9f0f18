"""New entries that match a watch are written to the topic of matches, at least once, with the relevance of a search."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from penstock.broker.watch_messages import deletion_message
from penstock.errors import UnavailableError
from penstock.query.types import SearchRequest
from penstock.query.watches.context import FRESH_S, FRESH_WHILE_SMALL_S, WatchContext
from penstock.query.watches.evaluator import WatchEvaluator
from penstock.records import Collection, Field, ScoredEntry, Watch
from penstock.samples.texts import SampleText
from penstock.serve.routes.watches import request_of
from penstock.store.base import EntryQuery
from tests.query.watches.world import MATCHES, WATCHES, World, texts


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("plane"))
    yield world
    world.close()


@pytest.fixture
def world(shared: World) -> World:
    shared.reset()
    return shared


def matches(world: World) -> list[dict[str, Any]]:
    return [json.loads(record.value or b"") for record in world.broker.records(MATCHES)]


def drain(evaluator: WatchEvaluator) -> int:
    """Evaluates until nothing more is delivered; the first polls join the group."""
    return sum(evaluator.evaluate_once() for _ in range(4))


def test_a_new_entry_that_a_search_would_find_matches_and_others_do_not(world: World) -> None:
    world.index(*texts(0, 150), announce=False)
    own, other = texts(150, 152)
    watch = world.watch(own.title)
    with world.evaluating(watch) as evaluator:
        drain(evaluator)
        entry, _ = world.index(own, other)
        drain(evaluator)
        (match,) = matches(world)
        assert match["version"] == 1
        assert match["watch"] == {"id": watch.id, "name": watch.name}
        assert (match["tenant"], match["entry"]["id"], match["entry"]["key"]) == ("default", entry.id, own.key)
        assert match["entry"]["origin"] == {
            "topic": "media.text",
            "partition": 0,
            "offset": entry.origin.offset,
            "timestamp_ms": entry.origin.offset,
        }
        assert [record.key for record in world.broker.records(MATCHES)] == [watch.id.encode()]


def test_the_relevance_of_matches_is_that_of_a_search(world: World) -> None:
    world.index(*texts(0, 150), announce=False)
    new = texts(150, 180)
    watches = [replace(world.watch(text.title, min_relevance=0.05), id=f"{n:032x}") for n, text in enumerate(new[:8])]
    with world.evaluating(*watches) as evaluator:
        drain(evaluator)
        entries = {entry.id: entry for entry in world.index(*new)}
        drain(evaluator)
        written = matches(world)
        assert {match["watch"]["id"] for match in written} == {watch.id for watch in watches}
        texts_of = {watch.id: watch.search["text"] for watch in watches}
        differences = []
        for match in written:
            request = SearchRequest(text=str(texts_of[match["watch"]["id"]]), limit=50)
            relevance = world.search_relevance(request, entries[match["entry"]["id"]])
            if relevance is not None:
                differences.append(abs(relevance - match["relevance"]))
        assert len(differences) >= 8
        assert max(differences) <= 0.1


def test_a_watch_in_an_empty_index_is_evaluated(world: World) -> None:
    (text,) = texts(3, 4)
    with world.evaluating(world.watch(text.title, min_relevance=0.01)) as evaluator:
        drain(evaluator)
        world.index(text)
        assert drain(evaluator) == 1


def test_entries_of_another_tenant_do_not_match(world: World) -> None:
    (text,) = texts(3, 4)
    with world.evaluating(world.watch(text.title, min_relevance=0.01)) as evaluator:
        world.index(text, tenant="globex")
        drain(evaluator)
        assert matches(world) == []


def test_entries_without_a_label_of_the_watch_do_not_match(world: World) -> None:
    text, other, hidden = texts(3, 6)
    labelled = replace(world.watch(text.title, min_relevance=0.01), labels=frozenset({"group:a"}))
    with world.evaluating(labelled) as evaluator:
        drain(evaluator)
        world.index(text, other, acl=("group:a", "group:b"))
        world.index(hidden, acl=("group:b",))
        drain(evaluator)
        keys = {match["entry"]["key"] for match in matches(world)}
        assert text.key in keys
        assert hidden.key not in keys


def test_the_filter_of_a_watch_holds_for_its_matches(world: World) -> None:
    text, other = texts(3, 5)
    watch = world.watch(text.title, min_relevance=0.01, filter={"key": other.key})
    with world.evaluating(watch) as evaluator:
        drain(evaluator)
        world.index(text, other)
        drain(evaluator)
        assert {match["entry"]["key"] for match in matches(world)} <= {other.key}


def test_what_was_indexed_before_the_watch_does_not_match(world: World) -> None:
    (text,) = texts(3, 4)
    world.index(text)
    with world.evaluating(world.watch(text.title, min_relevance=0.01)) as evaluator:
        drain(evaluator)
        assert matches(world) == []


def test_an_announcement_that_repeats_gives_a_match_of_the_same_id(world: World) -> None:
    (text,) = texts(3, 4)
    with world.evaluating(world.watch(text.title, min_relevance=0.01)) as evaluator:
        drain(evaluator)
        entries = world.index(text)
        drain(evaluator)
        world.announce(entries)
        drain(evaluator)
        first, repeated = matches(world)
        assert first["id"] == repeated["id"]
        newer = world.index(SampleText(text.key, text.title, text.text))
        drain(evaluator)
        assert newer[0].id == entries[0].id
        assert matches(world)[-1]["id"] != first["id"]


def test_a_version_that_was_replaced_meanwhile_does_not_match(world: World) -> None:
    (text,) = texts(3, 4)
    with world.evaluating(world.watch(text.title, min_relevance=0.01)) as evaluator:
        drain(evaluator)
        old = world.index(text, announce=False)
        world.index(SampleText(text.key, "gone", "gone"), announce=False)
        world.announce(old)
        drain(evaluator)
        assert matches(world) == []


def test_nothing_is_lost_where_the_topic_of_matches_does_not_answer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (text,) = texts(3, 4)
    with world.evaluating(world.watch(text.title, min_relevance=0.01)) as evaluator:
        drain(evaluator)
        world.index(text)
        write = evaluator._write
        failing = True

        def fail(batch: Any) -> None:
            if failing:
                raise UnavailableError("down")
            write(batch)

        monkeypatch.setattr(evaluator, "_write", fail)
        with pytest.raises(UnavailableError):
            drain(evaluator)
        failing = False
        drain(evaluator)
        assert len(matches(world)) == 1


def test_the_next_member_continues_where_the_last_one_committed(world: World) -> None:
    first, second = texts(3, 5)
    watch = world.watch(f"{first.title} {second.title}", min_relevance=0.01)
    with world.evaluating(watch) as evaluator:
        drain(evaluator)
        world.index(first)
        drain(evaluator)
    assert [match["entry"]["key"] for match in matches(world)] == [first.key]
    world.index(second)
    with world.evaluating() as evaluator:
        drain(evaluator)
    assert [match["entry"]["key"] for match in matches(world)] == [first.key, second.key]


def test_a_watch_that_this_version_does_not_take_is_left_out(world: World, caplog: pytest.LogCaptureFixture) -> None:
    (text,) = texts(3, 4)
    bad = replace(world.watch(text.title), id="b" * 32, search={"text": text.title, "mood": "new"})
    with world.evaluating(bad, world.watch(text.title, min_relevance=0.01)) as evaluator:
        drain(evaluator)
        world.index(text)
        drain(evaluator)
        assert len(matches(world)) == 1
        assert caplog.text.count("is not evaluated") == 1


def test_a_watch_that_cannot_be_prepared_does_not_stop_those_of_other_tenants(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = texts(3, 5)
    noisy = replace(world.watch(first.title, min_relevance=0.01, tenant="noisy"), id="c" * 32)
    prepare, tried = world.preparer.prepare, []

    async def fail_for_noisy(watch: Watch, request: SearchRequest) -> WatchContext:
        if watch.tenant == "noisy":
            tried.append(watch.id)
            raise UnavailableError("its filter takes too long")
        return await prepare(watch, request)

    monkeypatch.setattr(world.preparer, "prepare", fail_for_noisy)
    with world.evaluating(noisy, world.watch(first.title, min_relevance=0.01)) as evaluator:
        drain(evaluator)
        world.index(first)
        assert drain(evaluator) == 1
        assert tried == [], "its tenant has no changes"
        world.index(first, tenant="noisy")
        world.index(first, second)
        rounds = 0
        while len(matches(world)) < 2:
            rounds += 1
            assert rounds <= 20, "it holds up the others for ever"
            with suppress(UnavailableError):
                evaluator.evaluate_once()
        assert {match["tenant"] for match in matches(world)} == {"default"}
        assert caplog.text.count("is left out") == 1


def test_a_watch_whose_words_cannot_be_searched_for_does_not_stop_the_others(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first, second, third = texts(3, 6)
    slow = replace(world.watch(first.title, min_relevance=0.01), id="c" * 32)
    search = world.store.search

    def fail_for_slow(query: EntryQuery) -> Sequence[ScoredEntry]:
        if isinstance(query.content, str) and query.content == first.title and query.where is not None:
            raise UnavailableError("its words take too long")
        return search(query)

    with world.evaluating(slow, world.watch(second.title, min_relevance=0.01)) as evaluator:
        drain(evaluator)
        monkeypatch.setattr(world.store, "search", fail_for_slow)
        world.index(first, second)
        rounds = 0
        while not matches(world):
            rounds += 1
            assert rounds <= 20, "it holds up the others for ever"
            with suppress(UnavailableError):
                evaluator.evaluate_once()
        assert rounds > 5, "a store that is down for a moment must lose no match"
        matched = {(match["watch"]["id"], match["entry"]["key"]) for match in matches(world)}
        assert (slow.id, first.key) in matched, "its vectors still compare"
        assert second.key in {key for id_, key in matched if id_ != slow.id}
        world.index(third, first)
        drain(evaluator)
        assert caplog.text.count("is compared by its vectors alone") == 1, "known for a while"


def test_no_match_is_lost_where_a_channel_does_not_answer_for_a_short_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.index(*texts(0, 20), announce=False)
    new = texts(150, 160)

    def matched(*, rounds_without_passages: int) -> set[str]:
        search, answering = world.store.search, rounds_without_passages == 0

        def search_but_passages(query: EntryQuery) -> Sequence[ScoredEntry]:
            if not answering and query.channel.field is Field.PASSAGE:
                raise UnavailableError("the index of passages is loading")
            return search(query)

        monkeypatch.setattr(world.store, "search", search_but_passages)
        before = len(matches(world))
        with world.evaluating(world.watch("water in motion", min_relevance=0.0005)) as evaluator:
            drain(evaluator)
            world.index(*new)
            for _ in range(rounds_without_passages):
                with suppress(UnavailableError):
                    evaluator.evaluate_once()
            answering = True
            drain(evaluator)
        monkeypatch.setattr(world.store, "search", search)
        return {match["entry"]["key"] for match in matches(world)[before:]}

    usual = matched(rounds_without_passages=0)
    assert len(usual) >= 3
    world.store.delete(Collection.TEXT, [entry.id for entry in world.entries(new)])
    (kept,) = world.broker.records(WATCHES)
    world.broker.append(deletion_message(WATCHES, (kept.key or b"").decode()))
    assert matched(rounds_without_passages=3) == usual


def test_a_selective_filter_does_not_make_a_watch_expire_soon_in_a_large_index(world: World) -> None:
    def left_s(watch: Watch) -> float:
        context = world.run(world.preparer.prepare(watch, request_of(watch)))
        return context.expires_s - world.plane.pipeline.executor.clock()

    world.index(*texts(0, 20), announce=False)
    filtered = world.watch(texts(3, 4)[0].title, filter={"key": texts(3, 4)[0].key})
    assert left_s(filtered) <= FRESH_WHILE_SMALL_S
    world.index(*texts(20, 100), announce=False)
    assert left_s(filtered) > FRESH_S / 2
    of_another_tenant = world.watch("eggs", tenant="globex", filter={"key": "eggs"})
    assert left_s(of_another_tenant) <= FRESH_WHILE_SMALL_S


def test_changes_of_another_version_of_the_index_give_no_match(world: World) -> None:
    (text,) = texts(3, 4)
    with world.evaluating(world.watch(text.title, min_relevance=0.01), index_version=2) as evaluator:
        drain(evaluator)
        entries = world.index(text, announce=False)
        world.announce(entries, index_version=1)
        drain(evaluator)
        assert matches(world) == []
        world.announce(entries, index_version=2)
        drain(evaluator)
        assert [match["entry"]["key"] for match in matches(world)] == [text.key]
