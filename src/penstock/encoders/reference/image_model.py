"""Paths of the image tower of the `reference` profile: a folder that open_clip loads by itself.

    open_clip.create_model_and_transforms(tower_name())

Only paths here, so that importing this needs no torch.
"""

from __future__ import annotations

from pathlib import Path

TOWER_DIR = Path(__file__).with_name("image")
# The names that open_clip looks for in a `local-dir:`.
CONFIG_NAME = "open_clip_config.json"
CHECKPOINT_NAME = "open_clip_model.safetensors"


def tower_name() -> str:
    """Returns the model name by which open_clip builds the tower from its config and checkpoint, offline."""
    return f"local-dir:{TOWER_DIR}"
