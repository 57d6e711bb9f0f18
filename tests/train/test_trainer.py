"""Tests of training heads on pairs whose map is known."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch

from penstock.encoders.transform import LayeredTransform, linear_transform
from penstock.records import Float32
from penstock.train.trainer import LossName, PairVectors, Recipe, distillation_loss, train_head

torch.set_num_threads(1)
DIM = 16


def unit(vectors: Float32) -> Float32:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


RNG = np.random.default_rng(0)
QUESTIONS = unit(RNG.normal(size=(160, DIM)).astype(np.float32))
MAP = np.eye(DIM) + 0.35 * RNG.normal(size=(DIM, DIM))
RIGHT = unit((QUESTIONS @ MAP).astype(np.float32))
PAIRS = PairVectors(QUESTIONS[:120], RIGHT[:120], np.arange(120))
UNCHANGED = linear_transform(np.eye(DIM, dtype=np.float32))
RECIPE = Recipe(epochs=40, batch=64, learning_rate=5e-3)


def found(transform: LayeredTransform) -> float:
    """Returns the share of questions held back that find their own item first."""
    return float(((transform.apply(QUESTIONS[120:]) @ RIGHT.T).argmax(axis=1) == np.arange(120, 160)).mean())


def found_by_documents(transform: LayeredTransform) -> float:
    return float(((QUESTIONS[120:] @ transform.apply(RIGHT).T).argmax(axis=1) == np.arange(120, 160)).mean())


@pytest.mark.parametrize("loss", get_args(LossName))
def test_each_loss_brings_questions_closer_to_what_is_right(loss: LossName) -> None:
    trained = train_head(PAIRS, replace(RECIPE, loss=loss), found)
    assert trained.transform is not None
    assert trained.figure > found(UNCHANGED) + 0.1
    assert trained.losses[-1] < trained.losses[0]


@pytest.mark.parametrize("head", ["low-rank", "mlp", "projection"])
def test_each_head_learns(head: str) -> None:
    recipe = replace(RECIPE, head=head, epochs=80)  # type: ignore[arg-type]
    assert train_head(PAIRS, recipe, found).figure > found(UNCHANGED) + 0.1


def test_documents_can_be_mapped_instead() -> None:
    trained = train_head(PAIRS, replace(RECIPE, side="document"), found_by_documents)
    assert trained.figure > found_by_documents(UNCHANGED) + 0.1


def test_the_untrained_head_stays_where_training_gains_nothing() -> None:
    def moved(transform: LayeredTransform) -> float:
        return -float(np.abs(transform.layers[0].weight).sum())

    trained = train_head(PAIRS, replace(RECIPE, epochs=10), moved)
    assert (trained.transform, trained.epoch) == (None, 0)


def test_equal_recipes_give_equal_heads() -> None:
    recipe = replace(RECIPE, epochs=5, vector_noise=0.1, gradient_noise=0.01)
    first, second = (train_head(PAIRS, recipe, found) for _ in range(2))
    other = train_head(PAIRS, replace(recipe, seed=1), found)
    assert first.losses == second.losses != other.losses
    assert first.transform is not None
    assert second.transform is not None
    assert first.transform.fingerprint == second.transform.fingerprint


@pytest.mark.parametrize(
    "switch",
    [
        {"gradient_noise": 0.05},
        {"vector_noise": 0.2},
        {"label_smoothing": 0.1},
        {"learn_temperature": True},
        {"temperature": 0.5},
        {"adversary": 0.1},
    ],
)
def test_each_switch_changes_training_and_is_off_by_default(switch: dict[str, float]) -> None:
    plain = train_head(PAIRS, replace(RECIPE, epochs=5), found)
    switched = train_head(PAIRS, replace(RECIPE, epochs=5, **switch), found)  # type: ignore[arg-type]
    assert plain.losses != switched.losses
    assert all(np.isfinite(switched.losses))


def test_hard_negatives_and_a_teacher_enter_the_loss() -> None:
    recipe = replace(RECIPE, epochs=5)
    negatives = np.roll(RIGHT[:120], 1, axis=0)[:, None]
    plain = train_head(PAIRS, recipe, found)
    assert train_head(replace(PAIRS, negatives=negatives), recipe, found).losses[0] > plain.losses[0]
    taught = train_head(replace(PAIRS, teacher=(RIGHT[:120], RIGHT[:120])), replace(recipe, distillation=1.0), found)
    assert taught.losses[0] > plain.losses[0]


def test_the_distillation_loss_is_0_for_equal_similarities() -> None:
    logits = torch.randn(6, 6, generator=torch.Generator().manual_seed(0))
    assert float(distillation_loss(logits, logits)) == pytest.approx(0.0, abs=1e-6)
    assert float(distillation_loss(logits, logits.flip(0))) > 0.1


def test_a_collapse_ends_training_with_its_message() -> None:
    one_direction = PairVectors(QUESTIONS[:120], np.repeat(RIGHT[:1], 120, axis=0), np.arange(120))
    recipe = replace(RECIPE, loss="cosine", epochs=200, learning_rate=5e-2, weight_decay=0.0)
    trained = train_head(one_direction, recipe, lambda _: 0.0)
    assert trained.collapsed.startswith("collapsed at step")
    assert len(trained.losses) < 200
