"""Reads open_clip's own files of architectures, without importing open_clip and thereby torch."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Architecture:
    """The properties of an architecture that a profile needs.

    Attributes:
        dim: length of its vectors.
        size_px: height and width of its images; None where they differ.
    """

    dim: int
    size_px: int | None


def architecture(name: str) -> Architecture:
    """Returns an architecture of the installed open_clip.

    Raises:
        ValueError: there is none of that name; the message gives examples.
    """
    package = importlib.util.find_spec("open_clip")
    assert package is not None
    assert package.origin is not None
    folder = Path(package.origin).with_name("model_configs")
    known = {file.stem: file for file in folder.glob("*.json")}
    if name not in known:
        examples = ", ".join(sorted(stem for stem in known if stem.startswith("ViT-"))[:8])
        raise ValueError(f"open_clip has no architecture {name!r}; it has {len(known)}, such as {examples}")
    config = json.loads(known[name].read_text(encoding="utf-8"))
    size_px = config["vision_cfg"]["image_size"]
    return Architecture(int(config["embed_dim"]), size_px if isinstance(size_px, int) else None)
