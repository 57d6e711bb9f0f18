"""Tests of the maps that are fitted in closed form."""

from __future__ import annotations

import time

import numpy as np
import pytest

from penstock.records import Float32
from penstock.train.closed_forms import cca, centring, procrustes, ridge_to_identity, whitening


def unit_vectors(count: int, dim: int, seed: int = 0) -> Float32:
    vectors = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def rotation(dim: int, seed: int = 5) -> Float32:
    return np.asarray(np.linalg.qr(np.random.default_rng(seed).normal(size=(dim, dim)))[0], dtype=np.float32)


def test_a_strong_ridge_is_the_identity_and_a_weak_one_least_squares() -> None:
    questions, right = unit_vectors(40, 6), unit_vectors(40, 6, seed=1)
    np.testing.assert_allclose(ridge_to_identity(questions, right, 1e9), np.eye(6), atol=1e-6)
    least = np.linalg.lstsq(questions, right, rcond=None)[0]
    np.testing.assert_allclose(ridge_to_identity(questions, right, 1e-9), least, atol=1e-4)


def test_ridge_minimises_its_objective() -> None:
    x, y = unit_vectors(30, 5).astype(np.float64), unit_vectors(30, 5, seed=1).astype(np.float64)

    def objective(matrix: np.ndarray) -> float:
        return float(((x @ matrix - y) ** 2).sum() + 3.0 * ((matrix - np.eye(5)) ** 2).sum())

    best = ridge_to_identity(x.astype(np.float32), y.astype(np.float32), 3.0).astype(np.float64)
    rng = np.random.default_rng(2)
    assert all(objective(best) <= objective(best + 0.01 * rng.normal(size=(5, 5))) for _ in range(50))


def test_mixing_is_between_the_fit_and_the_identity() -> None:
    questions, right = unit_vectors(40, 6), unit_vectors(40, 6, seed=1)
    whole, none = (ridge_to_identity(questions, right, 1.0, mix) for mix in (1.0, 0.0))
    assert (none == np.eye(6, dtype=np.float32)).all()
    np.testing.assert_allclose(ridge_to_identity(questions, right, 1.0, 0.5), (whole + none) / 2, atol=1e-6)


def test_without_pairs_ridge_is_the_identity() -> None:
    none = np.zeros((0, 4), dtype=np.float32)
    np.testing.assert_allclose(ridge_to_identity(none, none, 1.0), np.eye(4), atol=1e-7)


def test_procrustes_finds_a_rotation() -> None:
    questions, turned = unit_vectors(50, 8), rotation(8)
    fitted = procrustes(questions, questions @ turned)
    np.testing.assert_allclose(fitted, turned, atol=1e-5)
    np.testing.assert_allclose(fitted @ fitted.T, np.eye(8), atol=1e-5)


def test_cca_finds_what_two_sides_have_in_common() -> None:
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(400, 2))
    first = np.column_stack([shared + 0.01 * rng.normal(size=(400, 2)), rng.normal(size=(400, 4))])
    second = np.column_stack([rng.normal(size=(400, 3)), shared @ rotation(2)])
    left, right = cca(first.astype(np.float32), second.astype(np.float32), 2, strength=1e-6)
    assert (left.shape, right.shape) == ((6, 2), (5, 2))
    projected = [side - side.mean(axis=0) for side in (first @ left, second @ right)]
    correlations = [np.corrcoef(projected[0][:, n], projected[1][:, n])[0, 1] for n in range(2)]
    assert min(correlations) > 0.99


def test_centring_and_whitening_correct_mean_and_variance() -> None:
    vectors = unit_vectors(500, 5) * np.array([3, 2, 1, 1, 0.5], np.float32) + np.float32(0.4)
    matrix, bias = centring(vectors)
    np.testing.assert_allclose((vectors @ matrix + bias).mean(axis=0), np.zeros(5), atol=1e-5)
    matrix, bias = whitening(vectors, strength=0.0)
    white = vectors @ matrix + bias
    np.testing.assert_allclose(np.cov(white.T, bias=True), np.eye(5), atol=1e-2)


@pytest.mark.exhaustive
def test_two_thousand_pairs_of_minilm_are_fitted_within_a_second() -> None:
    questions, right = unit_vectors(2_000, 384), unit_vectors(2_000, 384, seed=1)
    started = time.process_time()
    ridge_to_identity(questions, right, 10.0)
    procrustes(questions, right)
    assert time.process_time() - started <= 2 * 1.0  # two fits
