"""Tests of training against a discriminator, and of the detection of collapse."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from penstock.train.adversarial import (
    CollapsedError,
    CollapseGuard,
    ModalityDiscriminator,
    adversarial_loss,
    effective_rank,
    reverse_gradient,
    train_generator,
)

torch.set_num_threads(1)


def vectors(count: int, dim: int, seed: int = 0) -> Tensor:
    return functional.normalize(torch.randn(count, dim, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_the_effective_rank_counts_directions() -> None:
    assert effective_rank(torch.eye(8)) == pytest.approx(8.0)
    assert effective_rank(torch.ones(8, 8)) == pytest.approx(1.0)
    two = torch.zeros(10, 6)
    two[:5, 0] = two[5:, 1] = 1.0
    assert effective_rank(two) == pytest.approx(2.0)


def test_a_rank_below_half_of_the_start_is_a_collapse() -> None:
    start = vectors(64, 32)
    guard = CollapseGuard(start)
    guard.check(start, 1)
    left, values, right = torch.linalg.svd(start, full_matrices=False)
    lowered = functional.normalize(left[:, :5] * values[:5] @ right[:5], dim=-1)
    with pytest.raises(CollapsedError, match=r"collapsed at step 7: the vectors have an effective rank of [45]\."):
        guard.check(lowered, 7)


def test_the_gradient_is_reversed_and_weighed() -> None:
    copies = vectors(4, 3).requires_grad_()
    reverse_gradient(copies, 0.3).sum().backward()  # type: ignore[no-untyped-call]
    assert copies.grad is not None
    assert torch.allclose(copies.grad, torch.full_like(copies, -0.3))


def test_the_adversarial_loss_improves_the_discriminator_and_worsens_it_for_the_vectors() -> None:
    discriminator = ModalityDiscriminator(8)
    texts, images = vectors(32, 8), functional.normalize(vectors(32, 8, 1) + 0.8, dim=-1)
    moved = texts.clone().requires_grad_()
    plain = discriminator.loss(moved, images)
    (straight,) = torch.autograd.grad(plain, moved)
    reversed_loss = adversarial_loss(discriminator, moved, images, 0.5)
    (against,) = torch.autograd.grad(reversed_loss, moved, retain_graph=True)
    assert torch.allclose(against, -0.5 * straight, atol=1e-7)
    of_weights = torch.autograd.grad(reversed_loss, list(discriminator.parameters()))
    expected = torch.autograd.grad(discriminator.loss(texts, images), list(discriminator.parameters()))
    assert all(torch.allclose(mine, theirs, atol=1e-6) for mine, theirs in zip(of_weights, expected, strict=True))


def test_a_generator_learns_the_other_modality() -> None:
    texts = vectors(128, 16)
    turn = torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(3))).Q
    images = texts @ turn
    generator, losses = train_generator(texts, images, steps=150, seed=0)
    before = functional.cosine_similarity(texts, images).mean()
    after = functional.cosine_similarity(generator(texts), images).mean()
    assert after > before + 0.5
    assert len(losses) == 150


def test_a_generator_that_collapses_is_stopped() -> None:
    texts = vectors(64, 16)
    images = functional.normalize(torch.ones(64, 16), dim=-1)  # one direction: to meet it is to collapse
    with pytest.raises(CollapsedError, match="collapsed at step"):
        train_generator(texts, images, steps=500, seed=0, learning_rate=1e-2)
