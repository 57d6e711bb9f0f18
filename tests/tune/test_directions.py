"""Tests of directions: exact answers, recall with ties, held-out questions, and grown banks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.encoders.profiles import load_profile
from penstock.errors import UsageError
from penstock.evaluate.datasets import read_set
from penstock.evaluate.vectors import VectorFiles
from penstock.store.index_trials import buckets_of
from penstock.tune.directions import banks_of_set, exact_answers, grown, hold_out, joined
from tests.evaluate.made_sets import write_images, write_texts
from tests.tune.made_banks import DIM, made_bank, unit

BANK = made_bank()
WORDS = BANK.directions[0].queries


def exact_rows(query: int, count: int) -> np.ndarray:
    return np.argsort(-(BANK.vectors @ WORDS[query]), kind="stable")[:count]


def test_the_exact_answer_has_recall_1_and_each_miss_costs_a_tenth() -> None:
    answers = exact_answers(BANK.vectors, WORDS, k=10)
    for query in range(len(WORDS)):
        best = exact_rows(query, 20)
        assert answers.recall(query, best) == 1.0
        assert answers.recall(query, np.concatenate([best[:9], best[15:]])) == pytest.approx(0.9)
        assert answers.recall(query, best[10:]) == 0.0


def test_what_stands_beyond_the_tenth_or_twice_does_not_count() -> None:
    answers = exact_answers(BANK.vectors, WORDS, k=10)
    best = exact_rows(0, 30)
    assert answers.recall(0, np.concatenate([best[10:20], best[:10]])) == 0.0
    assert answers.recall(0, np.repeat(best[0], 10)) == pytest.approx(0.1)


@given(st.integers(1, 30))
@settings(max_examples=20)
def test_equal_vectors_are_equal_answers(copies: int) -> None:
    bank = np.concatenate([np.tile(unit(np.ones((1, 4))), (copies, 1)), unit(-np.ones((20, 4)))])
    answers = exact_answers(bank, unit(np.ones((1, 4))), k=10)
    rows = np.concatenate([np.arange(copies)[::-1], np.arange(copies, copies + 20)[::-1]])
    assert answers.recall(0, rows[:10]) == 1.0


def test_with_a_filter_only_allowed_vectors_are_wanted() -> None:
    answers = exact_answers(BANK.vectors, WORDS, k=10, below_bucket=1)
    allowed = np.flatnonzero(buckets_of(len(BANK.vectors)) < 1)
    assert answers.counts[0] == len(allowed) < 10
    assert answers.recall(0, allowed) == 1.0
    assert answers.recall(0, allowed[1:]) == pytest.approx((len(allowed) - 1) / len(allowed))


def test_buckets_are_of_equal_share_and_always_the_same() -> None:
    buckets = buckets_of(1_000)
    assert np.bincount(buckets).tolist() == [10] * 100
    assert (buckets == buckets_of(1_000)).all()


def test_questions_that_are_held_out_are_not_in_the_bank() -> None:
    vectors = unit(np.random.default_rng(0).normal(size=(100, DIM)))
    held_out, bank = hold_out(vectors, 10, seed=1)
    assert (len(held_out), len(bank)) == (10, 90)
    assert not {row.tobytes() for row in held_out} & {row.tobytes() for row in bank}
    assert len(hold_out(vectors, 90, seed=1)[0]) == 25, "most of the vectors are searched"


def test_a_grown_bank_keeps_the_real_vectors_first_and_their_neighbourhoods() -> None:
    larger = grown(BANK, 2_000, seed=3)
    assert larger.vectors.shape == (2_000, DIM)
    assert np.array_equal(larger.vectors[: len(BANK.vectors)], BANK.vectors)
    np.testing.assert_allclose(np.linalg.norm(larger.vectors, axis=1), 1, atol=1e-5)
    added = larger.vectors[len(BANK.vectors) :]
    nearest = (added @ BANK.vectors.T).max(axis=1)
    assert nearest.mean() > 0.5
    assert nearest.max() < 0.9999, "no copy"
    assert np.array_equal(grown(BANK, 2_000, seed=3).vectors, larger.vectors)
    assert grown(BANK, 10, seed=3) is BANK


def test_a_set_gives_texts_by_words_and_images_by_words_and_by_images(tmp_path: Path) -> None:
    profile = load_profile("null")
    stored = VectorFiles(tmp_path / "vectors", profile)
    texts = banks_of_set(read_set(write_texts(tmp_path / "texts")), stored, max_queries=30, seed=0)
    assert [direction.name for bank in texts for direction in bank.directions] == ["words → text.passage"]
    assert len(texts[0].directions[0].queries) == 30
    with pytest.raises(UsageError, match="fewer than 20 questions"):
        banks_of_set(read_set(write_images(tmp_path / "images")), stored, max_queries=30, seed=0)


def test_sets_are_joined_by_channel_and_direction() -> None:
    (both,) = joined([BANK, made_bank(300, seed=9)], max_queries=80, seed=0)
    assert len(both.vectors) == len(BANK.vectors) + 240
    assert {direction.name: len(direction.queries) for direction in both.directions} == {
        "words → image.joint": 80,
        "images → image.joint": 80,
    }
