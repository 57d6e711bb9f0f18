"""Pixels of any mode as RGB."""

from __future__ import annotations

import io
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from penstock.media.pixels import as_rgb

RAMP = np.linspace(0, 65_535, 64 * 48).reshape(48, 64).astype(np.uint16)


def tiff(samples: np.ndarray, *, white_is_zero: bool) -> Image.Image:
    out = io.BytesIO()
    Image.fromarray(samples).save(out, "TIFF", tiffinfo={262: 0 if white_is_zero else 1})
    return Image.open(io.BytesIO(out.getvalue()), formats=("TIFF",))


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_a_tiff_that_counts_from_white_is_no_negative(dtype: type[np.generic]) -> None:
    samples = RAMP.astype(dtype)
    plain = np.asarray(as_rgb(tiff(samples, white_is_zero=False))).astype(int)
    turned = np.asarray(as_rgb(tiff(samples, white_is_zero=True))).astype(int)
    assert plain[0, 0, 0] == 0
    assert np.abs(plain + turned - 255).max() <= 1


@pytest.mark.parametrize("transparent", [0, 1_234, 65_535])
def test_the_transparent_grey_of_16_bits_is_white(transparent: int) -> None:
    samples = np.full((8, 8), 20_000, dtype=np.uint16)
    samples[:4] = transparent
    image = Image.fromarray(samples)
    image.info["transparency"] = transparent
    pixels = np.asarray(as_rgb(image))
    assert (pixels[:4] == 255).all()
    assert (pixels[4:] == 20_000 >> 8).all()


def test_the_transparent_colour_of_16_bits_is_white() -> None:
    pixels = np.full((8, 8, 3), (10, 20, 30), dtype=np.uint8)
    pixels[:4] = (200, 100, 50)
    image = Image.fromarray(pixels)
    image.info["transparency"] = (200 << 8 | 17, 100 << 8, 50 << 8 | 255)
    converted = np.asarray(as_rgb(image))
    assert (converted[:4] == 255).all()
    assert (converted[4:] == (10, 20, 30)).all()


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_deep_samples_need_no_copy_of_the_image_at_full_depth(dtype: type[np.generic]) -> None:
    """The result has one byte a pixel and then three; a copy as float64 would have eight more."""
    image = Image.fromarray(np.zeros((4_000, 4_000), dtype=dtype))
    tracemalloc.start()
    as_rgb(image)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    source_bytes = 16_000_000 * np.dtype(dtype).itemsize
    assert peak < source_bytes * 2 + 16_000_000 + 40 * 2**20  # numpy's view of Pillow's image is a copy by itself
