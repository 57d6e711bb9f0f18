"""Tests of trainable heads and of their export."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch

from penstock.encoders.transform import to_bytes
from penstock.records import Float32
from penstock.train.heads import HeadKind, make_head

torch.set_num_threads(1)
RESIDUAL = [kind for kind in get_args(HeadKind) if kind != "projection"]


def unit_vectors(count: int, dim: int, seed: int = 0) -> Float32:
    vectors = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


@pytest.mark.parametrize("kind", RESIDUAL)
def test_an_untrained_head_changes_no_bit(kind: HeadKind) -> None:
    vectors = unit_vectors(200, 384)
    mapped = make_head(kind, 384, seed=3).to_transform().apply(vectors)
    assert (mapped == vectors).all()


@pytest.mark.parametrize("kind", get_args(HeadKind))
def test_the_exported_transform_is_the_head(kind: HeadKind) -> None:
    head = make_head(kind, 12, seed=3)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    vectors = unit_vectors(20, 12)
    np.testing.assert_allclose(
        head.to_transform().apply(vectors), head(torch.from_numpy(vectors)).detach().numpy(), atol=1e-5
    )


@pytest.mark.parametrize("kind", get_args(HeadKind))
def test_a_head_of_384_dimensions_takes_less_than_a_megabyte(kind: HeadKind) -> None:
    assert (
        len(to_bytes(make_head(kind, 384, seed=0, output_dim=512 if kind == "projection" else None).to_transform()))
        < 1e6
    )


def test_a_projection_keeps_cosines_where_it_has_enough_dimensions() -> None:
    vectors = unit_vectors(30, 384)
    projected = make_head("projection", 384, seed=1, output_dim=512).to_transform().apply(vectors)
    assert projected.shape == (30, 512)
    np.testing.assert_allclose(projected @ projected.T, vectors @ vectors.T, atol=1e-4)


def test_a_head_with_a_residual_keeps_its_length() -> None:
    with pytest.raises(ValueError, match="keeps the 8 dimensions"):
        make_head("mlp", 8, seed=0, output_dim=4)


def test_equal_seeds_give_equal_heads_and_leave_other_draws_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first, second, other = (make_head("projection", 8, seed=seed).to_transform() for seed in (1, 1, 2))
    assert (torch.rand(3) == expected).all()
    assert first.fingerprint == second.fingerprint != other.fingerprint
