"""Two versions are compared on the same questions, with labels or against the answers of the old one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from penstock.evaluate.agreement import (
    WARM_UP,
    ComparedQuery,
    compare_answers,
    keys_of_hits,
    queries_of_index,
)
from penstock.records import Collection
from penstock.store.memory import MemoryStore
from tests.store.builders import asset, entry, spec

KEYS = tuple(f"k{number}" for number in range(10))


class Versions:
    """Answers from a table by version and question, and notes the order of its calls."""

    def __init__(self, answers: Mapping[int, Mapping[str, Sequence[str]]]) -> None:
        self._answers = answers
        self.calls: list[tuple[str, int]] = []

    def __call__(self, question: ComparedQuery, version: int) -> tuple[Sequence[str], float]:
        text = str(question.content["text"])
        self.calls.append((text, version))
        return self._answers[version][text], 10.0 * version


def question(text: str, **relevant: float) -> ComparedQuery:
    return ComparedQuery({"text": text}, relevant)


def test_labels_decide_where_there_are_any() -> None:
    ask = Versions({1: {"a": ("x", "y"), "b": ("y",)}, 2: {"a": ("y", "x"), "b": ("z",)}})
    agreement = compare_answers([question("a", x=1.0), question("b", z=1.0)], ask, 1, 2)
    assert agreement.labelled
    assert (agreement.old.recall, agreement.new.recall) == (0.5, 1.0)
    assert agreement.old.ndcg == pytest.approx(0.5)
    assert agreement.new.ndcg == pytest.approx((1 / 1.5849625 + 1) / 2)
    assert (agreement.old.p50_ms, agreement.new.p95_ms) == (10.0, 20.0)


def test_without_labels_the_old_answers_are_the_measure() -> None:
    ask = Versions({1: {"a": KEYS, "b": KEYS}, 2: {"a": KEYS, "b": (*KEYS[5:], "u", "v", "w", "x", "y")}})
    agreement = compare_answers([question("a"), question("b")], ask, 1, 2)
    assert not agreement.labelled
    assert agreement.old.recall == 1.0
    assert agreement.old.ndcg == pytest.approx(1.0)
    assert agreement.new.recall == pytest.approx(0.75)
    assert 0.5 < agreement.new.ndcg < 1.0


def test_a_version_that_finds_nothing_has_zeros() -> None:
    agreement = compare_answers([question("a")], Versions({1: {"a": KEYS}, 2: {"a": ()}}), 1, 2)
    assert (agreement.new.recall, agreement.new.ndcg) == (0.0, 0.0)
    nothing = compare_answers([question("a")], Versions({1: {"a": ()}, 2: {"a": ()}}), 1, 2)
    assert (nothing.old.recall, nothing.new.recall) == (0.0, 0.0)


def test_both_versions_are_asked_in_turn_and_warm() -> None:
    texts = [str(number) for number in range(6)]
    answers = {version: dict.fromkeys(texts, KEYS) for version in (1, 2)}
    ask = Versions(answers)
    compare_answers([question(text) for text in texts], ask, 1, 2)
    measured = ask.calls[2 * WARM_UP :]
    assert [text for text, _ in measured] == [text for text in texts for _ in range(2)]
    assert [version for _, version in measured] == [2, 1, 1, 2] * 3


def test_a_document_with_several_hits_counts_once() -> None:
    assert keys_of_hits([{"key": "a"}, {"key": "b"}, {"key": "a"}]) == ["a", "b"]


def test_questions_are_the_first_words_of_entries_all_over_the_index() -> None:
    store = MemoryStore()
    store.ensure(spec())
    texts = [f"{number} " + "word " * 20 for number in range(200)]
    entries = [entry(asset(key=text[:3]), collection=Collection.TEXT, text=text) for text in texts]
    store.upsert(Collection.TEXT, entries)
    store.upsert(Collection.TEXT, [entry(asset(tenant="globex"), collection=Collection.TEXT, text="of another tenant")])
    queries = queries_of_index(store, "default", 20, timeout_s=1)
    again = queries_of_index(store, "default", 20, timeout_s=1)
    assert queries == again
    assert 15 <= len(queries) <= 20
    assert all(len(str(passage.content["text"]).split()) == 12 for passage in queries)
    ids = sorted(passage.id for passage in entries)
    places = [
        ids.index(passage.id)
        for passage in entries
        if any(passage.text.startswith(str(q.content["text"])) for q in queries)
    ]
    assert max(places) - min(places) > 150
    assert queries_of_index(store, "nobody", 20, timeout_s=1) == []
