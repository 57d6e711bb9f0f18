"""Models for these tests: an image tower in the format that training writes, with random weights."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from penstock.encoders.base import ImageSpec, Space
from penstock.encoders.profiles import ClipSpec
from penstock.encoders.reference.image_model import CHECKPOINT_NAME
from penstock.encoders.weights import FolderWeights
from penstock.records import EncoderInput, UInt8
from penstock.samples import compose, load_concepts

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def tower_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `tools.reference_models.train_images` leaves it, its weights untrained."""
    import open_clip
    import torch

    from tools.reference_models.train_images import write_checkpoint, write_config

    folder = tmp_path_factory.mktemp("tower")
    write_config(folder)
    torch.manual_seed(0)
    write_checkpoint(open_clip.create_model(f"local-dir:{folder}", load_weights=False), folder)
    return folder


@pytest.fixture(scope="session")
def tower(tower_folder: Path) -> ClipSpec:
    half, quarter = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    spec = ImageSpec(64, "shortest", "bicubic", 0, half, quarter)
    return ClipSpec("tower", "untrained", FolderWeights(tower_folder, CHECKPOINT_NAME), Space("tower", 384), spec)


@pytest.fixture(scope="session")
def photographs() -> list[bytes]:
    """JPEG and PNG files, wide, tall and square, of images that differ."""
    sizes = [(320, 240), (200, 300), (224, 224), (640, 480), (97, 61), (1600, 1200)]
    files = []
    for seed, (concept, size) in enumerate(zip(load_concepts()[::100], sizes, strict=False)):
        file = io.BytesIO()
        compose(concept, seed, 512).resize(size).save(file, "PNG" if seed % 2 else "JPEG", quality=92)
        files.append(file.getvalue())
    return files


@pytest.fixture
def run_python() -> Run:
    """Runs Python code in a process of its own, with a cleared hub cache: `run_python(code, HF_HOME=…)`."""

    def run(code: str, **env: str) -> subprocess.CompletedProcess[str]:
        merged: Mapping[str, str] = {**os.environ, **env}
        return subprocess.run(
            [sys.executable, "-c", code], env=merged, capture_output=True, text=True, timeout=120, check=False
        )

    return run


def texts_input(*texts: str, encoder: str = "passage.text") -> EncoderInput:
    return EncoderInput(encoder, tuple(f"key of {text}" for text in texts), texts=texts)


def pixels_input(pixels: UInt8) -> EncoderInput:
    return EncoderInput("joint.image", tuple(f"key {row}" for row in range(len(pixels))), pixels=pixels)


def random_pixels(count: int, size_px: int, seed: int = 0) -> UInt8:
    return np.random.default_rng(seed).integers(0, 256, (count, size_px, size_px, 3), dtype=np.uint8)


def opened(file: bytes) -> Image.Image:
    return Image.open(io.BytesIO(file))
