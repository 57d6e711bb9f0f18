"""The image tower of CLIP's ResNets (Radford et al. 2021), in torch alone: the architecture of the reference tower.

Importing open_clip takes 2.6 s of CPU time and 170 MB on top of torch. Batch norms are folded into the convolutions
before them, which changes a vector by less than 1e-5.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from penstock.encoders.model_shapes import TowerShape

_PREFIX = "visual."  # of the tower's weights in a checkpoint of open_clip
_NORM_EPSILON = 1e-5


class ResNetTower(nn.Module):
    """The tower with weights as open_clip names them.

    Args:
        weights: by name, of the whole model.
        shape: of the tower.

    Raises:
        KeyError: a weight is missing.
    """

    def __init__(self, weights: Mapping[str, Tensor], shape: TowerShape) -> None:
        super().__init__()
        named = {
            name.removeprefix(_PREFIX): weight.float() for name, weight in weights.items() if name.startswith(_PREFIX)
        }
        self._stem = nn.Sequential(*_stem(named))
        blocks = (
            (f"layer{layer + 1}.{block}.", 2 if layer > 0 and block == 0 else 1)
            for layer, number in enumerate(shape.blocks)
            for block in range(number)
        )
        self._blocks = nn.Sequential(*(_Bottleneck(named, name, stride) for name, stride in blocks))
        self._pool = _AttentionPool(named, heads=shape.heads)
        self.requires_grad_(False)
        self.eval()

    def forward(self, planes: Tensor) -> Tensor:
        """Converts float[n, 3, size, size] to float[n, dim], not normalised."""
        vectors: Tensor = self._pool(self._blocks(self._stem(planes)))
        return vectors


def load_tower(shape: TowerShape, checkpoint: Path) -> ResNetTower:
    """Builds the tower from a checkpoint in safetensors. Raises whatever its reader raises on a damaged file."""
    from safetensors.torch import load_file

    return ResNetTower(load_file(checkpoint), shape)


class _Bottleneck(nn.Module):
    """Three convolutions added to their input; those with a stride average their input first, against aliasing."""

    def __init__(self, weights: Mapping[str, Tensor], name: str, stride: int) -> None:
        super().__init__()
        self._first = _folded(weights, f"{name}conv1", f"{name}bn1")
        self._second = _folded(weights, f"{name}conv2", f"{name}bn2", padding=1)
        self._third = _folded(weights, f"{name}conv3", f"{name}bn3")
        self._average = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        has_other_shape = f"{name}downsample.0.weight" in weights
        self._shortcut = (
            nn.Sequential(self._average, _folded(weights, f"{name}downsample.0", f"{name}downsample.1"))
            if has_other_shape
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Returns float[n, channels, height, width]."""
        inner = functional.relu(self._second(functional.relu(self._first(x))))
        output: Tensor = functional.relu(self._third(self._average(inner)) + self._shortcut(x))
        return output


class _AttentionPool(nn.Module):
    """Reads all places of an image with a question: their mean."""

    def __init__(self, weights: Mapping[str, Tensor], heads: int) -> None:
        super().__init__()
        self._heads = heads
        self._positions = nn.Parameter(weights["attnpool.positional_embedding"], requires_grad=False)
        self._query, self._key, self._value, self._project = (
            _linear(weights, f"attnpool.{part}_proj") for part in ("q", "k", "v", "c")
        )

    def forward(self, x: Tensor) -> Tensor:
        """Converts float[n, channels, height, width] to float[n, dim]."""
        places = x.flatten(2).transpose(1, 2)
        tokens = torch.cat([places.mean(dim=1, keepdim=True), places], dim=1) + self._positions
        query, key, value = self._query(tokens[:, :1]), self._key(tokens), self._value(tokens)
        mixed = functional.scaled_dot_product_attention(self._split(query), self._split(key), self._split(value))
        vectors: Tensor = self._project(mixed.transpose(1, 2).flatten(1))
        return vectors

    def _split(self, x: Tensor) -> Tensor:
        """Converts float[n, tokens, dim] to float[n, heads, tokens, dim / heads]."""
        images, tokens, _ = x.shape
        heads: Tensor = x.view(images, tokens, self._heads, -1)
        return heads.transpose(1, 2)


def _stem(weights: Mapping[str, Tensor]) -> Iterator[nn.Module]:
    for number in (1, 2, 3):
        yield _folded(weights, f"conv{number}", f"bn{number}", stride=2 if number == 1 else 1, padding=1)
        yield nn.ReLU()
    yield nn.AvgPool2d(2)


def _folded(weights: Mapping[str, Tensor], conv: str, norm: str, *, stride: int = 1, padding: int = 0) -> nn.Conv2d:
    """Returns a convolution with the batch norm behind it folded in."""
    scale = weights[f"{norm}.weight"] / torch.sqrt(weights[f"{norm}.running_var"] + _NORM_EPSILON)
    weight = weights[f"{conv}.weight"] * scale.view(-1, 1, 1, 1)
    outputs, inputs, side, _ = weight.shape
    layer = nn.Conv2d(inputs, outputs, side, stride=stride, padding=padding, device="meta")
    layer.weight = nn.Parameter(weight, requires_grad=False)
    bias = weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale
    layer.bias = nn.Parameter(bias, requires_grad=False)
    return layer


def _linear(weights: Mapping[str, Tensor], name: str) -> nn.Linear:
    weight = weights[f"{name}.weight"]
    layer = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    layer.weight = nn.Parameter(weight, requires_grad=False)
    layer.bias = nn.Parameter(weights[f"{name}.bias"], requires_grad=False)
    return layer
