"""Tests of exact ranks, with ties counted against the system."""

from __future__ import annotations

import numpy as np
import pytest

from penstock.evaluate.judgements import Judgements
from penstock.evaluate.metrics import MRR, Run, measure
from penstock.train.ranks import first_ranks, reciprocal_ranks
from tests.train.planted import planted


def test_the_rank_is_that_of_the_best_right_document() -> None:
    bank = np.eye(4, dtype=np.float32)
    questions = np.array([[0.9, 0.1, 0.4, 0.0], [0.0, 0.3, 0.2, 0.1]], dtype=np.float32)
    judgements = Judgements.of_pairs([(0, 2, 1.0), (0, 1, 1.0), (1, 3, 1.0)], queries=2)
    assert first_ranks(questions, bank, judgements).tolist() == [2, 3]


def test_ties_count_against_the_system() -> None:
    bank = np.ones((5, 3), dtype=np.float32)
    judgements = Judgements.of_pairs([(0, 0, 1.0), (1, 1, 1.0), (1, 4, 1.0)], queries=2)
    assert first_ranks(np.ones((2, 3), dtype=np.float32), bank, judgements).tolist() == [5, 4]


def test_the_figures_are_those_of_an_evaluation() -> None:
    data = planted(noise=2.0)
    ranks = first_ranks(data.questions, data.bank, data.judgements)
    scores = np.round(data.questions @ data.bank.T, 6).astype(np.float64)
    run = Run(np.tile(np.arange(len(data.bank)), (len(scores), 1)), scores)
    assert reciprocal_ranks(ranks) == pytest.approx(measure(run, data.judgements)[MRR])
    assert 0.05 < reciprocal_ranks(ranks).mean() < 0.95
