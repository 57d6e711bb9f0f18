"""Converts pixels of any mode to RGB: what is transparent becomes white, deeper samples are scaled by their range."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from PIL import Image
from PIL.TiffTags import TAGS_V2

from penstock.records import UInt8

_PHOTOMETRIC_TAG = next(tag for tag, info in TAGS_V2.items() if info.name == "PhotometricInterpretation")
_WHITE_IS_ZERO = 0
_BAND_PIXELS = 1 << 20  # of deeper samples, which are converted band by band, so that no copy is of the whole image
_DEEP = ("I", "F")  # how the names of Pillow's modes with samples of 16 or 32 bits begin


def as_rgb(image: Image.Image) -> Image.Image:
    """Returns the image in RGB. What is transparent becomes white."""
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode.startswith(_DEEP):
        return _deep_as_rgb(image)
    if image.has_transparency_data or image.mode in ("RGBa", "La"):
        _shorten_transparent_colour(image)
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        white.alpha_composite(image)
        return white.convert("RGB")
    return image.convert("RGB")


def _shorten_transparent_colour(image: Image.Image) -> None:
    """Gives the colour that means "transparent" 8 bits, as Pillow gives the samples of a PNG of 16 bits."""
    colour = image.info.get("transparency")
    if isinstance(colour, tuple) and max(colour) > 255:
        image.info["transparency"] = tuple(sample >> 8 for sample in colour)


def _deep_as_rgb(image: Image.Image) -> Image.Image:
    transparent = image.info.get("transparency")
    grey = _as_grey(image)
    if isinstance(transparent, int):
        grey[np.asarray(image) == transparent] = 255
    return Image.fromarray(grey).convert("RGB")


def _as_grey(image: Image.Image) -> UInt8:
    """Converts deeper grey to 8 bits. Pillow's own conversion would clip all above 255 to white.

    16-bit samples lose their lower byte. 32-bit integers and floats are scaled from their minimum to their maximum,
    unless they fit 16 bits, 8 bits or 0…1 as they are. What is no number counts as 0.

    Returns:
        uint8[height, width].
    """
    samples = np.asarray(image)
    grey = np.empty(samples.shape, dtype=np.uint8)
    if image.mode.startswith("I;16"):
        for rows in _bands(samples.shape):
            grey[rows] = samples[rows] >> 8
    else:
        offset, factor = _scale(image, samples)
        for rows in _bands(samples.shape):
            values = np.nan_to_num(samples[rows].astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
            grey[rows] = np.rint(np.clip((values - offset) * factor, 0, 255))
    if _is_white_zero(image):
        np.subtract(255, grey, out=grey)
    return grey


def _scale(image: Image.Image, samples: np.ndarray) -> tuple[float, float]:
    """Returns what to subtract from samples of 32 bits, and by what to multiply them then."""
    low, high = 0.0, 0.0
    for number, rows in enumerate(_bands(samples.shape)):
        values = np.nan_to_num(samples[rows].astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
        least, most = float(values.min()), float(values.max())
        low, high = (least, most) if number == 0 else (min(low, least), max(high, most))
    if image.mode == "I" and low >= 0 and 255 < high <= 65_535:
        return 0.0, 1 / 256
    if image.mode == "F" and low >= 0 and high <= 1:
        return 0.0, 255.0
    if low < 0 or high > 255:
        return low, 255 / (high - low)
    return 0.0, 1.0


def _bands(shape: tuple[int, ...]) -> Iterator[slice]:
    rows = max(1, _BAND_PIXELS // max(1, shape[1]))
    return (slice(start, start + rows) for start in range(0, shape[0], rows))


def _is_white_zero(image: Image.Image) -> bool:
    """Returns whether a TIFF counts from white to black. Pillow turns samples of up to 8 bits round itself."""
    tags = getattr(image, "tag_v2", None)
    return tags is not None and tags.get(_PHOTOMETRIC_TAG) == _WHITE_IS_ZERO
