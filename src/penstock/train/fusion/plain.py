"""Fuses the vectors of an asset without training: averages, concatenation, α, and the repaired gates of recipes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np

from penstock.evaluate.evaluation_set import IntArray
from penstock.records import Float32
from penstock.train.compression.reductions import normalised
from penstock.train.fusion.asset_tokens import IMAGE, TEXT, AssetTokens

ALPHAS = tuple(round(0.05 * step, 2) for step in range(21))
Scoring: TypeAlias = Callable[[AssetTokens, IntArray, IntArray], Float32]
"""Takes assets, questions int64[n] and candidates int64[n, m]; returns float32[n, m]."""


def average(data: AssetTokens, queries: IntArray, assets: IntArray) -> Float32:
    """Scores by the cosine with the mean of text and image vectors."""
    texts, images = _pooled(data)
    return _cosine(data, queries, normalised(texts + images), assets)


def concatenation(data: AssetTokens, queries: IntArray, assets: IntArray) -> Float32:
    """Scores by the cosine of [question, question] with [text, image]: the mean of both cosines of pooled vectors."""
    texts, images = _pooled(data)
    lengths = np.sqrt((texts**2).sum(axis=1) + (images**2).sum(axis=1))[assets]
    both = _cosine(data, queries, texts, assets) + _cosine(data, queries, images, assets, side=1)
    return np.asarray(both / np.maximum(lengths, 1e-12) / np.sqrt(2), dtype=np.float32)


def early(alpha: float) -> Scoring:
    """Returns early fusion: the cosine with α·text + (1-α)·image."""

    def score(data: AssetTokens, queries: IntArray, assets: IntArray) -> Float32:
        texts, images = _pooled(data)
        return _cosine(data, queries, normalised(alpha * texts + (1 - alpha) * images), assets)

    return score


def late(alpha: float) -> Scoring:
    """Returns the weighted sum of both cosines, of the best image."""

    def score(data: AssetTokens, queries: IntArray, assets: IntArray) -> Float32:
        of_text, of_image = data.cosines(queries, assets)
        return np.asarray(alpha * of_text + (1 - alpha) * of_image, dtype=np.float32)

    return score


def attention_of_two(data: AssetTokens, queries: IntArray, assets: IntArray) -> Float32:
    """Scores by w·text + (1-w)·image, where w is the softmax of both cosines with the question."""
    texts, images = _pooled(data)
    of_text, of_image = _cosine(data, queries, texts, assets), _cosine(data, queries, images, assets, side=1)
    return _mixed(data, queries, assets, 1 / (1 + np.exp(of_image - of_text)))


def gate_of_cosines(data: AssetTokens, queries: IntArray, assets: IntArray) -> Float32:
    """Scores by g·text + (1-g)·image with g = sigmoid(text · image), a number for each asset.

    The recipe's `sigmoid(t @ i.T)` is a matrix of all pairs of a batch, so that an asset's gate depended on the others.
    """
    texts, images = _pooled(data)
    gate = 1 / (1 + np.exp(-(texts * images).sum(axis=1)))
    return _mixed(data, queries, assets, gate[assets])


def by_ranks(k: int) -> Scoring:
    """Returns reciprocal rank fusion of both cosines among the candidates."""

    def score(data: AssetTokens, queries: IntArray, assets: IntArray) -> Float32:
        parts = data.cosines(queries, assets)
        ranks = [(-np.where(assets >= 0, part, -np.inf)).argsort(axis=1).argsort(axis=1) for part in parts]
        return np.asarray(sum(1 / (k + rank + 1) for rank in ranks), dtype=np.float32)

    return score


UNTRAINED: Mapping[str, Scoring] = {
    "average pooling": average,
    "concatenation": concatenation,
    "text alone": late(1.0),
    "best image alone": late(0.0),
    "rrf of both, k 60": by_ranks(60),
    "attention over both": attention_of_two,
    "gate of text · image": gate_of_cosines,
}


def _pooled(data: AssetTokens) -> tuple[Float32, Float32]:
    texts, images = (data.tokens[:, data.kinds == kind].sum(axis=1) for kind in (TEXT, IMAGE))
    return normalised(texts), normalised(images)


def _cosine(data: AssetTokens, queries: IntArray, vectors: Float32, assets: IntArray, *, side: int = 0) -> Float32:
    return np.asarray(np.einsum("nd,nmd->nm", data.queries[queries, side], vectors[assets]), dtype=np.float32)


def _mixed(data: AssetTokens, queries: IntArray, assets: IntArray, share: Float32) -> Float32:
    """Returns the cosine with share·text + (1-share)·image, where the share is float32[n, m]."""
    texts, images = _pooled(data)
    mixed = share[..., np.newaxis] * texts[assets] + (1 - share[..., np.newaxis]) * images[assets]
    lengths = np.maximum(np.linalg.norm(mixed, axis=2), 1e-12)
    dot = np.einsum("nd,nmd->nm", data.queries[queries, 0], mixed)
    return np.asarray(dot / lengths, dtype=np.float32)
