"""A BERT that sentence encoders such as MiniLM consist of (Devlin et al. 2019), in torch alone.

The libraries that it is usually loaded with take 5 s of CPU time and 250 MB in every process that imports them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from penstock.encoders.model_shapes import BertShape

_PREFIX = "bert."  # of the weights' names, where the model was saved with a head


class BertModel(nn.Module):
    """The encoder with weights as Hugging Face's `BertModel` names them.

    Args:
        weights: by name.
        shape: of the model.

    Raises:
        KeyError: a weight is missing.
    """

    def __init__(self, weights: Mapping[str, Tensor], shape: BertShape) -> None:
        super().__init__()
        named = {name.removeprefix(_PREFIX): weight for name, weight in weights.items()}
        before = "embeddings."
        self._words = _parameter(named[f"{before}word_embeddings.weight"])
        positions = named[f"{before}position_embeddings.weight"]
        kinds = named[f"{before}token_type_embeddings.weight"]
        self._positions = _parameter(positions + kinds[0])  # every token is of the first kind
        self._norm = _norm(named, f"{before}LayerNorm", shape)
        self._layers = nn.ModuleList(_Layer(named, f"encoder.layer.{i}.", shape) for i in range(shape.layers))
        self.requires_grad_(False)
        self.eval()

    def forward(self, batch: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Returns the tokens' vectors, float[texts, longest, dim], and which of them are tokens, bool[texts, longest].

        Args:
            batch: the numbers of each text's tokens, at least one.
        """
        device = self._words.device
        padded = nn.utils.rnn.pad_sequence([torch.tensor(ids) for ids in batch], batch_first=True).to(device)
        lengths = torch.tensor([len(ids) for ids in batch], device=device)
        is_token = torch.arange(padded.shape[1], device=device) < lengths[:, None]
        attended = None if bool(is_token.all()) else is_token[:, None, None, :]
        x = self._norm(self._words[padded] + self._positions[: padded.shape[1]])
        for layer in self._layers:
            x = layer(x, attended)
        return x, is_token


class _Layer(nn.Module):
    """Self-attention and a feed-forward part, each added to its input and normalised."""

    def __init__(self, weights: Mapping[str, Tensor], name: str, shape: BertShape) -> None:
        super().__init__()
        self._heads = shape.heads
        parts = [f"{name}attention.self.{part}" for part in ("query", "key", "value")]
        self._attend = _linear_of(
            torch.cat([weights[f"{part}.weight"] for part in parts]),
            torch.cat([weights[f"{part}.bias"] for part in parts]),
        )
        self._project = _linear(weights, f"{name}attention.output.dense")
        self._attention_norm = _norm(weights, f"{name}attention.output.LayerNorm", shape)
        self._widen = _linear(weights, f"{name}intermediate.dense")
        self._narrow = _linear(weights, f"{name}output.dense")
        self._norm = _norm(weights, f"{name}output.LayerNorm", shape)

    def forward(self, x: Tensor, attended: Tensor | None) -> Tensor:
        """Returns float[texts, longest, dim]; `attended` is bool[texts, 1, 1, longest], None if all tokens are."""
        texts, longest, dim = x.shape
        parts = self._attend(x).view(texts, longest, 3, self._heads, dim // self._heads).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind(0)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=attended)
        x = self._attention_norm(x + self._project(mixed.transpose(1, 2).reshape(texts, longest, dim)))
        output: Tensor = self._norm(x + self._narrow(functional.gelu(self._widen(x))))
        return output


def _parameter(weight: Tensor) -> nn.Parameter:
    return nn.Parameter(weight, requires_grad=False)


def _linear(weights: Mapping[str, Tensor], name: str) -> nn.Linear:
    return _linear_of(weights[f"{name}.weight"], weights[f"{name}.bias"])


def _linear_of(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    layer.weight, layer.bias = _parameter(weight), _parameter(bias)
    return layer


def _norm(weights: Mapping[str, Tensor], name: str, shape: BertShape) -> nn.LayerNorm:
    weight = weights[f"{name}.weight"]
    layer = nn.LayerNorm(len(weight), eps=shape.norm_epsilon, device="meta")
    layer.weight, layer.bias = _parameter(weight), _parameter(weights[f"{name}.bias"])
    return layer
