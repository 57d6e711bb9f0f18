"""Reads and writes the two small files beside a classifier: the concept head, and the vectors of names. No torch.

Both hold 8-bit integers with one scale a row, and name in their metadata what they were made for, by its SHA-256.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from penstock.errors import ConfigError
from penstock.records import Float32

Int8 = npt.NDArray[np.int8]

_Tensors: TypeAlias = Mapping[str, Int8 | Float32]

_MAX_INT8 = 127


@dataclass(frozen=True, slots=True)
class Rows:
    """A matrix in 8-bit integers.

    Attributes:
        values: int8[rows, columns].
        scales: float32[rows]; a row is its values times its scale.
    """

    values: Int8
    scales: Float32

    @classmethod
    def quantised(cls, matrix: Float32) -> Rows:
        """Rounds float32[rows, columns] to 8 bits, each row to its largest value."""
        scales = np.maximum(np.abs(matrix).max(axis=1), 1e-12) / _MAX_INT8
        return cls(np.rint(matrix / scales[:, None]).astype(np.int8), scales.astype(np.float32))

    @property
    def matrix(self) -> Float32:
        """Returns float32[rows, columns]."""
        matrix: Float32 = self.values.astype(np.float32) * self.scales[:, None]
        return matrix


@dataclass(frozen=True, slots=True)
class ConceptHead:
    """A linear layer from the features of a classifier to logits of concepts.

    Attributes:
        weight: [concepts, features].
        bias: float32[concepts].
        made_for: SHA-256 of the classifier's weights.
    """

    weight: Rows
    bias: Float32
    made_for: str

    @classmethod
    def quantised(cls, weight: Float32, bias: Float32, made_for: str) -> ConceptHead:
        """Rounds a layer's weight to 8 bits."""
        return cls(Rows.quantised(weight), bias, made_for)


@dataclass(frozen=True, slots=True)
class NameVectors:
    """The vectors of class names and of concepts in the space of one sentence encoder, centred.

    Attributes:
        classes: [classes, dim].
        concepts: [concepts, dim].
        made_for: SHA-256 of the sentence encoder's weights, its first 16 digits.
        model: the sentence encoder's name.
    """

    classes: Rows
    concepts: Rows
    made_for: str
    model: str


def write_concept_head(file: Path, head: ConceptHead) -> None:
    """Writes a concept head."""
    tensors: _Tensors = {"weight": head.weight.values, "weight_scales": head.weight.scales, "bias": head.bias}
    _write(file, tensors, {"made_for": head.made_for})


def write_name_vectors(file: Path, vectors: NameVectors) -> None:
    """Writes vectors of names."""
    tensors: _Tensors = {
        "classes": vectors.classes.values,
        "classes_scales": vectors.classes.scales,
        "concepts": vectors.concepts.values,
        "concepts_scales": vectors.concepts.scales,
    }
    _write(file, tensors, {"made_for": vectors.made_for, "model": vectors.model})


def read_concept_head(file: Path) -> ConceptHead:
    """Reads a concept head. Raises ConfigError if the file is missing or holds something else."""
    tensors, metadata = _read(file, ("weight", "weight_scales", "bias"), ("made_for",))
    weight = Rows(tensors["weight"], tensors["weight_scales"])
    return ConceptHead(weight, tensors["bias"], metadata["made_for"])


def read_name_vectors(file: Path) -> NameVectors:
    """Reads vectors of names. Raises ConfigError if the file is missing or holds something else."""
    names = ("classes", "classes_scales", "concepts", "concepts_scales")
    tensors, metadata = _read(file, names, ("made_for", "model"))
    classes = Rows(tensors["classes"], tensors["classes_scales"])
    concepts = Rows(tensors["concepts"], tensors["concepts_scales"])
    return NameVectors(classes, concepts, metadata["made_for"], metadata["model"])


def _write(file: Path, tensors: _Tensors, metadata: dict[str, str]) -> None:
    from safetensors.numpy import save_file

    save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, file, metadata)


def _read(file: Path, tensors: tuple[str, ...], metadata: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as opened:
            stored = opened.metadata() or {}
            return {name: opened.get_tensor(name) for name in tensors}, {name: stored[name] for name in metadata}
    except (OSError, SafetensorError, KeyError) as exc:
        raise ConfigError(f"{file} cannot be read ({exc}); this installation is incomplete, reinstall it") from exc
