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
        tokenizer_repo: repository of the hub that has its tokenizer; None for CLIP's own, which is part of open_clip.
    """

    dim: int
    size_px: int | None
    tokenizer_repo: str | None = None


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
    tokenizer_repo = config.get("text_cfg", {}).get("hf_tokenizer_name")
    return Architecture(int(config["embed_dim"]), size_px if isinstance(size_px, int) else None, tokenizer_repo)
