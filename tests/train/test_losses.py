"""Tests of the losses: gradients, their formulas by hand, and what published snippets compute instead."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from penstock.train.losses import (
    MAX_SCALE,
    Temperature,
    contrastive_loss,
    cosine_loss,
    info_nce,
    pairwise_contrastive,
    sigmoid_loss,
    triplet_loss,
)

torch.set_num_threads(1)


def vectors(count: int, dim: int, seed: int) -> Tensor:
    drawn = torch.randn(count, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return functional.normalize(drawn, dim=-1)


SAME = torch.eye(5, dtype=torch.bool)
SAME[0, 3] = SAME[3, 0] = True

LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "info-nce": lambda a, b: info_nce(a, b, 1 / 0.07),
    "info-nce, equal texts": lambda a, b: info_nce(a, b, 1 / 0.1, same=SAME, label_smoothing=0.1),
    "info-nce, negatives": lambda a, b: info_nce(a, b, 10.0, negatives=vectors(15, 4, 9).reshape(5, 3, 4)),
    "sigmoid": lambda a, b: sigmoid_loss(a, b, same=SAME),
    "triplet, hardest": lambda a, b: triplet_loss(a, b, 0.2),
    "triplet, random": lambda a, b: triplet_loss(
        a, b, 1.0, negatives="random", generator=torch.Generator().manual_seed(1)
    ),
    "contrastive": lambda a, b: contrastive_loss(a, b, torch.tensor([True, False, True, False, True])),
    "pairwise contrastive": lambda a, b: pairwise_contrastive(a, b, 1.0, same=SAME),
    "cosine": cosine_loss,
}


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    first, second = vectors(5, 4, 1).requires_grad_(), vectors(5, 4, 2).requires_grad_()
    assert torch.autograd.gradcheck(LOSSES[name], (first, second))


def test_info_nce_is_the_mean_of_both_directions() -> None:
    first, second = vectors(6, 8, 3), vectors(6, 8, 4)
    logits = first @ second.T / 0.07
    labels = torch.arange(6)
    by_hand = (functional.cross_entropy(logits, labels) + functional.cross_entropy(logits.T, labels)) / 2
    assert torch.allclose(info_nce(first, second, 1 / 0.07), by_hand)


def test_info_nce_of_one_direction_alone_is_another_loss() -> None:
    texts = vectors(6, 8, 3)
    images = functional.normalize(texts + 0.5 * texts[:1], dim=-1)  # all images near the first text
    one_way = functional.cross_entropy(texts @ images.T / 0.07, torch.arange(6))
    other_way = functional.cross_entropy(images @ texts.T / 0.07, torch.arange(6))
    assert not torch.allclose(one_way, other_way)
    assert torch.allclose(info_nce(texts, images, 1 / 0.07), (one_way + other_way) / 2)


def test_equal_texts_are_no_negatives_of_each_other() -> None:
    first, second = vectors(5, 8, 3), vectors(5, 8, 4)
    second[3] = second[0]
    logits = first @ second.T * 10.0
    by_hand = []
    for of_direction in (logits, logits.T):
        for row in range(5):
            counted = [column for column in range(5) if column == row or not SAME[row, column]]
            by_hand.append(of_direction[row, counted].logsumexp(0) - of_direction[row, row])
    assert torch.allclose(info_nce(first, second, 10.0, same=SAME), torch.stack(by_hand).mean())
    assert info_nce(first, second, 10.0, same=SAME) < info_nce(first, second, 10.0)


def test_label_smoothing_without_masks_is_that_of_torch() -> None:
    first, second = vectors(6, 8, 3), vectors(6, 8, 4)
    logits, labels = first @ second.T * 10.0, torch.arange(6)
    smoothed = [functional.cross_entropy(part, labels, label_smoothing=0.1) for part in (logits, logits.T)]
    assert torch.allclose(info_nce(first, second, 10.0, label_smoothing=0.1), torch.stack(smoothed).mean())


def test_sigmoid_is_the_sum_over_all_pairs() -> None:
    first, second = vectors(3, 8, 3), vectors(3, 8, 4)
    total = 0.0
    for row in range(3):
        for column in range(3):
            sign = 1.0 if row == column else -1.0
            total += float(-functional.logsigmoid(sign * (10.0 * first[row] @ second[column] - 10.0)))
    assert float(sigmoid_loss(first, second)) == pytest.approx(total / 3)


def test_the_hardest_triplet_uses_the_closest_wrong_item() -> None:
    first, second = vectors(4, 8, 3), vectors(4, 8, 4)
    by_hand = []
    for row in range(4):
        right = float((first[row] - second[row]).norm())
        wrong = min(float((first[row] - second[column]).norm()) for column in range(4) if column != row)
        by_hand.append(max(0.0, right - wrong + 0.2))
    assert float(triplet_loss(first, second, 0.2)) == pytest.approx(sum(by_hand) / 4)


def test_random_triplets_are_drawn_among_items_that_are_not_equal() -> None:
    first, second = vectors(5, 8, 3), vectors(5, 8, 4)
    same = torch.ones(5, 5, dtype=torch.bool)
    assert float(triplet_loss(first, second, 1.0, negatives="random", same=same)) == 0.0
    drawn = [
        float(triplet_loss(first, second, 1.0, negatives="random", generator=torch.Generator().manual_seed(seed)))
        for seed in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_published_contrastive_loss_is_the_triplet_loss() -> None:
    anchor, positive, negative = vectors(4, 8, 3), vectors(4, 8, 4), vectors(4, 8, 5)
    right, wrong = (anchor - positive).norm(dim=-1), (anchor - negative).norm(dim=-1)
    published = functional.relu(right - wrong + 1.0).mean()
    assert torch.allclose(
        functional.triplet_margin_loss(anchor, positive, negative, margin=1.0, eps=0.0), published, atol=1e-9
    )
    pairs = torch.cat([anchor, anchor]), torch.cat([positive, negative])
    labels = torch.tensor([True] * 4 + [False] * 4)
    by_hand = torch.cat([right**2, functional.relu(1.0 - wrong) ** 2]).mean() / 2
    assert torch.allclose(contrastive_loss(*pairs, labels), by_hand, atol=1e-6)
    assert not torch.allclose(by_hand, published)


def test_cosine_is_the_mean_distance_of_the_pairs() -> None:
    first, second = vectors(4, 8, 3), vectors(4, 8, 4)
    assert torch.allclose(cosine_loss(first, second), (1 - (first * second).sum(dim=1)).mean())


def test_a_temperature_is_fixed_or_learnt_and_bounded() -> None:
    fixed, learnt = Temperature(0.1), Temperature(learnt=True)
    assert float(fixed()) == pytest.approx(10.0)
    assert not any(parameter.requires_grad for parameter in fixed.parameters())
    assert float(learnt()) == pytest.approx(1 / 0.07)
    with torch.no_grad():
        learnt.log_scale.fill_(9.0)
    assert float(learnt()) == pytest.approx(MAX_SCALE)


def test_each_modality_has_its_own_temperature() -> None:
    temperature = Temperature(0.1, learnt=True, modalities=2)
    with torch.no_grad():
        temperature.log_scale[1] = 0.0
    scale = temperature(torch.tensor([0, 1, 0]))
    assert scale.shape == (3, 1)
    assert scale[:, 0].tolist() == pytest.approx([10.0, 1.0, 10.0])
