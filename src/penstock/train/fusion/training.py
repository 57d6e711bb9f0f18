"""Trains cross-attention on labelled questions, and stops by dev."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from penstock.evaluate.evaluation_set import IntArray
from penstock.records import Float32
from penstock.train.compression.reductions import normalised
from penstock.train.fusion.asset_tokens import IMAGE, TEXT, AssetTokens
from penstock.train.fusion.attention import AttentionShape, CrossAttention, Scored, TokenBatch
from penstock.train.fusion.judge import mean_mrr
from penstock.train.fusion.rules import BOTTLENECK_OF_PAIR, LABEL_SMOOTHING, SUPERVISION_TEMPERATURE, AttentionRules

SUPERVISION_WEIGHT = 0.1
BOTTLENECK_WEIGHT = 1e-3
"""The weight of the bottleneck's KL divergence for each dimension, beside the cross-entropy, before β divides it."""


@dataclass(frozen=True, slots=True)
class FusionOptions:
    """The options of a training.

    Attributes:
        rules: which are on.
        temperature, attend: of the model, see `AttentionShape`.
        epochs, batch, rate, decay, patience: of AdamW, stopped by dev.
        bottleneck: β of the information bottleneck; None: none. The recommended one is in `rules`.
    """

    rules: AttentionRules = field(default_factory=AttentionRules)
    temperature: float = 1.0
    attend: bool = True
    epochs: int = 20
    batch: int = 64
    rate: float = 1e-3
    decay: float = 0.1
    patience: int = 4
    bottleneck: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Questions:
    """Questions with their candidates.

    Attributes:
        rows: int64[n], of the set.
        assets: int64[n, m], candidates, -1 after the last.
    """

    rows: IntArray
    assets: IntArray

    def take(self, places: IntArray) -> Questions:
        """Returns some of them."""
        return Questions(self.rows[places], self.assets[places])


class TrainedFusion:
    """A model with the assets that it scores.

    Args:
        model: cross-attention.
        data: the assets.
    """

    def __init__(self, model: CrossAttention, data: AssetTokens) -> None:
        self.model = model
        self.data = data
        self._tokens, self._present = torch.from_numpy(data.tokens), torch.from_numpy(data.present)
        self._kinds, self._queries = torch.from_numpy(data.kinds), torch.from_numpy(data.queries)
        pooled = [normalised(data.tokens[:, data.kinds == kind].sum(axis=1)) for kind in (TEXT, IMAGE)]
        self._pooled = torch.from_numpy(pooled[0] + pooled[1])
        self._cosines = [torch.from_numpy(cosines) for cosines in data.all_cosines]

    def forward(
        self, questions: Questions, hidden: Tensor | None = None, known: tuple[Tensor, Tensor] | None = None
    ) -> Scored:
        """Returns scores and attention of the candidates of some questions; padding is scored as any asset.

        Args:
            questions: with candidates.
            hidden: bool[questions, assets, tokens], keys that attention does not get; None: none.
            known: keys and values of the candidates, float32[questions, assets, tokens, width]; None: computed.
        """
        assets, rows = torch.from_numpy(questions.assets), torch.from_numpy(questions.rows)
        keys, values = self._keys_and_values_of(assets) if known is None else known
        of_text, of_image = (cosines[rows[:, None], assets] for cosines in self._cosines)
        batch = TokenBatch(of_text, of_image, self._pooled[assets], keys, values, self._present[assets], self._kinds)
        scored: Scored = self.model(self._queries[rows], batch, hidden)
        return scored

    def _keys_and_values_of(self, assets: Tensor) -> tuple[Tensor, Tensor]:
        """Returns keys and values of candidates; those of an asset are computed once for all questions."""
        distinct, places = torch.unique(assets, return_inverse=True)
        keys, values = self.model.keys_and_values(self._tokens[distinct], self._kinds)
        return keys[places], values[places]

    def present(self, assets: IntArray) -> npt.NDArray[np.bool_]:
        """Returns which tokens each asset has, without the whole and the empty one: bool[assets, tokens]."""
        inner = self.data.present[assets].copy()
        inner[:, [0, -1]] = False
        return inner

    @torch.no_grad()
    def keys_and_values(self, assets: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
        """Returns keys and values of each asset, float32[tokens, width] each."""
        keys, values = self.model.keys_and_values(self._tokens[list(assets)], self._kinds)
        return list(zip(keys, values, strict=True))

    @torch.no_grad()
    def scores(self, questions: Questions, known: tuple[Tensor, Tensor] | None = None) -> Float32:
        """Returns float32[n, m], -inf for padding."""
        self.model.eval()
        scores = self.forward(questions, known=known).scores.numpy()
        return np.where(questions.assets >= 0, scores, -np.inf).astype(np.float32)


def train_fusion(
    data: AssetTokens, train: Questions, dev: Questions, options: FusionOptions, *, weight: float, seed: int
) -> TrainedFusion:
    """Returns the model that dev judges best. Equal seeds give equal models on one machine.

    Args:
        data: the assets.
        train: the right asset is among the candidates of each.
        dev: decides when training ends.
        options: how.
        weight: share of the text in the weighted sum of cosines at first.
        seed: of the start, of the order of questions and of what is dropped.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tokens, dim = data.tokens.shape[1:]
        shape = AttentionShape(dim, tokens, temperature=options.temperature, attend=options.attend)
        fusion = TrainedFusion(CrossAttention(shape, options.rules, weight=weight), data)
        _fit(fusion, train, dev, options, np.random.default_rng(seed))
    return fusion


def _fit(
    fusion: TrainedFusion, train: Questions, dev: Questions, options: FusionOptions, rng: np.random.Generator
) -> None:
    model, data = fusion.model, fusion.data
    optimiser = torch.optim.AdamW(model.parameters(), options.rate, weight_decay=options.decay)
    best, kept, waited = mean_mrr(data, dev.rows, dev.assets, fusion.scores(dev)), _copy(model), 0
    for _ in range(options.epochs):
        model.train()
        order = rng.permutation(len(train.rows))
        for start in range(0, len(order), options.batch):
            part = train.take(order[start : start + options.batch])
            loss = fusion_loss(fusion, part, options)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
        if (now := mean_mrr(data, dev.rows, dev.assets, fusion.scores(dev))) > best:
            best, kept, waited = now, _copy(model), 0
        elif (waited := waited + 1) >= options.patience:
            break
    model.load_state_dict(kept)
    model.eval()


def fusion_loss(fusion: TrainedFusion, part: Questions, options: FusionOptions) -> Tensor:
    """Returns cross-entropy over the candidates, and what rule 6 and the bottleneck add to it."""
    data = fusion.data
    scored = fusion.forward(part)
    padding = torch.from_numpy(part.assets < 0)
    right = torch.from_numpy((part.assets == data.right[part.rows][:, np.newaxis]).argmax(axis=1))
    smoothing = LABEL_SMOOTHING if options.rules.regularisation else 0.0
    loss = _cross_entropy(scored.scores.masked_fill(padding, -1e9), right, ~padding, smoothing)
    places = torch.arange(len(right))
    if options.rules.supervision and fusion.model.shape.attend:
        attention = scored.attention[places, right].mean(dim=1)
        loss = loss + SUPERVISION_WEIGHT * supervision_loss(attention, _nearest(data, part, right))
    if options.bottleneck is not None:
        divergence = (scored.context[places, right] ** 2).mean() / 2  # from a unit normal, of a unit variance
        loss = loss + BOTTLENECK_WEIGHT * divergence / options.bottleneck
    return loss


def supervision_loss(attention: Tensor, nearest: Tensor) -> Tensor:
    """Returns -log of the softmax of what the nearest token gets against what the others get, over a temperature.

    The recipe's cosine has one argument, and its temperature no value: here it compares the attention itself, at 0.1.

    Args:
        attention: float32[n, tokens], each row sums to 1.
        nearest: int64[n], the token that should get it.
    """
    positive = attention[torch.arange(len(nearest)), nearest]
    negative = attention.sum(dim=1) - positive
    return functional.softplus((negative - positive) / SUPERVISION_TEMPERATURE).mean()


def recommended_bottleneck() -> float:
    """Returns β for images with text."""
    return BOTTLENECK_OF_PAIR["image", "text"]


def _nearest(data: AssetTokens, part: Questions, right: Tensor) -> Tensor:
    """Returns the token of each right asset, neither the whole nor the empty one, that is nearest to the question."""
    assets = part.assets[np.arange(len(part.rows)), right.numpy()]
    cosines = np.einsum("nd,ntd->nt", data.queries[part.rows].mean(axis=1), data.tokens[assets])
    inner = data.present[assets].copy()
    inner[:, [0, -1]] = False
    return torch.from_numpy(np.where(inner, cosines, -np.inf).argmax(axis=1))


def _cross_entropy(logits: Tensor, right: Tensor, real: Tensor, smoothing: float) -> Tensor:
    """Returns the cross-entropy with labels smoothed over the real candidates: padding is no candidate."""
    log_shares = logits.log_softmax(dim=1)
    of_right = -log_shares[torch.arange(len(right)), right]
    if not smoothing:
        return of_right.mean()
    of_all = -(log_shares.masked_fill(~real, 0)).sum(dim=1) / real.sum(dim=1)
    return ((1 - smoothing) * of_right + smoothing * of_all).mean()


def _copy(model: CrossAttention) -> dict[str, Tensor]:
    return {name: values.clone() for name, values in model.state_dict().items()}
