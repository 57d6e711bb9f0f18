"""The image tower of CLIP's ResNets (Radford et al. 2021) in NumPy, for processes that need torch for nothing else.

Images are float32[n, height, width, channels], so that a convolution with a side of 1 is a product of matrices, and one
with a side of 3 that of each place's neighbours. Batch norms are folded into the convolutions before them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from penstock.encoders.array_bert import softmax
from penstock.encoders.mapped_weights import Weights
from penstock.encoders.model_shapes import TowerShape
from penstock.records import Float32

_PREFIX = "visual."  # of the tower's weights in a checkpoint of open_clip
_NORM_EPSILON = 1e-5


class ArrayTower:
    """The tower with weights as open_clip names them, in float32.

    Args:
        weights: by name, of the whole model.
        shape: of the tower.

    Raises:
        KeyError: a weight is missing.
    """

    def __init__(self, weights: Weights, shape: TowerShape) -> None:
        named: dict[str, Float32] = {
            name.removeprefix(_PREFIX): weight.astype(np.float32)
            for name, weight in weights.items()
            if name.startswith(_PREFIX)
        }
        self._stem = [
            _ArrayConvolution.folded(named, f"conv{number}", f"bn{number}", stride=2 if number == 1 else 1)
            for number in (1, 2, 3)
        ]
        self._blocks = [
            _ArrayBottleneck(named, f"layer{layer + 1}.{block}.", averages=layer > 0 and block == 0)
            for layer, blocks in enumerate(shape.blocks)
            for block in range(blocks)
        ]
        self._pool = _ArrayAttentionPool(named, heads=shape.heads)

    def vectors(self, planes: Float32) -> Float32:
        """Converts float32[n, size, size, 3] to float32[n, dim], not normalised."""
        x = planes
        for convolution in self._stem:
            x = _relu(convolution.apply(x))
        x = _halved(x)
        for block in self._blocks:
            x = block.apply(x)
        return self._pool.apply(x)


@dataclass(frozen=True, slots=True)
class _ArrayConvolution:
    """A convolution that keeps height and width, or divides them by its stride.

    Attributes:
        weight: float32[side · side · inputs, outputs].
        bias: float32[outputs].
        side: 1 or 3.
        stride: between the places that it computes.
    """

    weight: Float32
    bias: Float32
    side: int
    stride: int

    @classmethod
    def folded(cls, weights: Mapping[str, Float32], conv: str, norm: str, *, stride: int = 1) -> _ArrayConvolution:
        """Returns a convolution with the batch norm behind it folded in."""
        scale = weights[f"{norm}.weight"] / np.sqrt(weights[f"{norm}.running_var"] + np.float32(_NORM_EPSILON))
        weight = weights[f"{conv}.weight"] * scale[:, None, None, None]  # [outputs, inputs, side, side]
        bias = weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale
        outputs, _, side, _ = weight.shape
        return cls(np.ascontiguousarray(weight.transpose(2, 3, 1, 0)).reshape(-1, outputs), bias, side, stride)

    def apply(self, x: Float32) -> Float32:
        """Returns float32[n, height / stride, width / stride, outputs]."""
        return _product(x if self.side == 1 else _neighbours(x, self.stride), self.weight, self.bias)


def _neighbours(x: Float32, stride: int) -> Float32:
    """Returns the channels of the 3 × 3 places around each place, zeros beyond the edges."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = x.shape[1:3]
    return np.concatenate(
        [padded[:, top : top + height : stride, left : left + width : stride] for top in range(3) for left in range(3)],
        axis=3,
    )


class _ArrayBottleneck:
    """Three convolutions added to their input; some average their input first, against aliasing."""

    def __init__(self, weights: Mapping[str, Float32], name: str, *, averages: bool) -> None:
        self._first, self._second, self._third = (
            _ArrayConvolution.folded(weights, f"{name}conv{number}", f"{name}bn{number}") for number in (1, 2, 3)
        )
        self._averages = averages
        has_other_shape = f"{name}downsample.0.weight" in weights
        self._shortcut = (
            _ArrayConvolution.folded(weights, f"{name}downsample.0", f"{name}downsample.1") if has_other_shape else None
        )

    def apply(self, x: Float32) -> Float32:
        """Returns float32[n, height, width, channels]."""
        inner = _relu(self._second.apply(_relu(self._first.apply(x))))
        output = self._third.apply(_halved(inner) if self._averages else inner)
        if self._shortcut is None:
            output += x
        else:
            output += self._shortcut.apply(_halved(x) if self._averages else x)
        return _relu(output)


class _ArrayAttentionPool:
    """Reads all places of an image with a question: their mean."""

    def __init__(self, weights: Mapping[str, Float32], heads: int) -> None:
        self._heads = heads
        self._positions = weights["attnpool.positional_embedding"]
        self._parts = {
            part: (weights[f"attnpool.{part}_proj.weight"].T, weights[f"attnpool.{part}_proj.bias"]) for part in "qkvc"
        }

    def apply(self, x: Float32) -> Float32:
        """Converts float32[n, height, width, channels] to float32[n, dim]."""
        places = x.reshape(len(x), -1, x.shape[3])
        tokens = np.concatenate([places.mean(axis=1, keepdims=True), places], axis=1) + self._positions
        query, key, value = self._split("q", tokens[:, :1]), self._split("k", tokens), self._split("v", tokens)
        shares = softmax(query @ key.swapaxes(2, 3) * np.float32(1 / math.sqrt(query.shape[3])))
        return self._linear("c", (shares @ value).swapaxes(1, 2).reshape(len(x), -1))

    def _split(self, part: str, x: Float32) -> Float32:
        """Converts float32[n, tokens, dim] to float32[n, heads, tokens, dim / heads]."""
        images, tokens, _ = x.shape
        return self._linear(part, x).reshape(images, tokens, self._heads, -1).swapaxes(1, 2)

    def _linear(self, part: str, x: Float32) -> Float32:
        return _product(x, *self._parts[part])


def _product(x: Float32, weight: Float32, bias: Float32) -> Float32:
    """Returns float32[…, outputs] of float32[…, inputs] by one product: a stack of small ones is many times slower."""
    output: Float32 = x.reshape(-1, x.shape[-1]) @ weight
    output += bias
    return output.reshape(*x.shape[:-1], -1)


def _relu(x: Float32) -> Float32:
    """Sets negative values to 0 in place, and returns the array."""
    np.maximum(x, 0, out=x)
    return x


def _halved(x: Float32) -> Float32:
    """Returns the averages of 2 × 2 places. A last row or column without another one is left out."""
    height, width = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
    x = x[:, :height, :width]
    halved: Float32 = x[:, ::2, ::2] + x[:, ::2, 1::2]
    halved += x[:, 1::2, ::2]
    halved += x[:, 1::2, 1::2]
    halved *= np.float32(0.25)
    return halved
