"""Trains two modalities against a discriminator, and stops when the vectors collapse.

    discriminator   says of a vector which modality it is of; gradient reversal makes the head confuse it (Ganin and
                    Lempitsky, 2015)
    generator       makes the vector of the other modality from a text's; its discriminator distinguishes made ones

Both may lose: a head that maps everything to a few directions confuses any discriminator. So the effective rank of the
vectors is compared with that of the start, and training ends as collapsed when it falls below a half.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from penstock.errors import PenstockError

MIN_RANK_SHARE = 0.5
_HIDDEN = 128


class CollapsedError(PenstockError):
    """Training stopped because the vectors lost more than half of their effective rank."""


class CollapseGuard:
    """Compares the effective rank of vectors with that at the start.

    Args:
        vectors: float[n, dim], those of the start.
    """

    def __init__(self, vectors: Tensor) -> None:
        self._start = effective_rank(vectors)

    def check(self, vectors: Tensor, step: int) -> None:
        """Raises `CollapsedError` if the vectors have less than `MIN_RANK_SHARE` of the rank at the start."""
        rank = effective_rank(vectors)
        if rank < MIN_RANK_SHARE * self._start:
            raise CollapsedError(
                f"collapsed at step {step}: the vectors have an effective rank of {rank:.1f}, {self._start:.1f} at the "
                "start. Lower the weight of the adversary, or train without it"
            )


def effective_rank(vectors: Tensor) -> float:
    """Returns exp(entropy) of the normalised singular values of float[n, dim] (Roy and Vetterli, 2007)."""
    exact = vectors.detach().double()
    gram = exact.T @ exact if len(exact) >= exact.shape[1] else exact @ exact.T
    values = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt()
    shares = values / values.sum().clamp(min=1e-30)
    shares = shares[shares > 0]
    return float(torch.exp(-(shares * shares.log()).sum()))


class ModalityDiscriminator(nn.Module):
    """Estimates of which of two modalities a vector is, as a logit.

    Args:
        dim: of the vectors.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(dim, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, 1))

    def forward(self, vectors: Tensor) -> Tensor:
        """Converts float[n, dim] to float[n]."""
        logits: Tensor = self.layers(vectors)[:, 0]
        return logits

    def loss(self, first: Tensor, second: Tensor) -> Tensor:
        """Returns the cross-entropy of distinguishing the second modality, float[n, dim], from the first."""
        logits = self(torch.cat([first, second]))
        labels = torch.cat([torch.zeros(len(first)), torch.ones(len(second))]).to(logits.device)
        return functional.binary_cross_entropy_with_logits(logits, labels)


class ModalityGenerator(nn.Module):
    """Makes vectors of the other modality from those of texts.

    Args:
        dim: of both.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(dim, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, dim))

    def forward(self, texts: Tensor) -> Tensor:
        """Converts float[n, dim] to float[n, dim], L2-normalised."""
        return functional.normalize(texts + self.layers(texts), dim=-1)


class _Reversal(torch.autograd.Function):
    """Passes vectors on, and their gradient back with the opposite sign, times a weight."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, weight: float) -> Tensor:
        ctx.weight = weight
        return vectors.view_as(vectors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.weight * gradients[0], None


def reverse_gradient(vectors: Tensor, weight: float) -> Tensor:
    """Returns the vectors; what is trained on them is untrained below by `weight` times its gradient."""
    reversed_: Tensor = _Reversal.apply(vectors, weight)
    return reversed_


def adversarial_loss(discriminator: ModalityDiscriminator, texts: Tensor, others: Tensor, weight: float) -> Tensor:
    """Returns the loss of the discriminator; its gradient improves it, and makes both modalities resemble each other.

    Args:
        discriminator: trained with the heads, by the same optimiser.
        texts, others: float[n, dim], what the heads return.
        weight: λ of the reversed gradient.
    """
    return discriminator.loss(reverse_gradient(texts, weight), reverse_gradient(others, weight))


def train_generator(
    texts: Tensor, others: Tensor, *, steps: int, seed: int, learning_rate: float = 1e-3, guard_every: int = 10
) -> tuple[ModalityGenerator, Sequence[float]]:
    """Trains a generator from texts to the other modality against a discriminator, in turns.

    The pairs themselves count, too: without the cosine to its own partner any vector of the modality would do.

    Args:
        texts, others: float[n, dim], row i of both is a pair.
        steps: turns of both.
        seed: of the first weights.
        learning_rate: of both.
        guard_every: steps between two checks for collapse.

    Returns:
        the generator, and the loss of the discriminator at each step.

    Raises:
        CollapsedError: what it makes lost half of the effective rank of the texts.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator, discriminator = ModalityGenerator(texts.shape[1]), ModalityDiscriminator(texts.shape[1])
    generator, discriminator = generator.to(texts.device), discriminator.to(texts.device)
    of_generator = torch.optim.Adam(generator.parameters(), lr=learning_rate)
    of_discriminator = torch.optim.Adam(discriminator.parameters(), lr=learning_rate)
    guard, losses = CollapseGuard(texts), []
    for step in range(steps):
        loss = discriminator.loss(generator(texts).detach(), others)
        of_discriminator.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        of_discriminator.step()
        losses.append(float(loss.detach()))
        generated = generator(texts)
        fooled = functional.binary_cross_entropy_with_logits(
            discriminator(generated), torch.ones(len(generated), device=generated.device)
        )
        of_generator.zero_grad()
        (fooled + (1 - functional.cosine_similarity(generated, others)).mean()).backward()  # type: ignore[no-untyped-call]
        of_generator.step()
        if step % guard_every == guard_every - 1:
            guard.check(generated, step + 1)
    return generator, losses
