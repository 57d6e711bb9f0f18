"""Tests of fewer dimensions: rotations, trained heads, and the refusal of bare prefixes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from penstock.errors import UsageError
from penstock.evaluate.metrics import NDCG
from penstock.records import Float32
from penstock.train.compression.autoencoder import restoring_gradients, train_autoencoder
from penstock.train.compression.codes import FP32
from penstock.train.compression.matryoshka import (
    LabelledPairs,
    MatryoshkaOptions,
    nested_gradient,
    train_matryoshka,
)
from penstock.train.compression.measure import CompressionData
from penstock.train.compression.reductions import Reduction, cut, fit_pca, normalised, random_projection
from tests.train.compression.made_data import DIM, made_data


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> CompressionData:
    return made_data(tmp_path_factory.mktemp("compression"))


def vectors(count: int, dim: int, seed: int = 0) -> Float32:
    return normalised(np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32))


def test_all_principal_components_change_no_cosine() -> None:
    documents = vectors(200, 24)
    rotated = fit_pca(documents, vectors(50, 24, 1)).apply(documents)
    np.testing.assert_allclose(rotated @ rotated.T, documents @ documents.T, atol=1e-5)


def test_fewer_principal_components_keep_more_than_a_random_projection(data: CompressionData) -> None:
    whole = data.documents @ data.documents.T
    errors = [
        float(np.abs(reduced @ reduced.T - whole).mean())
        for reduction in (fit_pca(data.documents).prefix(16), random_projection(DIM, 16, seed=0))
        for reduced in (reduction.apply(data.documents),)
    ]
    assert errors[0] < errors[1]


def test_a_prefix_without_a_trained_head_is_refused_with_the_reason() -> None:
    with pytest.raises(UsageError, match=r"not trained for it.*6 to 9 points.*matryoshka"):
        cut(DIM, DIM).prefix(16)


def test_an_untrained_head_changes_no_cosine_and_its_prefixes_are_those_of_pca(data: CompressionData) -> None:
    start = fit_pca(*data.fitting_vectors())
    head = train_matryoshka(data.labelled_pairs(), start, lambda _: 0.0, seed=1)
    assert np.array_equal(head.weights, start.weights)
    assert np.array_equal(head.prefix(16).weights, start.prefix(16).weights)


def test_the_head_finds_meaning_in_fewer_dimensions_where_variance_is_noise(data: CompressionData) -> None:
    start = fit_pca(*data.fitting_vectors())

    def judge(head: Reduction) -> float:
        return float(data.figures(head.prefix(16), FP32, data.dev)[NDCG].mean())

    options = MatryoshkaOptions(prefixes=(64, 32, 16), rate=3e-2, batch=64, epochs=40, patience=10)
    head = train_matryoshka(data.labelled_pairs(), start, judge, options, seed=1)
    of_test = [data.figures(reduction.prefix(16), FP32, data.test)[NDCG].mean() for reduction in (start, head)]
    assert of_test[1] > of_test[0] + 0.05
    again = train_matryoshka(data.labelled_pairs(), start, judge, options, seed=1)
    assert np.array_equal(again.weights, head.weights)


def test_the_gradient_of_the_nested_loss_is_that_of_differences() -> None:
    pairs = LabelledPairs(vectors(6, 8), vectors(6, 8, 1), np.array([0, 1, 2, 2, 4, 5]))
    weights: Any = np.random.default_rng(2).normal(size=(8, 8))
    as_float64 = LabelledPairs(pairs.queries.astype(np.float64), pairs.documents.astype(np.float64), pairs.texts)
    rows = np.arange(6)
    _, gradient = nested_gradient(weights, as_float64, rows, (8, 4), 0.2)
    for place in ((0, 0), (3, 2), (7, 6)):
        moved = weights.copy(), weights.copy()
        moved[0][place] += 1e-3
        moved[1][place] -= 1e-3
        losses = [nested_gradient(part, as_float64, rows, (8, 4), 0.2)[0] for part in moved]
        assert gradient[place] == pytest.approx((losses[0] - losses[1]) / 2e-3, rel=0.02, abs=1e-4)


def test_documents_of_equal_words_are_no_negatives_of_each_other() -> None:
    queries, documents = vectors(4, 8), vectors(4, 8, 1)
    documents[3] = documents[2]
    weights = np.eye(8, dtype=np.float32)
    losses = [
        nested_gradient(weights, LabelledPairs(queries, documents, np.array(texts)), np.arange(4), (8,), 0.1)[0]
        for texts in ([0, 1, 2, 3], [0, 1, 2, 2])
    ]
    assert losses[1] < losses[0]


def test_the_gradients_of_the_autoencoder_are_those_of_differences() -> None:
    rng = np.random.default_rng(0)
    parameters: list[Any] = [rng.normal(size=shape) for shape in ((8, 3), (8, 5), (5, 3), (3, 8))]
    batch: Any = rng.normal(size=(7, 8))
    _, gradients = restoring_gradients(batch, *parameters)
    for number, gradient in enumerate(gradients):
        losses = []
        for step in (1e-6, -1e-6):
            moved = [parameter.copy() for parameter in parameters]
            moved[number][1, 2] += step
            losses.append(restoring_gradients(batch, *moved)[0])
        assert gradient[1, 2] == pytest.approx((losses[0] - losses[1]) / 2e-6, rel=1e-3)


def test_an_untrained_autoencoder_is_pca_and_its_transform_is_the_same_map(data: CompressionData) -> None:
    start = fit_pca(data.documents).prefix(16)
    untrained = train_autoencoder(data.documents, start, seed=0, epochs=0)
    np.testing.assert_allclose(untrained.apply(data.queries), start.apply(data.queries), atol=1e-6)
    trained = train_autoencoder(data.documents, start, seed=0, epochs=3)
    assert not np.allclose(trained.apply(data.queries), start.apply(data.queries), atol=1e-3)
    np.testing.assert_allclose(trained.to_transform().apply(data.queries), trained.apply(data.queries), atol=1e-5)


def test_training_the_autoencoder_restores_documents_better(data: CompressionData) -> None:
    start = fit_pca(data.documents).prefix(16)

    def error(epochs: int) -> float:
        trained = train_autoencoder(data.documents, start, seed=0, epochs=epochs)
        code = trained.apply(data.documents)
        decoder = np.linalg.lstsq(code, data.documents, rcond=None)[0]
        return float(((code @ decoder - data.documents) ** 2).sum())

    assert error(30) < error(0)
