"""Computes the losses of alignment on L2-normalised vectors: float[n, dim] of questions and of what is right for them.

    info_nce           symmetric InfoNCE (van den Oord et al., 2018, in the form of CLIP, Radford et al., 2021)
    sigmoid_loss       each pair of a batch by itself (SigLIP, Zhai et al., 2023)
    triplet_loss       a margin between the distances to the right one and to another (Schroff et al., 2015)
    contrastive_loss   of single pairs, right or wrong (Hadsell et al., 2006)
    cosine_loss        1 - cosine of the right pairs

Snippets that circulate under these names often compute something else. The docstrings name the differences:

    1 an InfoNCE that sums texts → images only is not symmetric: an image may stay close to every text
    2 one that builds a mask of equal items and never applies it pushes equal texts apart
    3 a "contrastive loss" of relu(distance to right - distance to wrong + margin) is a triplet loss
    4 a margin of 1.0 with random negatives, on vectors that are not normalised, is met by their growth
    5 a softmax over one key (the cosine of a single argument, the attention to a single token) is constant: it
      supervises nothing
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

# The temperature at which a learnt one starts, and the largest scale, 1 / temperature, that it reaches (CLIP).
START_TEMPERATURE = 0.07
MAX_SCALE = 100.0
# Those of SigLIP's start, which make the first loss small although nearly all pairs of a batch are wrong.
SIGMOID_SCALE, SIGMOID_BIAS = 10.0, -10.0


class Temperature(nn.Module):
    """Holds the temperature of a softmax: fixed, or learnt as the logarithm of its inverse.

    Args:
        start: of the temperature, above 0.
        learnt: whether it changes; its inverse stays below `MAX_SCALE`.
        modalities: number of temperatures, one for each modality of the right items.
    """

    def __init__(self, start: float = START_TEMPERATURE, *, learnt: bool = False, modalities: int = 1) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.full((modalities,), -math.log(start)), requires_grad=learnt)

    def forward(self, modality: Tensor | None = None) -> Tensor:
        """Returns the scale of each item, float[n, 1]; one number for all, float[1], without modalities.

        Args:
            modality: int64[n], of the right item of each row; None: all are of the first.
        """
        scale = self.log_scale.clamp(max=math.log(MAX_SCALE)).exp()
        return scale[:1] if modality is None else scale[modality][:, None]


def info_nce(
    questions: Tensor,
    right: Tensor,
    scale: Tensor | float,
    *,
    same: Tensor | None = None,
    negatives: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Returns the mean of the cross-entropies of both directions (differences 1 and 2 of the module).

    Args:
        questions, right: float[n, dim], normalised here; row i of both is a pair.
        scale: 1 / temperature: a number, float[1] or float[n, 1].
        same: bool[n, n], where row i and column j are equal items; they are no negatives of each other.
        negatives: float[n, k, dim], further wrong items of each question, for the direction of questions.
        label_smoothing: share of the target that all candidates get.
    """
    questions, right = functional.normalize(questions, dim=-1), functional.normalize(right, dim=-1)
    logits = questions @ right.T * scale
    if same is not None:
        apart = same & ~torch.eye(len(questions), dtype=torch.bool, device=same.device)
        logits = logits.masked_fill(apart, -torch.inf)
    forward = logits
    if negatives is not None:
        further = torch.einsum("nd,nkd->nk", questions, functional.normalize(negatives, dim=-1)) * scale
        forward = torch.cat([logits, further], dim=1)
    return (_cross_entropy(forward, label_smoothing) + _cross_entropy(logits.T, label_smoothing)) / 2


def _cross_entropy(logits: Tensor, smoothing: float) -> Tensor:
    """Returns the mean of -log p of the diagonal; smoothing spreads over the candidates that are not masked."""
    log_p = functional.log_softmax(logits, dim=1)
    target = -log_p.diagonal()
    if not smoothing:
        return target.mean()
    counted = torch.isfinite(logits)
    spread = -torch.where(counted, log_p, 0.0).sum(dim=1) / counted.sum(dim=1)
    return ((1 - smoothing) * target + smoothing * spread).mean()


def sigmoid_loss(
    questions: Tensor,
    right: Tensor,
    scale: Tensor | float = SIGMOID_SCALE,
    bias: Tensor | float = SIGMOID_BIAS,
    *,
    same: Tensor | None = None,
) -> Tensor:
    """Returns -log σ(±(scale · cosine + bias)), summed over all pairs of the batch and divided by n.

    Args:
        questions, right, same: as for `info_nce`; pairs of equal items count as right.
        scale, bias: of the logits.
    """
    logits = functional.normalize(questions, dim=-1) @ functional.normalize(right, dim=-1).T * scale + bias
    signs = 2 * torch.eye(len(logits), device=logits.device) - 1
    if same is not None:
        signs = torch.where(same, 1.0, signs)
    return -functional.logsigmoid(signs * logits).sum() / len(logits)


def triplet_loss(
    questions: Tensor,
    right: Tensor,
    margin: float,
    *,
    negatives: Literal["random", "hardest"] = "hardest",
    same: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Returns the mean of max(0, d(question, right) - d(question, wrong) + margin) by Euclidean distance.

    Vectors are normalised first (difference 4 of the module), so distances are at most 2. Rows all of whose
    candidates are equal items count as 0.

    Args:
        questions, right, same: as for `info_nce`.
        margin: 1.0 as it is usually published; 0.2 is that of FaceNet.
        negatives: a random other item of the batch, or the closest one.
        generator: of the random choice.
    """
    questions, right = functional.normalize(questions, dim=-1), functional.normalize(right, dim=-1)
    distances = torch.cdist(questions, right)
    positive = distances.diagonal()
    wrong = ~torch.eye(len(questions), dtype=torch.bool, device=questions.device)
    if same is not None:
        wrong &= ~same
    if negatives == "hardest":
        negative = distances.masked_fill(~wrong, torch.inf).min(dim=1).values
    else:
        weights = wrong.float() + 1e-9 * (~wrong.any(dim=1, keepdim=True))
        chosen = torch.multinomial(weights, 1, generator=generator)
        negative = distances.gather(1, chosen)[:, 0].masked_fill(~wrong.any(dim=1), torch.inf)
    return functional.relu(positive - negative + margin).mean()


def contrastive_loss(first: Tensor, second: Tensor, right: Tensor, margin: float = 1.0) -> Tensor:
    """Returns d² of right pairs and max(0, margin - d)² of wrong ones, halved and averaged (difference 3).

    Args:
        first, second: float[n, dim], normalised here.
        right: bool[n], whether each row is a right pair.
        margin: distance beyond which wrong pairs cost nothing.
    """
    difference = functional.normalize(first, dim=-1) - functional.normalize(second, dim=-1)
    squares = difference.pow(2).sum(dim=-1)
    distance = (squares + 1e-12).sqrt()  # the root has no gradient at 0
    apart = functional.relu(margin - distance).pow(2)
    return torch.where(right, squares, apart).mean() / 2


def cosine_loss(questions: Tensor, right: Tensor) -> Tensor:
    """Returns the mean of 1 - cosine of the pairs. It has no negatives: a constant map is a minimum."""
    return (1 - functional.cosine_similarity(questions, right, dim=-1)).mean()


def pairwise_contrastive(questions: Tensor, right: Tensor, margin: float, *, same: Tensor | None = None) -> Tensor:
    """Returns `contrastive_loss` of the pairs of a batch and of each question with the next row's item.

    Args:
        questions, right, same: as for `info_nce`; neighbours that are equal items are left out.
        margin: as for `contrastive_loss`.
    """
    others = right.roll(1, dims=0)
    wrong = contrastive_loss_rows(questions, others, margin)
    if same is not None:
        rows = torch.arange(len(questions), device=questions.device)
        wrong = wrong.masked_fill(same[rows, rows.roll(1)], 0.0)
    close = contrastive_loss(questions, right, torch.ones(len(questions), dtype=torch.bool, device=questions.device))
    return (close + wrong.mean() / 2) / 2


def contrastive_loss_rows(first: Tensor, second: Tensor, margin: float) -> Tensor:
    """Returns max(0, margin - d)² of each row, float[n]: what wrong pairs cost."""
    difference = functional.normalize(first, dim=-1) - functional.normalize(second, dim=-1)
    return functional.relu(margin - (difference.pow(2).sum(dim=-1) + 1e-12).sqrt()).pow(2)
