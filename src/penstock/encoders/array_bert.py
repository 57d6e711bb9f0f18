"""A BERT (Devlin et al. 2019) in NumPy, for processes that need torch for nothing else: it takes 290 MB to import.

The weights are read from a mapped file, whose pages all processes share. Texts stand one behind the other without
padding; only attention goes text by text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from penstock.encoders.mapped_weights import Weights
from penstock.encoders.model_shapes import BertShape
from penstock.records import Float32

_PREFIX = "bert."  # of the weights' names, where the model was saved with a head
_GELU_ROWS = 32  # at a time, so that what is computed of them stays in the processor's cache
# The error function by Abramowitz and Stegun, 7.1.26, within 1.5e-7.
_ERF_SCALE = np.float32(0.3275911)
_ERF_FACTORS = tuple(np.float32(a) for a in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592))


class ArrayBert:
    """The encoder with weights as Hugging Face's `BertModel` names them, in float32.

    Args:
        weights: by name, float32.
        shape: of the model.

    Raises:
        KeyError: a weight is missing.
    """

    def __init__(self, weights: Weights, shape: BertShape) -> None:
        named = {name.removeprefix(_PREFIX): weight for name, weight in weights.items()}
        before = "embeddings."
        self._words: Float32 = named[f"{before}word_embeddings.weight"]
        kinds = named[f"{before}token_type_embeddings.weight"]
        # every token is of the first kind
        self._positions: Float32 = named[f"{before}position_embeddings.weight"] + kinds[0]
        self._norm = _ArrayNorm.of(named, f"{before}LayerNorm", shape)
        self._layers = [_ArrayLayer(named, f"encoder.layer.{number}.", shape) for number in range(shape.layers)]

    def tokens(self, batch: Sequence[Sequence[int]]) -> list[Float32]:
        """Returns the vectors of each text's tokens, float32[tokens, dim], not normalised.

        Args:
            batch: the numbers of each text's tokens, at least one.
        """
        ends = np.cumsum([len(ids) for ids in batch])
        texts = [slice(end - len(ids), end) for end, ids in zip(ends, batch, strict=True)]
        x = self._words[np.concatenate([np.asarray(ids) for ids in batch])]
        for text in texts:
            x[text] += self._positions[: text.stop - text.start]
        x = self._norm.apply(x)
        for layer in self._layers:
            x = layer.apply(x, texts)
        return [x[text] for text in texts]


@dataclass(frozen=True, slots=True)
class _ArrayLinear:
    """A product with a weight, float32[outputs, inputs], and a sum with a bias."""

    weight: Float32
    bias: Float32

    @classmethod
    def of(cls, weights: Mapping[str, Float32], name: str) -> _ArrayLinear:
        return cls(weights[f"{name}.weight"], weights[f"{name}.bias"])

    def apply(self, x: Float32) -> Float32:
        output: Float32 = x @ self.weight.T
        output += self.bias
        return output


@dataclass(frozen=True, slots=True)
class _ArrayNorm:
    """A layer norm."""

    weight: Float32
    bias: Float32
    epsilon: np.float32

    @classmethod
    def of(cls, weights: Mapping[str, Float32], name: str, shape: BertShape) -> _ArrayNorm:
        return cls(weights[f"{name}.weight"], weights[f"{name}.bias"], np.float32(shape.norm_epsilon))

    def apply(self, x: Float32) -> Float32:
        """Normalises float32[rows, dim] in place, and returns it."""
        x -= x.mean(axis=1, keepdims=True)
        variance = np.einsum("ij,ij->i", x, x)[:, None] / np.float32(x.shape[1])
        x /= np.sqrt(variance + self.epsilon)
        x *= self.weight
        x += self.bias
        return x


class _ArrayLayer:
    """Self-attention and a feed-forward part, each added to its input and normalised."""

    def __init__(self, weights: Mapping[str, Float32], name: str, shape: BertShape) -> None:
        self._heads = shape.heads
        self._query, self._key, self._value = (
            _ArrayLinear.of(weights, f"{name}attention.self.{part}") for part in ("query", "key", "value")
        )
        self._project = _ArrayLinear.of(weights, f"{name}attention.output.dense")
        self._attention_norm = _ArrayNorm.of(weights, f"{name}attention.output.LayerNorm", shape)
        self._widen = _ArrayLinear.of(weights, f"{name}intermediate.dense")
        self._narrow = _ArrayLinear.of(weights, f"{name}output.dense")
        self._norm = _ArrayNorm.of(weights, f"{name}output.LayerNorm", shape)

    def apply(self, x: Float32, texts: Sequence[slice]) -> Float32:
        """Returns float32[tokens, dim]; a token attends to those of its text."""
        query, key, value = self._query.apply(x), self._key.apply(x), self._value.apply(x)
        query *= np.float32(1 / math.sqrt(query.shape[1] // self._heads))
        mixed = np.empty_like(value)
        for text in texts:
            mixed[text] = _attend(*(part[text] for part in (query, key, value)), heads=self._heads)
        x = self._attention_norm.apply(x + self._project.apply(mixed))
        return self._norm.apply(x + self._narrow.apply(_gelu(self._widen.apply(x))))


def _attend(query: Float32, key: Float32, value: Float32, *, heads: int) -> Float32:
    """Returns the values that each token of one text attends to: float32[tokens, dim], as are the arguments."""
    tokens, dim = query.shape
    queries, keys, values = (x.reshape(tokens, heads, dim // heads).swapaxes(0, 1) for x in (query, key, value))
    shares = softmax(queries @ keys.swapaxes(1, 2))
    return (shares @ values).swapaxes(0, 1).reshape(tokens, dim)


def softmax(x: Float32) -> Float32:
    """Returns exponentials that sum to 1 along the last axis, computed in place."""
    x -= x.max(axis=-1, keepdims=True)
    np.exp(x, out=x)
    x /= x.sum(axis=-1, keepdims=True)
    return x


def _gelu(x: Float32) -> Float32:
    """Returns x · Φ(x) of float32[rows, dim], computed in place (Hendrycks and Gimpel 2016)."""
    for start in range(0, len(x), _GELU_ROWS):
        rows = x[start : start + _GELU_ROWS]
        rows *= _normal_share(rows)
    return x


def _normal_share(x: Float32) -> Float32:
    """Returns Φ(x), the share of a normal distribution that is below x."""
    size = np.abs(x) * np.float32(math.sqrt(0.5))
    inverse = 1 / (1 + _ERF_SCALE * size)
    series = np.full_like(x, _ERF_FACTORS[0])
    for factor in _ERF_FACTORS[1:]:
        series *= inverse
        series += factor
    series *= inverse
    np.square(size, out=size)
    np.negative(size, out=size)
    np.exp(size, out=size)
    series *= size  # 1 - erf of the size
    series *= np.float32(0.5)
    share: Float32 = np.where(x < 0, series, 1 - series)
    return share
