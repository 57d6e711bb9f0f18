"""Sample images: a rendering of an everyday concept, put on a background that training never saw.

The renderings ship as one zip (see RENDERINGS.md for the font and its licence). Training puts them on plain,
gradient, blotchy, broken and noisy backgrounds. `compose` uses checks, stripes, rings, dots and plasma, none of the
former, so that figures measured on its images do not reflect memorised backgrounds.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

ARCHIVE_PATH = Path(__file__).with_name("renderings.zip")
CONCEPTS_ENTRY = "concepts.json"
# The font's strike is 136 × 128 pixels: a larger rendering would invent detail, a smaller one lose it.
RENDERING_PX = 128

# Share of the image's side that the concept takes, and its rotation: large and upright, as in a product photo.
SCALE_RANGE = (0.6, 0.92)
ROTATION_DEGREES = 12.0

Pixels = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Concept:
    """An everyday concept: `name` and `keywords` are CLDR's English annotations of one code point."""

    id: str
    name: str
    keywords: tuple[str, ...]
    codepoint: str

    @property
    def description(self) -> str:
        """Returns name and keywords, joined by commas: the text whose vector the image tower learns to match."""
        return ", ".join((self.name, *self.keywords))


@cache
def load_concepts() -> tuple[Concept, ...]:
    """Returns every shipped concept, in the order of their ids."""
    with zipfile.ZipFile(ARCHIVE_PATH) as archive:
        rows = json.loads(archive.read(CONCEPTS_ENTRY))
    return tuple(Concept(row["id"], row["name"], tuple(row["keywords"]), row["codepoint"]) for row in rows)


@cache
def _encoded_renderings() -> dict[str, bytes]:
    """Returns every WebP of the archive by concept id, about 3 MB; each is decoded when it is used."""
    with zipfile.ZipFile(ARCHIVE_PATH) as archive:
        return {concept.id: archive.read(f"{concept.id}.webp") for concept in load_concepts()}


def load_rendering(concept: Concept) -> Image.Image:
    """Returns the concept's image: RGBA, RENDERING_PX square, transparent around the concept."""
    with Image.open(io.BytesIO(_encoded_renderings()[concept.id])) as rendering:
        return rendering.convert("RGBA")


def compose(concept: Concept, seed: int, size_px: int = 224) -> Image.Image:
    """Returns an RGB image, size_px square, of the concept on a background that training never saw.

    The same concept, seed and size give the same pixels. Position, size and a slight rotation are random too.
    """
    random = np.random.default_rng([seed, int(concept.codepoint[2:], 16)])
    background = _background(random, size_px)
    side = round(size_px * random.uniform(*SCALE_RANGE))
    rendering = load_rendering(concept).resize((side, side), Image.Resampling.BICUBIC)
    rotated = rendering.rotate(
        random.uniform(-ROTATION_DEGREES, ROTATION_DEGREES), resample=Image.Resampling.BICUBIC, expand=False
    )
    left, top = (int(offset) for offset in random.integers(0, size_px - side + 1, size=2))
    background.paste(rotated, (left, top), rotated)
    return background


def _background(random: np.random.Generator, size_px: int) -> Image.Image:
    """Draws one of the held-out families between two random colours: RGB, size_px square."""
    family = _FAMILIES[int(random.integers(len(_FAMILIES)))]
    axis = np.linspace(0.0, 1.0, size_px, dtype=np.float32)
    mask = np.clip(family(random, axis[None, :], axis[:, None]), 0.0, 1.0)[..., None]
    first, second = random.uniform(0, 255, size=(2, 3)).astype(np.float32)
    pixels = first * (1.0 - mask) + second * mask
    return Image.fromarray(pixels.astype(np.uint8), "RGB")


def _rotated(random: np.random.Generator, x: Pixels, y: Pixels) -> tuple[Pixels, Pixels]:
    """Rotates and shifts the plane at random. x: float32[1, size], y: float32[size, 1] → two float32[size, size]."""
    angle = random.uniform(0, math.pi)
    u = x * math.cos(angle) + y * math.sin(angle) + random.uniform(0, 1)
    v = y * math.cos(angle) - x * math.sin(angle) + random.uniform(0, 1)
    return np.asarray(u, np.float32), np.asarray(v, np.float32)


# Each family returns float32[size, size], 0 for the first colour and 1 for the second.


def _checks(random: np.random.Generator, x: Pixels, y: Pixels) -> Pixels:
    u, v = _rotated(random, x, y)
    cells = random.uniform(3, 8)
    return np.asarray((np.floor(u * cells) + np.floor(v * cells)) % 2, np.float32)


def _stripes(random: np.random.Generator, x: Pixels, y: Pixels) -> Pixels:
    u, _ = _rotated(random, x, y)
    return np.asarray((u * random.uniform(3, 9)) % 1.0 < random.uniform(0.3, 0.7), np.float32)


def _rings(random: np.random.Generator, x: Pixels, y: Pixels) -> Pixels:
    radius = np.hypot(x - random.uniform(0, 1), y - random.uniform(0, 1))
    return np.asarray((radius * random.uniform(3, 9)) % 1.0 < random.uniform(0.3, 0.7), np.float32)


def _dots(random: np.random.Generator, x: Pixels, y: Pixels) -> Pixels:
    u, v = _rotated(random, x, y)
    cells = random.uniform(4, 9)
    distance = np.hypot((u * cells) % 1.0 - 0.5, (v * cells) % 1.0 - 0.5)
    return np.asarray(distance < random.uniform(0.2, 0.4), np.float32)


def _plasma(random: np.random.Generator, x: Pixels, y: Pixels) -> Pixels:
    u, v = _rotated(random, x, y)
    a, b, c = random.uniform(4, 14, size=3)
    waves = np.sin(u * a) + np.sin(v * b + np.sin(u * c))
    return np.asarray(0.5 + 0.25 * waves, np.float32)


_FAMILIES: tuple[Callable[[np.random.Generator, Pixels, Pixels], Pixels], ...] = (
    _checks,
    _stripes,
    _rings,
    _dots,
    _plasma,
)
