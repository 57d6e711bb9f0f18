"""The tables `[ocr]`, `[caption]` and `[sound]` of a profile's file. docs/models.md describes their keys."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from penstock.encoders.base import Space
from penstock.encoders.profiles.media_spec import CaptionSpec, OcrSpec, SoundSpec
from penstock.encoders.profiles.weights_table import Name, TomlTable, Weights

_TRANSFORMERS_FILES = ("model.safetensors", "pytorch_model.bin")
_TRANSFORMERS_COMPANIONS = ("config.json", "preprocessor_config.json")
_TRANSFORMERS_PATTERNS = ("*.json", "*.txt", "*.model")


class OcrTable(TomlTable):
    """The models that read the words in images."""

    kind: Literal["pp_ocr"]
    model: Name
    detector: Weights
    recogniser: Weights

    @model_validator(mode="after")
    def _files_are_named(self) -> OcrTable:
        if self.detector.file is None or self.recogniser.file is None:
            raise ValueError("detector and recogniser each need the key file, the name of a file in ONNX format")
        return self

    def spec(self, base: Path) -> OcrSpec:
        """Returns the models."""
        return OcrSpec(self.model, self.detector.source(base, ()), self.recogniser.source(base, ()))


class CaptionTable(TomlTable):
    """The model that describes images."""

    model: Name
    weights: Weights
    max_tokens: Annotated[int, Field(ge=1, le=512)] = 30

    def spec(self, base: Path) -> CaptionSpec:
        """Returns the model."""
        source = self.weights.source(base, _TRANSFORMERS_FILES, _TRANSFORMERS_COMPANIONS, _TRANSFORMERS_PATTERNS)
        return CaptionSpec(self.model, source, self.max_tokens)


class SoundTable(TomlTable):
    """The model that encodes sounds, and texts about them."""

    model: Name
    weights: Weights
    dim: Annotated[int, Field(ge=1)]
    space: Name | None = None
    slug: Annotated[str, Field(pattern=r"^[a-z0-9]+(_[a-z0-9]+)*$", max_length=64)] | None = None
    window_ms: Annotated[int, Field(ge=1_000, le=10_000)] = 10_000
    hop_ms: Annotated[int, Field(ge=500)] = 10_000

    @model_validator(mode="after")
    def _no_gaps(self) -> SoundTable:
        if self.hop_ms > self.window_ms:
            raise ValueError("hop_ms is at most window_ms, so that no audio is left out")
        return self

    def spec(self, base: Path) -> SoundSpec:
        """Returns the model."""
        source = self.weights.source(base, _TRANSFORMERS_FILES, _TRANSFORMERS_COMPANIONS, _TRANSFORMERS_PATTERNS)
        name = self.space or self.model.rpartition("/")[2]
        slug = self.slug or re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
        return SoundSpec(self.model, source, Space(name, self.dim), slug, self.window_ms, self.hop_ms)
