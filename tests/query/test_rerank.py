"""Tests of reranking: which hits change places, what happens if the model fails, and that the budget is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import OverloadedError
from penstock.query.reading_pace import CALL_TOKENS, ReadingPace
from penstock.query.rerank import BATCH_MS, FAILED, Reranked, Reranker
from penstock.query.types import Hit, Moment, MomentMember
from penstock.records import AssetRef, Collection, Float32, bare_entry


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


class Reader:
    """Scores passages as a test sets them, takes time for it, and records what it reads.

    A passage has as many tokens as letters.
    """

    reranks_by = "double"

    def __init__(
        self, scores: Mapping[str, float], error: Exception | None = None, *, ms_per_token: float = 0.0
    ) -> None:
        self._scores = scores
        self._error = error
        self.ms_per_token = ms_per_token
        self.calls: list[Sequence[str]] = []
        self.known: set[str] = set()

    def tokens_to_read(self, passages: Sequence[str]) -> Sequence[int]:
        return [0 if passage in self.known else len(passage) for passage in passages]

    async def score_passages(self, question: str, passages: Sequence[str]) -> Float32:
        self.calls.append(passages)
        if self.ms_per_token:
            await asyncio.sleep((sum(self.tokens_to_read(passages)) + CALL_TOKENS) * self.ms_per_token / 1000)
        if self._error is not None:
            raise self._error
        return np.array([self._scores[passage] for passage in passages], np.float32)


def hit(text: str, score: float, collection: Collection = Collection.TEXT, *, spoken: str = "") -> Hit:
    asset = AssetRef("default", f"media.{collection}", f"{text}{spoken}{score}")
    entry = replace(bare_entry(asset, collection), text=text, end_ms=1_000 if spoken else 0)
    return Hit(entry, score, (), Moment(0, 1_000, (MomentMember(entry, ()),), None) if spoken else None)


def reranked(
    hits: Sequence[Hit],
    reader: Reader,
    *,
    top: int = 10,
    budget_s: float = 5.0,
    pace: ReadingPace | None = None,
) -> tuple[Reranked, float]:
    """Returns the result, and the seconds that it took by the clock of the loop."""
    loop = OwnClock()
    try:
        reranker = Reranker(reader, loop.time, pace)
        result = loop.run_until_complete(reranker.rerank(hits, "a question", top=top, budget_s=budget_s))
        return result, loop.now_s
    finally:
        loop.close()


def texts_after(hits: Sequence[Hit], reader: Reader, *, top: int = 10) -> list[str]:
    return [hit.entry.text for hit in reranked(hits, reader, top=top)[0].hits]


HITS = [hit("a", 3.0), hit("b", 2.9), hit("c", 0.1)]


def test_a_much_better_score_of_the_model_changes_the_order() -> None:
    assert texts_after(HITS, Reader({"a": 0.1, "b": 0.9, "c": 0.2})) == ["b", "a", "c"]


def test_a_much_better_score_of_the_fusion_keeps_it() -> None:
    hits = [hit("a", 9.0), hit("b", 0.2), hit("c", 0.1)]
    assert texts_after(hits, Reader({"a": 0.5, "b": 0.55, "c": 0.1}))[0] == "a"


def test_places_keep_their_scores() -> None:
    result, _ = reranked(HITS, Reader({"a": 0.1, "b": 0.9, "c": 0.2}))
    assert [hit.score for hit in result.hits] == [3.0, 2.9, 0.1]


def test_hits_without_words_keep_their_places() -> None:
    image = hit("", 2.95, Collection.IMAGE)
    reader = Reader({"a": 0.1, "b": 0.9, "c": 0.2})
    assert texts_after([HITS[0], image, *HITS[1:]], reader) == ["b", "", "a", "c"]
    assert reader.calls == [["a", "b", "c"]]


def test_an_image_is_read_by_the_words_that_were_read_in_it() -> None:
    image = hit("words on a sign", 2.9, Collection.IMAGE)
    assert texts_after([HITS[0], image], Reader({"a": 0.1, "words on a sign": 0.9})) == ["a", "words on a sign"]
    third = hit("c", 0.1)
    assert texts_after([HITS[0], image, third], Reader({"a": 0.1, "words on a sign": 0.9, "c": 0.2})) == [
        "words on a sign",
        "a",
        "c",
    ]


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
    result, _ = reranked([HITS[0], hit("", 1.0, Collection.IMAGE)], reader)
    assert [hit.entry.text for hit in result.hits] == ["a", ""]
    assert (reader.calls, result.report.of, result.because) == ([], 1, None)


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


def test_a_model_that_fails_leaves_the_order_and_is_named(caplog: pytest.LogCaptureFixture) -> None:
    result, _ = reranked(HITS, Reader({}, OverloadedError("full", retry_after_s=1.0)))
    assert [hit.entry.text for hit in result.hits] == ["a", "b", "c"]
    assert (result.report.done, result.report.of, result.because) == (0, 3, FAILED)
    assert "keep the order of the fusion" in caplog.text


# --- the budget ------------------------------------------------------------------------------------------------------

TEN = [hit("x" * 20 + str(number), 10.0 - number) for number in range(10)]
TEN_SCORES = {h.entry.text: float(number) for number, h in enumerate(TEN)}


def test_hits_are_read_in_the_order_of_the_fusion_in_batches_of_the_measured_pace() -> None:
    reader = Reader(TEN_SCORES, ms_per_token=0.2)
    result, took_s = reranked(TEN, reader, pace=ReadingPace(0.2))
    assert [text for call in reader.calls for text in call] == [h.entry.text for h in TEN]
    assert (result.report.done, result.report.of, result.because) == (10, 10, None)
    batches_ms = [(sum(map(len, call)) + CALL_TOKENS) * 0.2 for call in reader.calls]
    assert max(batches_ms) <= BATCH_MS or max(map(len, reader.calls)) == 1
    assert len(reader.calls) > 1
    assert result.report.ms == pytest.approx(took_s * 1000)


def test_reading_stops_before_the_budget_and_the_rest_keep_their_places() -> None:
    reader = Reader(TEN_SCORES, ms_per_token=0.2)
    result, took_s = reranked(TEN, reader, budget_s=0.06, pace=ReadingPace(0.2))
    done = result.report.done
    assert 0 < done < 10
    assert took_s <= 0.06
    assert sorted(h.entry.text for h in result.hits[:done]) == sorted(h.entry.text for h in TEN[:done])
    assert [h.entry.text for h in result.hits[done:]] == [h.entry.text for h in TEN[done:]]
    assert result.because == (
        f"Of 10 hits with words {done} were reranked within the 60 ms that there were; the others keep the places of "
        "the fusion."
    )


def test_a_model_that_is_slower_than_ever_is_given_up_at_the_end_of_the_budget() -> None:
    result, took_s = reranked(TEN, Reader(TEN_SCORES, ms_per_token=1_000.0), budget_s=0.06, pace=ReadingPace(0.2))
    assert (result.report.done, took_s) == (0, pytest.approx(0.06, abs=0.001))
    assert [h.entry.text for h in result.hits] == [h.entry.text for h in TEN]


@given(
    ms_per_token=st.floats(0.001, 50.0),
    believed=st.floats(0.001, 50.0),
    budget_ms=st.floats(0.0, 500.0),
    passages=st.integers(0, 40),
)
def test_no_pace_and_no_belief_about_it_exceeds_the_budget(
    ms_per_token: float, believed: float, budget_ms: float, passages: int
) -> None:
    hits = [hit("y" * (number % 30 + 1), float(-number)) for number in range(passages)]
    reader = Reader(dict.fromkeys((h.entry.text for h in hits), 1.0), ms_per_token=ms_per_token)
    result, took_s = reranked(hits, reader, top=50, budget_s=budget_ms / 1000, pace=ReadingPace(believed))
    assert took_s * 1000 <= budget_ms + 0.001
    assert sorted(h.entry.text for h in result.hits) == sorted(h.entry.text for h in hits)


def test_cached_passages_cost_nothing() -> None:
    reader = Reader(TEN_SCORES, ms_per_token=0.2)
    reader.known = set(TEN_SCORES)
    result, _ = reranked(TEN, reader, budget_s=0.03, pace=ReadingPace(0.2))
    assert (result.report.done, len(reader.calls)) == (10, 1)


@pytest.mark.parametrize("budget_s", [0.0, -1.0])
def test_a_model_without_time_is_not_called(budget_s: float) -> None:
    reader = Reader({})
    result, _ = reranked(HITS, reader, budget_s=budget_s)
    assert (list(result.hits), reader.calls, result.report.done) == (HITS, [], 0)


def test_the_model_is_tried_again_after_it_was_too_slow() -> None:
    """An estimate that only calls correct would keep a model off permanently, once it was slow."""
    pace = ReadingPace(100.0)
    reader = Reader(TEN_SCORES, ms_per_token=0.01)
    searches = next(
        number for number in range(1_000) if reranked(TEN, reader, budget_s=0.1, pace=pace)[0].report.done == 10
    )
    assert 0 < searches < 100


def test_eight_concurrent_searches_keep_their_budgets_where_the_model_takes_one_call_at_a_time() -> None:
    loop = OwnClock()
    turn = asyncio.Lock()

    class OneAtATime(Reader):
        async def score_passages(self, question: str, passages: Sequence[str]) -> Float32:
            async with turn:
                return await super().score_passages(question, passages)

    reranker = Reranker(OneAtATime(TEN_SCORES, ms_per_token=0.05), loop.time)
    took_s: list[float] = []

    async def client() -> None:
        for _ in range(25):
            began_s = loop.time()
            await reranker.rerank(TEN, "a question", top=10, budget_s=0.05)
            took_s.append(loop.time() - began_s)

    async def clients() -> None:
        await asyncio.gather(*(client() for _ in range(8)))

    loop.run_until_complete(clients())
    loop.close()
    assert len(took_s) == 200
    assert max(took_s) <= 0.05 + 1e-6


# --- the pace --------------------------------------------------------------------------------------------------------


def test_the_pace_follows_what_calls_took() -> None:
    pace = ReadingPace(1.0)
    for _ in range(40):
        pace.observe(400, 50.0)
    assert pace.expected_ms(400) == pytest.approx(50.0, rel=0.01)


def test_a_slower_call_counts_more_than_a_faster_one() -> None:
    slower, faster = ReadingPace(1.0), ReadingPace(1.0)
    slower.observe(0, 2 * CALL_TOKENS)
    faster.observe(0, 0.0)
    assert slower.ms_per_token - 1 > 1 - faster.ms_per_token


@pytest.mark.parametrize(
    ("change", "grows"),
    [
        (lambda pace: pace.observe(0, 1_000.0, finished=False), True),
        (lambda pace: pace.observe(0, 1.0, finished=False), False),
    ],
)
def test_a_call_that_was_given_up_never_makes_the_pace_faster(
    change: Callable[[ReadingPace], None], grows: bool
) -> None:
    pace = ReadingPace(1.0)
    change(pace)
    assert (pace.ms_per_token > 1.0) == grows
    assert pace.ms_per_token >= 1.0
