"""Metrics: equal to ir_measures without ties, and with ties the same whatever the order of equal scores."""

from __future__ import annotations

import math

import ir_measures
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.evaluate.judgements import Judgements
from penstock.evaluate.metrics import Run, chance, measure, order_against

KS = (1, 5, 10)


def _judgements(rng: np.random.Generator, queries: int, documents: int) -> Judgements:
    pairs = [
        (query, int(row), float(rng.integers(1, 4)))
        for query in range(queries)
        for row in rng.choice(documents, rng.integers(1, 13), replace=False)
    ]
    return Judgements.of_pairs(pairs, queries=queries)


def test_metrics_equal_ir_measures_on_runs_without_ties() -> None:
    rng = np.random.default_rng(5)
    judgements = _judgements(rng, 200, 120)
    documents = np.stack([rng.permutation(120)[:50] for _ in range(200)])
    scores = np.stack([rng.permutation(50) + 0.5 for _ in range(200)])
    lengths = rng.integers(0, 51, 200)  # some queries find less, or nothing
    documents[np.arange(50)[None, :] >= lengths[:, None]] = -1
    run = [
        ir_measures.ScoredDoc(f"q{query}", f"d{document}", float(score))
        for query in range(200)
        for document, score in zip(documents[query], scores[query], strict=True)
        if document >= 0
    ]
    qrels = [
        ir_measures.Qrel(f"q{query}", f"d{document}", int(gain))
        for query, document, gain in zip(judgements.query_of_pair, judgements.documents, judgements.gains, strict=True)
    ]
    theirs = {
        "MRR@10": ir_measures.RR @ 10,
        "nDCG@10": ir_measures.nDCG @ 10,
        **{f"hit@{k}": ir_measures.Success @ k for k in KS},
        **{f"recall@{k}": ir_measures.R @ k for k in KS},
    }
    expected = ir_measures.calc_aggregate(list(theirs.values()), qrels, run)

    values = measure(Run(documents, scores), judgements, ks=KS)

    assert set(values) == set(theirs)
    for name, metric in theirs.items():
        assert values[name].mean() == pytest.approx(expected[metric], abs=1e-9), name


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4))
def test_shuffling_documents_of_equal_score_changes_no_figure(seed: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    judgements = _judgements(rng, 4, 30)
    documents = np.stack([rng.permutation(30) for _ in range(4)])
    scores = rng.integers(0, levels, (4, 30)).astype(np.float64)
    shuffle = rng.permutation(30)

    before = measure(Run(documents, scores), judgements)
    after = measure(Run(documents[:, shuffle], scores[:, shuffle]), judgements)

    for name, value in before.items():
        np.testing.assert_array_equal(value, after[name], name)


def test_ties_count_against_the_system() -> None:
    judgements = Judgements.of_pairs([(0, 0, 1.0)], queries=1)
    run = Run(np.arange(20)[None, :], np.zeros((1, 20)))

    values = measure(run, judgements)

    assert values["hit@10"][0] == 0.0  # it could stand anywhere from 1 to 20, and counts as the last
    assert order_against(run, judgements)[0, -1] == 0


def test_hit_and_recall_are_two_things() -> None:
    judgements = Judgements.of_pairs([(0, 0, 1.0), (0, 9, 1.0)], queries=1)
    values = measure(Run(np.array([[3, 0, 4, 5, 9]]), np.array([[5.0, 4.0, 3.0, 2.0, 1.0]])), judgements, ks=(1, 2, 5))

    assert [values[f"hit@{k}"][0] for k in (1, 2, 5)] == [0.0, 1.0, 1.0]
    assert [values[f"recall@{k}"][0] for k in (1, 2, 5)] == [0.0, 0.5, 1.0]
    assert values["MRR@10"][0] == 0.5
    assert values["nDCG@10"][0] == pytest.approx((1 / math.log2(3) + 1 / math.log2(6)) / (1 + 1 / math.log2(3)))


def test_a_query_without_results_finds_nothing() -> None:
    judgements = Judgements.of_pairs([(0, 2, 1.0)], queries=1)
    values = measure(Run(np.full((1, 3), -1), np.full((1, 3), -np.inf)), judgements)
    assert {float(value[0]) for value in values.values()} == {0.0}


def test_chance_is_the_mean_over_random_orders() -> None:
    rng = np.random.default_rng(1)
    judgements = Judgements.of_pairs([(0, 0, 1.0), (0, 1, 2.0), (0, 2, 1.0), (1, 4, 1.0)], queries=2)
    orders = [np.stack([rng.permutation(30), rng.permutation(30)]) for _ in range(4_000)]
    scores = np.tile(-np.arange(30.0), (2, 1))
    measured = [measure(Run(order, scores), judgements) for order in orders]

    for name, value in chance(judgements, 30).items():
        mean = np.mean([values[name] for values in measured], axis=0)
        np.testing.assert_allclose(value, mean, atol=0.03, err_msg=name)


def test_hit_at_k_is_what_clip_benchmark_calls_recall() -> None:
    """CLIP_benchmark counts a text as answered if a positive pair is among the k largest scores of its row."""
    rng = np.random.default_rng(2)
    scores, positive = rng.random((40, 25)), np.zeros((40, 25), dtype=np.bool_)
    positive[np.arange(40), rng.integers(0, 25, 40)] = True
    positive[np.arange(40), rng.integers(0, 25, 40)] = True
    pairs = [(int(query), int(row), 1.0) for query, row in zip(*positive.nonzero(), strict=True)]
    run = Run(np.tile(np.arange(25), (40, 1)), scores)
    values = measure(run, Judgements.of_pairs(pairs, queries=40), ks=KS)
    for k in KS:
        largest = np.argsort(-scores, axis=1)[:, :k]
        in_top = np.zeros_like(positive)
        in_top[np.arange(40)[:, None], largest] = True
        of_pairs = (in_top & positive).sum(axis=1) / positive.sum(axis=1)
        assert values[f"hit@{k}"].mean() == pytest.approx((of_pairs > 0).mean())
        assert values[f"recall@{k}"].mean() == pytest.approx(of_pairs.mean())
