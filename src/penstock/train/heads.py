"""Builds trainable heads on frozen vectors, and exports them as transforms.

    linear       x + xW + b
    low-rank     x + (xA)B, of rank r
    mlp          x + relu(xA + a)B + b
    projection   xW + b, to another number of dimensions

Those with a residual start with a last layer of 0, so an untrained one is the identity and changes no rank, to the bit.
A projection starts with orthogonal rows or columns, which keep cosines where its output has no fewer dimensions.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from penstock.encoders.transform import Activation, Layer, LayeredTransform

HeadKind: TypeAlias = Literal["linear", "low-rank", "mlp", "projection"]

# Directions of a low-rank head, and hidden units of an MLP: with 384 dimensions both stay below 1 MB as float32.
RANK = 16
HIDDEN = 256


class Head(nn.Module):
    """A chain of linear layers on vectors, with or without a residual.

    Args:
        layers: one or two.
        activation: between two layers.
        residual: whether its result is added to the vector.
    """

    def __init__(self, layers: list[nn.Linear], activation: Activation, *, residual: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.activation: Activation = activation
        self.residual = residual

    def forward(self, vectors: Tensor) -> Tensor:
        """Converts float[n, inputs] to float[n, outputs], L2-normalised."""
        mapped = vectors
        for number, layer in enumerate(self.layers):
            if number and self.activation == "relu":
                mapped = functional.relu(mapped)
            mapped = layer(mapped)
        return functional.normalize(vectors + mapped if self.residual else mapped, dim=-1)

    def to_transform(self) -> LayeredTransform:
        """Returns a copy of the head that needs no torch."""
        layers = []
        for layer in self.layers:
            assert isinstance(layer, nn.Linear)
            weight = layer.weight.detach().cpu().double().numpy().T
            bias = np.zeros(weight.shape[1]) if layer.bias is None else layer.bias.detach().cpu().double().numpy()
            layers.append(Layer(np.ascontiguousarray(weight, dtype=np.float32), np.asarray(bias, dtype=np.float32)))
        return LayeredTransform(tuple(layers), self.activation, self.residual)


def make_head(kind: HeadKind, dim: int, *, seed: int, output_dim: int | None = None) -> Head:
    """Returns a new head.

    Args:
        kind: as the module lists them.
        dim: of the vectors.
        seed: of the layers that do not start with 0.
        output_dim: of a projection; None: `dim`.

    Raises:
        ValueError: a head with a residual cannot have another length.
    """
    outputs = output_dim or dim
    if kind != "projection" and outputs != dim:
        raise ValueError(f"a {kind} head keeps the {dim} dimensions; a projection may have {outputs}")
    with torch.random.fork_rng(devices=[]):  # other draws of this process stay as they are
        torch.manual_seed(seed)
        match kind:
            case "linear":
                layers = [nn.Linear(dim, dim)]
            case "low-rank":
                layers = [nn.Linear(dim, RANK, bias=False), nn.Linear(RANK, dim, bias=False)]
            case "mlp":
                layers = [nn.Linear(dim, HIDDEN), nn.Linear(HIDDEN, dim)]
            case "projection":
                layers = [nn.Linear(dim, outputs)]
                nn.init.orthogonal_(layers[0].weight)
                nn.init.zeros_(layers[0].bias)
    if kind != "projection":
        for parameter in layers[-1].parameters():
            nn.init.zeros_(parameter)
    return Head(layers, "relu" if kind == "mlp" else "none", residual=kind != "projection")
