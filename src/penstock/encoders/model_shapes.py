"""Reads what the weights of the plain models do not show: numbers of layers and heads. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# What a configuration of open_clip may leave out.
_PREPROCESS_DEFAULTS: Mapping[str, object] = {
    "resize_mode": "shortest",
    "interpolation": "bicubic",
    "fill_color": 0,
}


@dataclass(frozen=True, slots=True)
class BertShape:
    """The numbers of a BERT that its weights do not show.

    Attributes:
        layers: of the encoder.
        heads: of each layer's attention.
        norm_epsilon: added to the variance in layer norms.
    """

    layers: int
    heads: int
    norm_epsilon: float


@dataclass(frozen=True, slots=True)
class TowerShape:
    """Describes the tower as open_clip's configuration does.

    Attributes:
        blocks: in each of the four layers.
        heads: of the attention pool.
        preprocess_cfg: of its images, as open_clip names the parts.
    """

    blocks: tuple[int, ...]
    heads: int
    preprocess_cfg: Mapping[str, object]


def read_bert_shape(folder: Path) -> BertShape:
    """Reads the configuration of a BERT. Raises OSError, ValueError or KeyError if it is none."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return BertShape(config["num_hidden_layers"], config["num_attention_heads"], config["layer_norm_eps"])


def read_tower_shape(path: Path) -> TowerShape | None:
    """Reads open_clip's configuration of a model; None if it describes no such tower."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        vision = config["model_cfg"]["vision_cfg"]
        if not isinstance(vision["layers"], list) or "timm_model_name" in vision:
            return None
        heads = vision["width"] * 32 // vision.get("head_width", 64)
        return TowerShape(tuple(vision["layers"]), heads, {**_PREPROCESS_DEFAULTS, **config.get("preprocess_cfg", {})})
    except (OSError, ValueError, KeyError, TypeError):
        return None
