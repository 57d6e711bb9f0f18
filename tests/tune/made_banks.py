"""Makes banks of vectors whose questions in words lie elsewhere than the images that they search."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from penstock.records import Float32
from penstock.tune.directions import Bank, Direction, hold_out

DIM = 32


def made_bank(count: int = 900, *, channel: str = "image.joint", seed: int = 2) -> Bank:
    """Returns images in clusters; questions are images of the same clusters, and words that lie beside them."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(12, DIM))
    images = unit(centres[rng.integers(0, 12, count)] + 0.6 * rng.normal(size=(count, DIM)))
    held_out, searched = hold_out(images, 60, seed=seed)
    words = unit(
        images[rng.integers(0, count, 60)] + 1.2 * unit(rng.normal(size=(1, DIM))) + 0.3 * rng.normal(size=(60, DIM))
    )
    return Bank(channel, searched, [Direction(f"words → {channel}", words), Direction(f"images → {channel}", held_out)])


def unit(vectors: npt.NDArray[np.floating[Any]]) -> Float32:
    """Returns float32 vectors of length 1."""
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)
