"""Applies a small learned map to vectors that an encoder made: an adapter, or a compression to fewer dimensions.

A transform is a chain of one or two affine layers. With a residual it returns the normalised sum of a vector and what
the layers make of it, so one whose layers return 0 changes no bit. All kinds of heads are such chains: ridge, linear,
low-rank, an MLP, a projection, PCA, the encoder half of an autoencoder. It needs NumPy alone: query planes and the
filling of an index load transforms without torch.

The file is of safetensors: `weight0`, `bias0`, `weight1`, `bias1`, and what the transform is as text in its header.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from penstock.encoders.base import Fingerprint
from penstock.errors import ConfigError
from penstock.records import Float32

SCHEMA = 1
Activation: TypeAlias = Literal["none", "relu"]

_SCHEMA_KEY, _SHAPE_KEY, _ABOUT_KEY = "penstock.transform", "penstock.shape", "penstock.about"
# Vectors that a chain maps to (nearly) nothing have no direction.
_LEAST_NORM = 1e-12


class Transform(Protocol):
    """Maps vectors of one space to another one, or to themselves moved. Safe to use by several threads."""

    @property
    def fingerprint(self) -> str:
        """Returns what identifies the map: 16 hexadecimal digits of its numbers and its form."""

    @property
    def input_dim(self) -> int:
        """Returns the length of the vectors that it takes."""

    @property
    def output_dim(self) -> int:
        """Returns the length of the vectors that it returns."""

    def apply(self, vectors: Float32) -> Float32:
        """Converts float32[n, input_dim] to float32[n, output_dim], both L2-normalised."""


@dataclass(frozen=True)
class Layer:
    """An affine map of row vectors: x @ weight + bias.

    Attributes:
        weight: float32[inputs, outputs].
        bias: float32[outputs].
    """

    weight: Float32
    bias: Float32


@dataclass(frozen=True)
class LayeredTransform:
    """Applies a chain of affine layers, with an activation between them.

    Attributes:
        layers: one or more, each of the size that the one before returns.
        activation: between two layers.
        residual: whether the result is added to the vector, which needs equal lengths.
        about: what it was made for, as text: read it with `about_of`.
    """

    layers: tuple[Layer, ...]
    activation: Activation = "none"
    residual: bool = False
    about: str = "{}"

    def __post_init__(self) -> None:
        for before, after in zip(self.layers, self.layers[1:], strict=False):
            if before.weight.shape[1] != after.weight.shape[0]:
                raise ValueError(f"layers of {before.weight.shape} and {after.weight.shape} do not fit")
        if not self.layers or (self.residual and self.input_dim != self.output_dim):
            raise ValueError("a transform has layers, and a residual needs equal lengths of input and output")

    @property
    def input_dim(self) -> int:
        """Returns the length of the vectors that it takes."""
        return int(self.layers[0].weight.shape[0])

    @property
    def output_dim(self) -> int:
        """Returns the length of the vectors that it returns."""
        return int(self.layers[-1].weight.shape[1])

    @cached_property
    def fingerprint(self) -> str:
        """Returns 16 hexadecimal digits of its numbers and its form; what it was made for does not count."""
        digest = hashlib.blake2b(f"{SCHEMA} {self.activation} {self.residual}".encode(), digest_size=8)
        for layer in self.layers:
            digest.update(repr(layer.weight.shape).encode())
            digest.update(np.ascontiguousarray(layer.weight, dtype="<f4").tobytes())
            digest.update(np.ascontiguousarray(layer.bias, dtype="<f4").tobytes())
        return digest.hexdigest()

    def apply(self, vectors: Float32) -> Float32:
        """Converts float32[n, input_dim] to float32[n, output_dim], L2-normalised. See `Transform.apply`.

        Rows to which a residual adds nothing are returned as they are, to the bit. A row that has no direction left
        is returned as it is if lengths are equal, else as zeros.

        Raises:
            ValueError: the vectors have another length.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self.input_dim:
            raise ValueError(f"the transform takes vectors of {self.input_dim} dimensions, not {vectors.shape}")
        mapped = vectors
        for number, layer in enumerate(self.layers):
            if number and self.activation == "relu":
                mapped = np.maximum(mapped, 0.0)
            mapped = mapped @ layer.weight + layer.bias
        unchanged: npt.NDArray[np.bool_] = np.zeros(len(vectors), dtype=np.bool_)
        if self.residual:
            unchanged = np.asarray(~mapped.any(axis=1), dtype=np.bool_)
            mapped = vectors + mapped
        norms = np.linalg.norm(mapped, axis=1, keepdims=True)
        unchanged = np.logical_or(unchanged, norms[:, 0] < _LEAST_NORM)
        result = np.asarray(mapped / np.maximum(norms, _LEAST_NORM), dtype=np.float32)
        if unchanged.any():
            result[unchanged] = vectors[unchanged] if self.input_dim == self.output_dim else 0.0
        return result


def linear_transform(matrix: Float32, bias: Float32 | None = None) -> LayeredTransform:
    """Returns the transform of one matrix, float32[inputs, outputs]. A square one is kept as its difference to I."""
    inputs, outputs = matrix.shape
    offset = np.zeros(outputs, dtype=np.float32) if bias is None else np.asarray(bias, dtype=np.float32)
    residual = inputs == outputs
    weight = matrix - np.eye(inputs, dtype=np.float32) if residual else matrix
    return LayeredTransform((Layer(np.asarray(weight, dtype=np.float32), offset),), residual=residual)


def described(transform: LayeredTransform, about: Mapping[str, object]) -> LayeredTransform:
    """Returns the transform with what it was made for, which its file keeps."""
    return replace(transform, about=json.dumps(about, sort_keys=True))


def about_of(transform: LayeredTransform) -> Mapping[str, object]:
    """Returns what a transform was made for."""
    about: Mapping[str, object] = json.loads(transform.about)
    return about


def with_transform(fingerprint: Fingerprint, transform: Transform) -> Fingerprint:
    """Returns the fingerprint of vectors that a transform made of those of an encoder: it names both."""
    return Fingerprint(f"{fingerprint.model}+{transform.fingerprint}", fingerprint.weights, fingerprint.preprocessing)


def save_transform(transform: LayeredTransform, file: Path) -> None:
    """Writes a transform so that other processes see the whole file or none."""
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f".{file.name}.part")
    unfinished.write_bytes(to_bytes(transform))
    unfinished.replace(file)


def load_transform(file: Path) -> LayeredTransform:
    """Reads a transform.

    Raises:
        ConfigError: there is no such file, it is damaged, or of a newer Penstock.
    """
    try:
        data = file.read_bytes()
    except OSError as exc:
        raise ConfigError(f"the transform {file} cannot be read: {exc.strerror}") from exc
    return from_bytes(data, str(file))


def to_bytes(transform: LayeredTransform) -> bytes:
    """Returns the content of a transform's file."""
    from safetensors.numpy import save

    tensors = {}
    for number, layer in enumerate(transform.layers):
        tensors[f"weight{number}"] = np.ascontiguousarray(layer.weight, dtype=np.float32)
        tensors[f"bias{number}"] = np.ascontiguousarray(layer.bias, dtype=np.float32)
    shape = {"layers": len(transform.layers), "activation": transform.activation, "residual": transform.residual}
    header = {_SCHEMA_KEY: str(SCHEMA), _SHAPE_KEY: json.dumps(shape), _ABOUT_KEY: transform.about}
    data: bytes = save(tensors, metadata=header)
    return data


def from_bytes(data: bytes, name: str) -> LayeredTransform:
    """Returns the transform of a file's content.

    Args:
        data: the content.
        name: of the file, for messages.

    Raises:
        ConfigError: it is damaged, or of a newer Penstock.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        header = _header(data)
        schema = int(header[_SCHEMA_KEY])
        if schema > SCHEMA:
            raise ConfigError(f"the transform {name} has schema {schema}, and this Penstock reads {SCHEMA}: update it")
        shape = json.loads(header[_SHAPE_KEY])
        tensors = load(data)
        layers = tuple(
            Layer(_finite(tensors[f"weight{number}"]), _finite(tensors[f"bias{number}"]))
            for number in range(int(shape["layers"]))
        )
        json.loads(header[_ABOUT_KEY])
        return LayeredTransform(layers, _activation(shape["activation"]), bool(shape["residual"]), header[_ABOUT_KEY])
    except (SafetensorError, KeyError, ValueError, TypeError, IndexError) as exc:
        raise ConfigError(f"the transform {name} is damaged ({exc}); make it again") from exc


def _header(data: bytes) -> Mapping[str, str]:
    """Returns the text of a safetensors file's header: 8 bytes of its length come first."""
    length = int.from_bytes(data[:8], "little")
    if not 0 < length <= len(data) - 8:
        raise ValueError("it has no header")
    document = json.loads(data[8 : 8 + length])
    header: Mapping[str, str] = document["__metadata__"]
    return header


def _finite(array: Float32) -> Float32:
    if not np.isfinite(array).all():
        raise ValueError("it has numbers that are not finite")
    return np.asarray(array, dtype=np.float32)


def _activation(name: object) -> Activation:
    activations: Sequence[Activation] = ("none", "relu")
    for activation in activations:
        if name == activation:
            return activation
    raise ValueError(f"activation {name!r} is not known")
