"""Generates the images of the benchmarks from the project's own renderings, the same on every machine.

Each carries a mark of its own, so that no two are the same bytes: nothing is spared by a cache of vectors or of
media, and the pixels are those of a few hundred images that cost little to make.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache

import numpy as np
from PIL import Image

from penstock.samples.images import compose, load_concepts

WIDTH, HEIGHT = 640, 480
_QUALITY = 85
_SEED = 20_24
_SIGMA = 6.0  # of the sensor's noise, in grey values: 640 × 480 come to some 60 kB, as from a camera
_START, _COMMENT = b"\xff\xd8", b"\xff\xfe"


class SyntheticImages:
    """JPEGs of 640 × 480 pixels, 60 kB or so.

    Args:
        count: the number of different images; after that they repeat, with other comments.
    """

    def __init__(self, count: int = 64) -> None:
        self._bases = [_camera_jpeg(number) for number in range(count)]

    def image(self, number: int) -> bytes:
        """Returns the image of a number; no two numbers give the same bytes."""
        return commented(self._bases[number % len(self._bases)], f"penstock bench {number}".encode())

    def images(self, start: int, count: int) -> Sequence[bytes]:
        return [self.image(number) for number in range(start, start + count)]


def small_image(number: int, size_bytes: int) -> bytes:
    """A BMP of 16 × 16 pixels, the format that is opened soonest, filled up behind its pixels to exactly `size_bytes`;
    no two numbers give the same bytes.

    Raises:
        ValueError: no such BMP is so small.
    """
    base, mark = _tiny_bmp(), f"{number:016d}".encode()
    room = size_bytes - len(base) - len(mark)
    if room < 0:
        raise ValueError(f"an image has at least {len(base) + len(mark)} bytes, not {size_bytes}")
    return base + mark + b"." * room


def commented(jpeg: bytes, text: bytes) -> bytes:
    """The same JPEG with a comment: other bytes, the same pixels."""
    return _START + _segment(text) + jpeg[len(_START) :]


def _segment(text: bytes) -> bytes:
    return _COMMENT + (len(text) + 2).to_bytes(2, "big") + text


@cache
def _tiny_bmp() -> bytes:
    target = io.BytesIO()
    compose(load_concepts()[0], seed=_SEED, size_px=64).resize((16, 16)).save(target, "BMP")
    return target.getvalue()


def _camera_jpeg(number: int) -> bytes:
    concepts = load_concepts()
    picture = compose(concepts[number % len(concepts)], seed=_SEED + number, size_px=HEIGHT)
    wide = np.asarray(picture.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), np.float32)
    noise = np.random.default_rng([_SEED, number]).normal(0.0, _SIGMA, wide.shape).astype(np.float32)
    return _jpeg(Image.fromarray(np.clip(wide + noise, 0, 255).astype(np.uint8)), quality=_QUALITY)


def _jpeg(picture: Image.Image, *, quality: int) -> bytes:
    target = io.BytesIO()
    picture.save(target, "JPEG", quality=quality)
    return target.getvalue()
