"""Cross-attention from a question to the tokens of an asset, added to a weighted sum of cosines.

    score = t · (g · cos(question, text) + (1 - g) · cos(question, best image) + question · out(attention))

`out` starts as zero: an untrained model has the order of the weighted sum. Method: Vaswani et al. (2017), with the
switches of `rules`. Queries are the vectors of the question, keys and values the tokens of the asset.

Attention with one key is no attention: the softmax of one number is 1, so that the result is a linear map of the only
token (as where [CLS] of a text attends to [CLS] of an image). Fewer than two keys are therefore refused.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from penstock.train.fusion.asset_tokens import IMAGE, KINDS, NOTHING, TEXT, WHOLE
from penstock.train.fusion.rules import DROPOUT, LEVEL_WEIGHTS, AttentionRules

_HIDDEN = -1e4  # a score of attention that softmax turns into 0


@dataclass(frozen=True, slots=True)
class AttentionShape:
    """The size of the model: by default 0.5 MB at 384 dimensions.

    Attributes:
        dim: of the vectors.
        tokens: of an asset.
        width: of queries, keys and values.
        heads: of attention.
        temperature: divides the scores of attention; larger is flatter.
        attend: False leaves attention out: the gate alone.
    """

    dim: int
    tokens: int
    width: int = 64
    heads: int = 4
    temperature: float = 1.0
    attend: bool = True


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """The candidates of some questions.

    Attributes:
        of_text, of_image: float32[questions, assets], cosines with the text and the best image.
        pooled: float32[questions, assets, dim], the sum of text and images, each of length 1: what the gate reads.
        keys, values: float32[questions, assets, tokens, width], see `CrossAttention.keys_and_values`.
        present: bool[questions, assets, tokens].
        kinds: int64[tokens].
    """

    of_text: Tensor
    of_image: Tensor
    pooled: Tensor
    keys: Tensor
    values: Tensor
    present: Tensor
    kinds: Tensor


@dataclass(frozen=True, slots=True)
class Scored:
    """The scores of some questions and assets.

    Attributes:
        scores: float32[questions, assets].
        attention: float32[questions, assets, heads, tokens], averaged over the vectors of the question.
        context: float32[questions, assets, width].
    """

    scores: Tensor
    attention: Tensor
    context: Tensor


class CrossAttention(nn.Module):
    """Scores assets for questions.

    Args:
        shape: of the model.
        rules: which are on.
        weight: share of the text in the weighted sum of cosines at first, 0 to 1.

    Raises:
        ValueError: there are fewer than two keys.
    """

    def __init__(self, shape: AttentionShape, rules: AttentionRules, *, weight: float) -> None:
        super().__init__()
        if shape.tokens < 2:
            raise ValueError("attention needs two keys at least: with one it is a linear map of that token")
        self.shape, self.rules = shape, rules
        self.query = nn.Linear(shape.dim, shape.width)
        self.key = nn.Linear(shape.dim, shape.width)
        self.value = nn.Linear(shape.dim, shape.width)
        self.out = _zero(nn.Linear(shape.width, shape.dim))
        self.bias = nn.Parameter(torch.zeros(len(KINDS), shape.heads))
        self.gate = _zero(nn.Linear(shape.dim, 1))
        self.levels = nn.Parameter(torch.tensor(LEVEL_WEIGHTS))
        self.positions = nn.Parameter(torch.zeros(shape.tokens, shape.width))
        self.weight = nn.Parameter(torch.tensor(math.log((weight + 0.01) / (1.01 - weight))))
        self.scale = nn.Parameter(torch.tensor(3.0))
        self.sinusoids: Tensor
        self.register_buffer("sinusoids", sinusoids(shape.tokens, shape.width), persistent=False)

    def keys_and_values(self, tokens: Tensor, kinds: Tensor) -> tuple[Tensor, Tensor]:
        """Returns keys and values of assets, float32[assets, tokens, width] each: what rule 5 keeps."""
        keys, values = self.key(tokens), self.value(tokens)
        if self.rules.positions:
            keys = keys + 0.1 * (self.sinusoids + self.positions)
        if self.rules.levels:
            values = values * self._level_of(kinds)[:, None]
        return keys, values

    def forward(self, queries: Tensor, candidates: TokenBatch, hidden: Tensor | None = None) -> Scored:
        """Scores the candidates of each question.

        Args:
            queries: float32[questions, vectors, dim], of texts first and of images last.
            candidates: their tokens.
            hidden: bool[questions, assets, tokens], keys that attention does not get; None: none.

        Raises:
            ValueError: there are fewer than two keys.
        """
        present = candidates.present
        if present.shape[2] < 2:
            raise ValueError("attention needs two keys at least: with one it is a linear map of that token")
        base = self._weighted_cosines(candidates)
        if not self.shape.attend:
            nothing = base.new_zeros(*base.shape, self.shape.heads, present.shape[2])
            return Scored(base * self.scale.exp(), nothing, base.new_zeros(*base.shape, self.shape.width))
        if hidden is not None:
            present = present & ~hidden
        attention = self._attention(queries, candidates.keys, present, candidates.kinds)
        heads = torch.unflatten(candidates.values, -1, (self.shape.heads, -1))
        context = torch.einsum("bnhqt,bnthd->bnqhd", attention, heads).flatten(3).mean(dim=2)
        mean = queries.mean(dim=1)
        # question · out(context), without a vector of all dimensions for every candidate
        moved = torch.einsum("bnw,bw->bn", context, mean @ self.out.weight) + (mean @ self.out.bias)[:, None]
        return Scored((base + moved) * self.scale.exp(), attention.mean(dim=3), context)

    def _attention(self, queries: Tensor, keys: Tensor, present: Tensor, kinds: Tensor) -> Tensor:
        """Returns the weights, float32[questions, assets, heads, vectors of the question, tokens]."""
        of_queries = torch.unflatten(self.query(queries), -1, (self.shape.heads, -1))
        of_keys = torch.unflatten(keys, -1, (self.shape.heads, -1))
        scores = torch.einsum("bqhd,bnthd->bnhqt", of_queries, of_keys) / math.sqrt(of_queries.shape[-1])
        if self.rules.bias:
            scores = scores + self.bias[kinds].T[:, None]
        scores = scores / self.shape.temperature
        weights = scores.masked_fill(~present[:, :, None, None], _HIDDEN).softmax(dim=-1)
        if self.rules.regularisation:
            weights = functional.dropout(weights, DROPOUT, self.training)
        return weights

    def _weighted_cosines(self, candidates: TokenBatch) -> Tensor:
        share = self.weight
        if self.rules.gate:
            share = share + self.gate(candidates.pooled)[..., 0]
        gate = torch.sigmoid(share)
        return gate * candidates.of_text + (1 - gate) * candidates.of_image

    def _level_of(self, kinds: Tensor) -> Tensor:
        level = torch.zeros_like(kinds)
        level[kinds == TEXT] = 1
        level[(kinds == IMAGE) | (kinds == NOTHING)] = 2
        level[kinds == WHOLE] = 0
        return self.levels[level]


def sinusoids(positions: int, width: int) -> Tensor:
    """Returns the sinusoids of Vaswani et al. (2017), float32[positions, width]: sine and cosine of equal exponents."""
    place = torch.arange(positions, dtype=torch.float32)[:, None]
    frequency = 10_000 ** (-torch.arange(0, width, 2, dtype=torch.float32) / width)
    table = torch.zeros(positions, width)
    table[:, 0::2], table[:, 1::2] = torch.sin(place * frequency), torch.cos(place * frequency)
    return table


def _zero(layer: nn.Linear) -> nn.Linear:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
