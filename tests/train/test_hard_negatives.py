"""Tests of finding hard negatives, with false ones planted among them."""

from __future__ import annotations

import numpy as np
import pytest

from penstock.records import Float32
from penstock.train.hard_negatives import NegativeFilter, chosen_by_words, mine_negatives


def unit_vectors(count: int, dim: int, seed: int = 0) -> Float32:
    vectors = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def near(vectors: Float32, noise: float, seed: int) -> Float32:
    moved = vectors + noise * unit_vectors(len(vectors), vectors.shape[1], seed=seed)
    return np.asarray(moved / np.linalg.norm(moved, axis=1, keepdims=True), dtype=np.float32)


QUESTIONS = unit_vectors(40, 32)
RIGHT = near(QUESTIONS, 0.4, 1)
FALSE = near(RIGHT, 0.1, 2)  # as right as the right ones, though no label says it
HARD = near(QUESTIONS, 1.2, 3)
BANK = np.concatenate([RIGHT, FALSE, HARD, unit_vectors(200, 32, seed=4)])
CHOSEN = [frozenset({row}) for row in range(40)]


@pytest.mark.parametrize("rule", [NegativeFilter("relative", 0.1), NegativeFilter("absolute", 0.1)])
def test_planted_false_negatives_are_filtered(rule: NegativeFilter) -> None:
    negatives = mine_negatives(QUESTIONS, BANK, CHOSEN, count=3, rule=rule)
    own = np.arange(40)[:, None]
    assert not ((negatives == own) | (negatives == own + 40)).any()
    hardest = (QUESTIONS * HARD).sum(axis=1) > 0.55
    assert hardest.sum() > 20
    assert (negatives[hardest] == (80 + np.arange(40))[hardest, None]).any(axis=1).mean() > 0.9


def test_without_a_margin_the_false_ones_come_first() -> None:
    negatives = mine_negatives(QUESTIONS, BANK, CHOSEN, count=3, rule=NegativeFilter("absolute", -1.0))
    assert (negatives[:, 0] == 40 + np.arange(40)).mean() > 0.9


def test_what_the_same_question_chose_is_no_negative() -> None:
    words = ["Rice ", "rice", *(f"question {number}" for number in range(38))]
    chosen = chosen_by_words(words, [frozenset({80}), frozenset({81}), *CHOSEN[2:]])
    assert chosen[0] == chosen[1] == {80, 81}
    assert chosen[2] == {2}
    negatives = mine_negatives(QUESTIONS, BANK, chosen, count=5, rule=NegativeFilter("absolute", -1.0))
    assert not np.isin(negatives[:2], [80, 81]).any()


def test_questions_with_fewer_candidates_are_filled_up() -> None:
    negatives = mine_negatives(
        QUESTIONS[:1], BANK[:3], [frozenset({0})], count=5, rule=NegativeFilter("absolute", -1.0)
    )
    assert sorted(negatives[0].tolist()) == [-1, -1, -1, 1, 2]
    assert (mine_negatives(QUESTIONS[:1], BANK, [frozenset()], count=2) == -1).all()
