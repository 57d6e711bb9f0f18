from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from penstock.encoders.maxsim import MaxSimScorer, TokenVectorCache, maxsim, text_key
from penstock.records import EncoderInput, Float32

WORDS = {word: number for number, word in enumerate(("red", "blue", "green", "bicycle", "tea"))}


def one_hot(text: str) -> Float32:
    return np.eye(len(WORDS), dtype=np.float32)[[WORDS[word] for word in text.split()]]


class WordEncoder:
    """A sentence encoder whose tokens are words with vectors of their own."""

    def __init__(self, failing: Sequence[str] = ()) -> None:
        self.batches: list[EncoderInput] = []
        self._failing = failing

    def encode_tokens(self, batch: EncoderInput) -> tuple[Float32 | None, ...]:
        self.batches.append(batch)
        return tuple(None if text in self._failing else one_hot(text) for text in batch.texts)


def unit(*shape: int) -> Float32:
    vectors = np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)
    normalised: Float32 = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return normalised


def test_the_score_is_the_mean_over_the_questions_tokens_of_the_best_cosine() -> None:
    question, passages = unit(3, 8), [unit(5, 8), unit(1, 8), unit(7, 8)]
    expected = [np.mean([max(q @ p for p in passage) for q in question]) for passage in passages]
    scores = maxsim(question, passages)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


def test_what_has_no_tokens_scores_zero() -> None:
    none = np.zeros((0, 8), dtype=np.float32)
    scores = maxsim(unit(3, 8), [none, unit(5, 8), none])
    assert scores[0] == scores[2] == 0
    assert scores[1] != 0
    np.testing.assert_array_equal(maxsim(none, [unit(5, 8), none]), [0, 0])
    assert maxsim(unit(3, 8), []).shape == (0,)


def test_the_order_of_passages_changes_no_score() -> None:
    question, passages = unit(4, 8), [unit(length, 8) for length in (2, 9, 4)]
    # A BLAS may add up a row of another place of the matrix in another order.
    np.testing.assert_allclose(maxsim(question, passages)[::-1], maxsim(question, passages[::-1]), atol=1e-6)


def test_a_passage_that_has_the_questions_words_scores_best() -> None:
    scorer = MaxSimScorer(WordEncoder(), TokenVectorCache())
    np.testing.assert_allclose(
        scorer.score("red bicycle", ["green tea", "red bicycle", "blue bicycle"]).scores, [0, 1, 0.5]
    )


def test_a_passage_is_encoded_once_and_a_question_as_a_query() -> None:
    encoder = WordEncoder()
    scorer = MaxSimScorer(encoder, TokenVectorCache())
    first = scorer.score("tea", ["green tea", "green tea", "red tea"])
    second = scorer.score("red tea", ["green tea", "blue"])
    assert (first.known, first.encoded) == (0, 2)
    assert (second.known, second.encoded) == (1, 1)
    assert [(batch.encoder, batch.texts) for batch in encoder.batches] == [
        ("passage.query", ("tea",)),
        ("passage.text", ("green tea", "red tea")),
        ("passage.query", ("red tea",)),
        ("passage.text", ("blue",)),
    ]
    assert scorer.known(["green tea", "red tea", "green"]) == 2


def test_no_more_new_passages_are_encoded_than_allowed() -> None:
    scorer = MaxSimScorer(WordEncoder(), TokenVectorCache())
    scorer.score("tea", ["red"])
    result = scorer.score("tea", ["blue", "green", "red"], max_new=1)
    assert result.encoded == 1
    np.testing.assert_array_equal(np.isnan(result.scores), [False, True, False])


def test_a_text_that_cannot_be_encoded_has_no_score_and_the_others_have_theirs() -> None:
    scorer = MaxSimScorer(WordEncoder(failing=["red"]), TokenVectorCache())
    np.testing.assert_array_equal(scorer.score("tea", ["red", "green tea"]).scores, [np.nan, 1])


def test_no_passage_is_encoded_for_a_question_that_cannot_be() -> None:
    encoder = WordEncoder(failing=["red"])
    result = MaxSimScorer(encoder, TokenVectorCache()).score("red", ["green tea", "tea"])
    assert np.isnan(result.scores).all()
    assert (result.encoded, [batch.texts for batch in encoder.batches]) == (0, [("red",)])


def test_the_cache_keeps_the_recently_used_within_its_bytes() -> None:
    cache = TokenVectorCache(max_bytes=2 * (200 + 10 * 8 * 2))
    for key in "ab":
        cache.store(key, unit(10, 8))
    assert cache.get("a") is not None
    cache.store("c", unit(10, 8))
    assert [key in cache for key in "abc"] == [True, False, True]
    assert cache.size_bytes <= 2 * 360
    cache.store("large", unit(100, 8))
    assert "large" not in cache
    assert "a" in cache


def test_what_the_cache_keeps_is_half_as_precise_and_scores_the_same() -> None:
    question, passage = unit(4, 384), unit(60, 384)
    kept = TokenVectorCache().store("a", passage)
    assert kept.dtype == np.float16
    np.testing.assert_allclose(maxsim(question, [kept]), maxsim(question, [passage]), atol=1e-3)


def test_a_scorer_without_a_cache_encodes_every_time() -> None:
    scorer = MaxSimScorer(WordEncoder(), TokenVectorCache(0))
    assert [scorer.score("tea", ["green tea"]).encoded for _ in range(2)] == [1, 1]


@pytest.mark.parametrize("text", ["", "a", "日本語"])
def test_the_key_of_a_text_depends_on_the_text_alone(text: str) -> None:
    assert text_key(text) == text_key(text)
    assert text_key(text) != text_key(text + " ")
