"""A model of entailment, which reads a passage and a sentence together, run by sentence-transformers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from penstock.encoders.weights import FolderWeights, HubWeights, locate
from penstock.errors import ConfigError

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

_WEIGHTS = ("model.safetensors",)
_FILES = ("*.json", "*.txt", "*.model")


@dataclass(frozen=True, slots=True)
class Entailment:
    """Probabilities, 0 to 1, that a passage entails a sentence, and that it contradicts it."""

    entails: float
    contradicts: float


class EntailmentModel:
    """Judges whether a passage entails a sentence. Not thread-safe.

    Args:
        name: a folder on this machine, or a repository of the Hugging Face hub.
        device: `cpu` or `cuda`.

    Raises:
        ConfigError, UnavailableError: the weights are not available, or the labels are not those of entailment.
    """

    def __init__(self, name: str, device: str = "cpu") -> None:
        self._model = _load(name, device)
        labels: Mapping[int, str] = self._model.model.config.id2label
        self._entails = _label(labels, "entail", name)
        self._contradicts = _label(labels, "contradict", name)

    def judge(self, passage: str, sentence: str) -> Entailment:
        """Returns what a passage says about a sentence."""
        logits = np.asarray(self._model.predict([(passage, sentence)], show_progress_bar=False), np.float64)[0]
        shares = np.exp(logits - logits.max())
        shares /= shares.sum()
        return Entailment(float(shares[self._entails]), float(shares[self._contradicts]))


def _load(name: str, device: str) -> CrossEncoder:
    folder = Path(name).expanduser()
    source = FolderWeights(folder, _WEIGHTS[0]) if folder.is_dir() else HubWeights(name, _WEIGHTS, patterns=_FILES)
    located = locate(source, name)

    from sentence_transformers import CrossEncoder

    from penstock.encoders.torch_errors import load_error

    try:
        return CrossEncoder(str(located.folder), device=device, local_files_only=True)
    except Exception as exc:  # a damaged file makes each format's reader raise errors of its own
        raise load_error(exc, name) from exc


def _label(labels: Mapping[int, str], beginning: str, name: str) -> int:
    """Returns the output of the label that begins so."""
    for number, label in labels.items():
        if label.lower().startswith(beginning) and len(labels) > 1:
            return int(number)
    raise ConfigError(
        f"generate.verifier: {name} has the labels {', '.join(labels.values())}, and none is {beginning}…; "
        "take a model of natural language inference"
    )
