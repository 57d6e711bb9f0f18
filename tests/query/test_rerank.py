"""Tests of reranking: which hits change places, and what happens if the model fails."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from penstock.errors import OverloadedError
from penstock.query.rerank import LATE, rerank
from penstock.query.types import Hit, Moment, MomentMember
from penstock.records import AssetRef, Collection, Float32, bare_entry


class Reader:
    """Scores passages as a test sets them, and records what it reads."""

    def __init__(self, scores: Mapping[str, float], error: Exception | None = None, *, wait_s: float = 0.0) -> None:
        self._scores = scores
        self._error = error
        self._wait_s = wait_s
        self.calls: list[Sequence[str]] = []

    async def score_passages(self, question: str, passages: Sequence[str]) -> Float32:
        self.calls.append(passages)
        await asyncio.sleep(self._wait_s)
        if self._error is not None:
            raise self._error
        return np.array([self._scores[passage] for passage in passages], np.float32)


def hit(text: str, score: float, collection: Collection = Collection.TEXT, *, spoken: str = "") -> Hit:
    asset = AssetRef("default", f"media.{collection}", f"{text}{spoken}{score}")
    entry = replace(bare_entry(asset, collection), text=text, end_ms=1_000 if spoken else 0)
    return Hit(entry, score, (), Moment(0, 1_000, (MomentMember(entry, ()),), None) if spoken else None)


def texts_after(hits: Sequence[Hit], reader: Reader, *, top: int = 10, timeout_s: float = 5.0) -> list[str]:
    reranked, _ = asyncio.run(rerank(hits, "a question", reader, top=top, timeout_s=timeout_s))
    return [hit.entry.text for hit in reranked]


HITS = [hit("a", 3.0), hit("b", 2.9), hit("c", 0.1)]


def test_a_much_better_score_of_the_model_changes_the_order() -> None:
    assert texts_after(HITS, Reader({"a": 0.1, "b": 0.9, "c": 0.2})) == ["b", "a", "c"]


def test_a_much_better_score_of_the_fusion_keeps_it() -> None:
    hits = [hit("a", 9.0), hit("b", 0.2), hit("c", 0.1)]
    assert texts_after(hits, Reader({"a": 0.5, "b": 0.55, "c": 0.1}))[0] == "a"


def test_places_keep_their_scores() -> None:
    reranked, _ = asyncio.run(rerank(HITS, "a question", Reader({"a": 0.1, "b": 0.9, "c": 0.2}), top=10, timeout_s=5.0))
    assert [hit.score for hit in reranked] == [3.0, 2.9, 0.1]


def test_hits_without_words_keep_their_places() -> None:
    image = hit("", 2.95, Collection.IMAGE)
    reader = Reader({"a": 0.1, "b": 0.9, "c": 0.2})
    assert texts_after([HITS[0], image, *HITS[1:]], reader) == ["b", "", "a", "c"]
    assert reader.calls == [["a", "b", "c"]]


def test_a_moment_is_read_by_its_transcript() -> None:
    moment = hit("spoken words", 2.0, Collection.SPEECH, spoken="spoken words")
    reader = Reader({"a": 0.1, "spoken words": 0.9})
    assert texts_after([HITS[0], moment], reader) == ["a", "spoken words"]
    assert reader.calls == [["a", "spoken words"]]


def test_only_the_first_hits_are_read() -> None:
    reader = Reader({"a": 0.1, "b": 0.9})
    assert texts_after(HITS, reader, top=2) in (["b", "a", "c"], ["a", "b", "c"])
    assert reader.calls == [["a", "b"]]


def test_one_hit_with_words_is_not_read() -> None:
    reader = Reader({})
    assert texts_after([HITS[0], hit("", 1.0, Collection.IMAGE)], reader) == ["a", ""]
    assert reader.calls == []


def test_a_passage_that_cannot_be_scored_counts_as_the_worst() -> None:
    assert texts_after(HITS, Reader({"a": float("nan"), "b": 0.9, "c": 0.5}))[0] == "b"
    assert texts_after(HITS, Reader(dict.fromkeys("abc", float("nan")))) == ["a", "b", "c"]


@pytest.mark.parametrize("reader", [Reader({}, RuntimeError("out of memory")), Reader({})])
def test_an_unexpected_error_of_the_model_leaves_the_order_and_is_logged(
    reader: Reader, caplog: pytest.LogCaptureFixture
) -> None:
    assert texts_after(HITS, reader) == ["a", "b", "c"]
    (record,) = caplog.records
    assert record.exc_info


def test_a_model_that_fails_leaves_the_order(caplog: pytest.LogCaptureFixture) -> None:
    assert texts_after(HITS, Reader({}, OverloadedError("full", retry_after_s=1.0))) == ["a", "b", "c"]
    assert "keep the order of the fusion" in caplog.text


class OwnClock(asyncio.SelectorEventLoop):
    """An event loop whose clock stands still, and jumps to the next timer when nothing else is left to do."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self._selector.select = self._jump  # type: ignore[attr-defined]

    def time(self) -> float:
        return self.now_s

    def _jump(self, timeout_s: float | None = None) -> list[object]:
        self.now_s += timeout_s or 0.0
        return []


@pytest.mark.parametrize(
    ("takes_s", "order", "notice", "ends_s"),
    [(0.4, ["b", "a", "c"], None, 0.4), (0.6, ["a", "b", "c"], LATE, 0.5), (3_600.0, ["a", "b", "c"], LATE, 0.5)],
)
def test_a_model_is_given_up_when_its_time_is_over(
    takes_s: float, order: list[str], notice: str | None, ends_s: float
) -> None:
    loop = OwnClock()
    reader = Reader({"a": 0.1, "b": 0.9, "c": 0.2}, wait_s=takes_s)
    reranked, late = loop.run_until_complete(rerank(HITS, "a question", reader, top=10, timeout_s=0.5))
    loop.close()
    assert ([hit.entry.text for hit in reranked], late) == (order, notice)
    assert loop.now_s == pytest.approx(ends_s, abs=0.001)


@pytest.mark.parametrize("timeout_s", [0.0, -1.0])
def test_a_model_without_time_is_not_called(timeout_s: float) -> None:
    reader = Reader({})
    reranked, notice = asyncio.run(rerank(HITS, "a question", reader, top=10, timeout_s=timeout_s))
    assert (reranked, notice, reader.calls) == (HITS, LATE, [])
