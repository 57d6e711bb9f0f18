"""Trains a head on frozen vectors by gradient, and keeps the state that found most on pairs held back.

    1 hold back   a fifth of the pairs, by group; they choose the epoch, and the untrained head is a candidate
    2 train       Adam on whole batches of shuffled pairs, with the loss and the noises of the recipe
    3 judge       the held-back pairs against all documents, every few epochs
    4 stop        when nothing was gained for some judgements, or the vectors collapsed

Vectors of encoders are small and a head has few parameters: thousands of pairs train in seconds on a CPU, and a batch
of 4,096 pairs fits in any GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from penstock.encoders.transform import LayeredTransform
from penstock.records import Float32
from penstock.train.adversarial import CollapsedError, CollapseGuard, ModalityDiscriminator, adversarial_loss
from penstock.train.hard_negatives import IntArray
from penstock.train.heads import Head, HeadKind, make_head
from penstock.train.losses import (
    START_TEMPERATURE,
    Temperature,
    cosine_loss,
    info_nce,
    pairwise_contrastive,
    sigmoid_loss,
    triplet_loss,
)

LossName: TypeAlias = Literal["info-nce", "sigmoid", "triplet", "triplet-random", "contrastive", "cosine"]
Side: TypeAlias = Literal["query", "document", "both"]

# Margins as usually published, and that of FaceNet for the hardest negatives.
RANDOM_MARGIN, HARDEST_MARGIN, CONTRASTIVE_MARGIN = 1.0, 0.2, 1.0
_JUDGE_EVERY = 5
_PATIENCE = 6
# Vectors whose effective rank is watched: those of 384 dimensions have no more than that.
_GUARDED = 512


@dataclass(frozen=True, slots=True)
class Recipe:
    """Describes how a head is trained. The switches of noise, smoothing, distillation and adversary are off by default.

    Over the limit because each switch is an attribute.

    Attributes:
        head: the form of the map.
        loss: what is minimised.
        side: which vectors the head maps: those of questions, of documents, or both.
        output_dim: of a projection; None: as it is.
        temperature: of InfoNCE.
        learn_temperature: whether it changes in training.
        epochs: at most.
        batch: pairs of a step.
        learning_rate, weight_decay: of AdamW.
        gradient_noise: deviation of the noise added to gradients, falling with the steps (Neelakantan et al., 2015).
        vector_noise: length of the noise added to vectors of length 1.
        label_smoothing: of InfoNCE.
        distillation: weight of the divergence from the similarities of a teacher.
        adversary: λ of the modality discriminator; 0: none.
        seed: of first weights, batches and noises.
    """

    head: HeadKind = "linear"
    loss: LossName = "info-nce"
    side: Side = "query"
    output_dim: int | None = None
    temperature: float = START_TEMPERATURE
    learn_temperature: bool = False
    epochs: int = 100
    batch: int = 4_096
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    gradient_noise: float = 0.0
    vector_noise: float = 0.0
    label_smoothing: float = 0.0
    distillation: float = 0.0
    adversary: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class PairVectors:
    """Pairs of vectors to train on.

    Attributes:
        questions, right: float32[n, dim], L2-normalised; row i of both is a pair.
        items: int64[n], equal numbers for equal right items, which are no negatives of each other.
        negatives: float32[n, k, dim], hard negatives; rows of 0 where a question has fewer; None: none.
        teacher: float32[n, any] of questions and of right items by another encoder; None: there is no teacher.
    """

    questions: Float32 = field(repr=False)
    right: Float32 = field(repr=False)
    items: IntArray = field(repr=False)
    negatives: Float32 | None = field(default=None, repr=False)
    teacher: tuple[Float32, Float32] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Trained:
    """A trained head.

    Attributes:
        transform: the best state; None: the untrained head was the best.
        epoch: of the best state; 0: untrained.
        figure: what the judge gave it.
        losses: the mean loss of each epoch.
        collapsed: the message, if training ended by a collapse.
    """

    transform: LayeredTransform | None
    epoch: int
    figure: float
    losses: tuple[float, ...]
    collapsed: str = ""


def train_head(
    pairs: PairVectors, recipe: Recipe, judge: Callable[[LayeredTransform], float], *, device: str = "cpu"
) -> Trained:
    """Trains a head on pairs, and returns the state that the judge preferred.

    Args:
        pairs: without those held back.
        recipe: how.
        judge: a figure of a transform on pairs held back, the larger the better.
        device: of torch.
    """
    head = make_head(recipe.head, pairs.questions.shape[1], seed=recipe.seed, output_dim=recipe.output_dim).to(device)
    session = _Session(pairs, recipe, head, device)
    untrained = head.to_transform()
    best = Trained(None if head.residual else untrained, 0, judge(untrained), ())
    losses: list[float] = []
    since_best = 0
    collapsed = ""
    for epoch in range(1, recipe.epochs + 1):
        try:
            losses.append(session.epoch(epoch))
        except CollapsedError as exc:
            collapsed = str(exc)
            break
        if epoch % _JUDGE_EVERY and epoch != recipe.epochs:
            continue
        state = head.to_transform()
        figure = judge(state)
        since_best += 1
        if figure > best.figure:
            best, since_best = Trained(state, epoch, figure, ()), 0
        if since_best >= _PATIENCE:
            break
    return Trained(best.transform, best.epoch, best.figure, tuple(losses), collapsed)


class _Session:
    """Holds the parameters and the optimiser of one training."""

    def __init__(self, pairs: PairVectors, recipe: Recipe, head: Head, device: str) -> None:
        self._recipe, self._head, self._device = recipe, head, device
        self._questions, self._right = (self._tensor(side) for side in (pairs.questions, pairs.right))
        self._items = torch.from_numpy(pairs.items).to(device)
        self._negatives = None if pairs.negatives is None else self._tensor(pairs.negatives)
        self._teacher = None if pairs.teacher is None else tuple(self._tensor(side) for side in pairs.teacher)
        self._rng = torch.Generator(device="cpu").manual_seed(recipe.seed)
        self._temperature = Temperature(recipe.temperature, learnt=recipe.learn_temperature).to(device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            self._adversary = ModalityDiscriminator(recipe.output_dim or pairs.questions.shape[1]).to(device)
        parameters = [*head.parameters(), *self._temperature.parameters()]
        if recipe.adversary:
            parameters += self._adversary.parameters()
        self._trained = [parameter for parameter in parameters if parameter.requires_grad]
        self._optimiser = torch.optim.AdamW(self._trained, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
        with torch.no_grad():
            self._guard = CollapseGuard(self._sample())
        self._steps = 0

    def epoch(self, number: int) -> float:
        """Trains on every pair once; returns the mean loss. Raises `CollapsedError`."""
        losses = []
        for rows in self._batches():
            self._steps += 1
            loss = self._loss(rows.to(self._device))
            self._optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self._add_gradient_noise()
            self._optimiser.step()
            losses.append(float(loss.detach()))
        if number % _JUDGE_EVERY == 0:
            with torch.no_grad():
                self._guard.check(self._sample(), number)
        return float(np.mean(losses))

    def _sample(self) -> Tensor:
        """Returns what the head makes of some of the side that it maps: float[at most 512, dim]."""
        rows = torch.arange(min(len(self._questions), _GUARDED))
        questions, right = self._mapped(rows)
        return right if self._recipe.side == "document" else questions

    def _batches(self) -> Iterator[Tensor]:
        order = torch.randperm(len(self._questions), generator=self._rng)
        parts = max(1, round(len(order) / self._recipe.batch))
        # Equal parts: a last batch of a single pair would have no negatives.
        yield from torch.tensor_split(order, parts)

    def _loss(self, rows: Tensor) -> Tensor:
        recipe = self._recipe
        questions, right = self._mapped(rows, noisy=True)
        same = self._items[rows][:, None] == self._items[rows][None, :]
        loss = self._base_loss(questions, right, same, rows)
        if recipe.adversary:
            loss = loss + adversarial_loss(self._adversary, questions, right, recipe.adversary)
        if recipe.distillation and self._teacher is not None:
            taught = self._teacher[0][rows] @ self._teacher[1][rows].T
            scale = self._temperature()
            loss = loss + recipe.distillation * distillation_loss(questions @ right.T * scale, taught * scale)
        return loss

    def _base_loss(self, questions: Tensor, right: Tensor, same: Tensor, rows: Tensor) -> Tensor:
        recipe = self._recipe
        match recipe.loss:
            case "info-nce":
                negatives = None if self._negatives is None else self._mapped_negatives(rows)
                smoothing = recipe.label_smoothing
                scale = self._temperature()
                return info_nce(questions, right, scale, same=same, negatives=negatives, label_smoothing=smoothing)
            case "sigmoid":
                return sigmoid_loss(questions, right, same=same)
            case "triplet":
                return triplet_loss(questions, right, HARDEST_MARGIN, same=same)
            case "triplet-random":
                # On the CPU, where the generator is: a choice is one number for each row.
                return triplet_loss(
                    questions.cpu(), right.cpu(), RANDOM_MARGIN,
                    negatives="random", same=same.cpu(), generator=self._rng,
                )  # fmt: skip
            case "contrastive":
                return pairwise_contrastive(questions, right, CONTRASTIVE_MARGIN, same=same)
            case "cosine":
                return cosine_loss(questions, right)

    def _mapped(self, rows: Tensor, *, noisy: bool = False) -> tuple[Tensor, Tensor]:
        questions, right = self._questions[rows], self._right[rows]
        if noisy and self._recipe.vector_noise:
            questions, right = self._with_noise(questions), self._with_noise(right)
        side = self._recipe.side
        if side in ("query", "both"):
            questions = self._head(questions)
        if side in ("document", "both"):
            right = self._head(right)
        return questions, right

    def _mapped_negatives(self, rows: Tensor) -> Tensor:
        assert self._negatives is not None
        negatives = self._negatives[rows]
        return negatives if self._recipe.side == "query" else self._head(negatives)

    def _with_noise(self, vectors: Tensor) -> Tensor:
        noise = torch.randn(vectors.shape, generator=self._rng).to(vectors.device)
        length = self._recipe.vector_noise
        return functional.normalize(vectors + length * functional.normalize(noise, dim=-1), dim=-1)

    def _add_gradient_noise(self) -> None:
        deviation = self._recipe.gradient_noise / (1 + self._steps) ** 0.275  # half of the exponent of the variance
        if not deviation:
            return
        for parameter in self._trained:
            if parameter.grad is not None:
                noise = torch.randn(parameter.shape, generator=self._rng).to(parameter.device)
                parameter.grad.add_(deviation * noise)

    def _tensor(self, array: Float32) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)).to(self._device)


def distillation_loss(logits: Tensor, taught: Tensor) -> Tensor:
    """Returns the divergence of the softmax of rows, float[n, n], from that of a teacher (Hinton et al., 2015)."""
    target = functional.log_softmax(taught, dim=1)
    return functional.kl_div(functional.log_softmax(logits, dim=1), target, reduction="batchmean", log_target=True)
