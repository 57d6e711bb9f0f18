"""Step 3 of images: decodes bytes to RGB pixels of the encoder's size.

The result equals that of open_clip's own transform, with additions: EXIF orientation, alpha on white, deeper samples
(`media.pixels`), images with a fault outside of their pixels (`media.tolerance`), and limits that are checked before
anything is decoded.
"""

from __future__ import annotations

import io
import logging
import math
import re
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
from PIL import Image

from penstock.config import ImageSettings
from penstock.encoders.base import ImageSpec
from penstock.errors import BadInputError, Reason
from penstock.media.pixels import as_rgb
from penstock.media.tolerance import END_OF_IMAGE, MAX_MISSING, missing_share, pixel_chunks
from penstock.records import FetchedMedia, ImageRegion, UInt8

logger = logging.getLogger(__name__)

# `max_pixels` gives a readable rejection. Pillow's own limit, which covers nested headers too, is the second check.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

# Pillow's readers by detected type. No others run: some of Pillow's start other programs.
FORMATS: Mapping[str, tuple[str, ...]] = {
    "image/jpeg": ("JPEG", "MPO"),
    "image/png": ("PNG",),
    "image/gif": ("GIF",),
    "image/webp": ("WEBP",),
    "image/bmp": ("BMP",),
    "image/tiff": ("TIFF",),
    "image/avif": ("AVIF",),
    "image/jp2": ("JPEG2000",),
    "image/vnd.adobe.photoshop": ("PSD",),
    "image/qoi": ("QOI",),
    "image/vnd.ms-dds": ("DDS",),
    "image/x-icns": ("ICNS",),
    "image/x-icon": ("ICO", "CUR"),
    "image/sgi": ("SGI",),
    "image/x-sun-raster": ("SUN",),
    "image/x-xpixmap": ("XPM",),
    "image/x-pcx": ("PCX",),
    "image/x-portable-anymap": ("PPM",),
    "image/x-tga": ("TGA",),
}

_ORIENTATION_TAG = 0x0112
_ORIENTATIONS: Mapping[int, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_RESAMPLING: Mapping[str, Image.Resampling] = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
}
_DRAFT_MARGIN = 2  # a JPEG is decoded at the smallest of its scales that leaves this multiple of the target size
_EDGE = 1e-6  # pixels: 0.1 + 0.2 of a side of 10 must not reach into the fourth pixel
_ADDRESS = re.compile(r"<[\w.]+ object at 0x[0-9a-f]+>")
# Pillow keeps an address of 8 bytes for each row, and a turned image has as many rows as columns before: 1 × 25,000,000
# pixels of grey took 809 MB.
_MAX_SIDE_PX = 1_000_000
_MAX_RESIZE_RATIO = 16  # a longer strip is cropped before it is resized: 1 × 10,000 px would become 5·10⁸

# The exceptions of Pillow's readers on bytes that are not of their format.
_DECODER_ERRORS = (OSError, SyntaxError, ValueError, struct.error, zlib.error, EOFError, IndexError, KeyError,
                   TypeError, OverflowError, NotImplementedError)  # fmt: skip


def decode_image(
    fetched: FetchedMedia, *, spec: ImageSpec, settings: ImageSettings, region: ImageRegion | None = None
) -> UInt8:
    """Decodes the first frame of an image, or a region of it, and resizes it to the encoder's size.

    Returns:
        uint8[size_px, size_px, 3], RGB.

    Raises:
        BadInputError: as `decode_image_at_sizes`.
    """
    return decode_image_at_sizes(fetched, spec=spec, settings=settings, region=region)[0]


def decode_image_at_sizes(
    fetched: FetchedMedia,
    *,
    spec: ImageSpec,
    settings: ImageSettings,
    longest_px: Sequence[int] = (),
    region: ImageRegion | None = None,
) -> tuple[UInt8, list[UInt8]]:
    """Decodes the first frame of an image once, for the encoder and for models that take whole images.

    Args:
        fetched: the media.
        spec: the encoder's size and preprocessing.
        settings: limits.
        longest_px: the longer side of each further result, pixels; a smaller image stays as it is.
        region: of the upright image, which is cropped to it first; None: all of it.

    Returns:
        uint8[size_px, size_px, 3], and uint8[height, width, 3] for each of `longest_px`; all RGB.

    Raises:
        BadInputError: TOO_LARGE by the size in its header, CORRUPT, or UNSUPPORTED.
    """
    with _translated(fetched.mime):
        side = max(_DRAFT_MARGIN * spec.size_px, *longest_px, 0)
        if region is None:
            upright = _upright(fetched, settings, side)
        else:
            whole = _upright(fetched, settings, math.ceil(side / min(region.width, region.height)))
            upright = crop_region(whole, region)
        return fit_image(upright, spec), [reduce_to(upright, side) for side in longest_px]


def decode_reduced_image(fetched: FetchedMedia, *, settings: ImageSettings, longest_px: int) -> UInt8:
    """Decodes the first frame of an image to be shown: upright, its longer side at most `longest_px`.

    Returns:
        uint8[height, width, 3], RGB.

    Raises:
        BadInputError: as `decode_image_at_sizes`.
    """
    with _translated(fetched.mime):
        return reduce_to(_upright(fetched, settings, longest_px), longest_px)


@contextmanager
def _translated(mime: str) -> Iterator[None]:
    """Translates the errors of decoders, and refuses a type that has none."""
    if mime not in FORMATS:
        raise BadInputError(Reason.UNSUPPORTED, f"no decoder for {mime}; send JPEG, PNG, WebP, AVIF, GIF or TIFF")
    try:
        yield
    except Image.DecompressionBombError as exc:
        raise BadInputError(Reason.TOO_LARGE, f"a decompression bomb: {exc}") from exc
    except _DECODER_ERRORS as exc:
        detail = f"{mime} does not decode: {type(exc).__name__}: {_without_address(exc)}"
        raise BadInputError(Reason.CORRUPT, detail) from exc


def crop_region(image: Image.Image, region: ImageRegion) -> Image.Image:
    """Crops an upright image to the pixels that a region touches, at least one."""
    left, top = math.floor(region.x * image.width), math.floor(region.y * image.height)
    right = math.ceil((region.x + region.width) * image.width - _EDGE)
    bottom = math.ceil((region.y + region.height) * image.height - _EDGE)
    left, top = min(left, image.width - 1), min(top, image.height - 1)
    return image.crop((left, top, min(max(right, left + 1), image.width), min(max(bottom, top + 1), image.height)))


def _upright(fetched: FetchedMedia, settings: ImageSettings, side: int) -> Image.Image:
    """Decodes an image to upright RGB, of which `side` pixels are enough; a JPEG that was cut as far as it goes."""
    if fetched.mime == "image/png":
        return _decoded(fetched.mime, pixel_chunks(fetched.data), settings, side)
    try:
        return _decoded(fetched.mime, fetched.data, settings, side)
    except OSError:
        if fetched.mime != "image/jpeg":
            raise
        image = _decoded(fetched.mime, fetched.data + END_OF_IMAGE, settings, side)
        if (missing := missing_share(image)) > MAX_MISSING:
            raise
    logger.warning(
        "%s: a JPEG that was cut; it is indexed as far as it goes, at most %.0f %% of its height are missing",
        fetched.event.asset,
        100 * missing,
    )
    return image


def _decoded(mime: str, data: bytes, settings: ImageSettings, side: int) -> Image.Image:
    with Image.open(io.BytesIO(data), formats=FORMATS[mime]) as image:
        _check_size(image.size, settings)
        _draft(image, side)
        image.load()
        return as_rgb(_apply_orientation(image))


def _without_address(exc: Exception) -> str:
    """Returns the message of a decoder, in which the input is named by its address in memory."""
    return _ADDRESS.sub("the image", str(exc))


def fit_image(image: Image.Image, spec: ImageSpec) -> UInt8:
    """Resizes an upright RGB image to the encoder's size: uint8[size_px, size_px, 3]."""
    return np.array(_resize(image, spec), dtype=np.uint8)


def reduce_to(image: Image.Image, longest_px: int) -> UInt8:
    """Returns uint8[height, width, 3] of an upright RGB image, its longer side at most `longest_px`."""
    scale = longest_px / max(image.size)
    if scale < 1:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.BICUBIC)
    return np.array(image, dtype=np.uint8)


def set_pixel_limit(max_pixels: int) -> None:
    """Raises Pillow's own limit, which rejects at twice its number, to match a higher `max_pixels`."""
    Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS or 0, -(-max_pixels // 2))


def _check_size(size: tuple[int, int], settings: ImageSettings) -> None:
    width, height = size
    if width * height > settings.max_pixels:
        raise BadInputError(
            Reason.TOO_LARGE,
            f"{width:,} × {height:,} pixels; {settings.max_pixels:,} are allowed in all (setting image.max_pixels, for "
            "the image of a query query.max_image_pixels)",
        )
    if max(size) > _MAX_SIDE_PX:
        raise BadInputError(
            Reason.TOO_LARGE, f"{width:,} × {height:,} pixels; a side may have {_MAX_SIDE_PX:,}: send it in parts"
        )


def _draft(image: Image.Image, side: int) -> None:
    """Lets libjpeg decode at 1/2, 1/4 or 1/8 of the size, in the frequency domain, where enough pixels remain.

    Measured for 224 px: 2.7 times as fast at 1600 × 1200 and 3 at 3000 × 2000, cosine to the full decode above 0.99999
    after ViT-B-32 and 0.9999 before it.
    """
    if image.format in ("JPEG", "MPO"):
        image.draft(None, (side, side))


def _apply_orientation(image: Image.Image) -> Image.Image:
    """Rotates and mirrors an image as its EXIF states. Broken EXIF is ignored."""
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG)
    except _DECODER_ERRORS as exc:
        logger.debug("broken EXIF is ignored: %s", exc)
        return image
    transpose = _ORIENTATIONS.get(orientation) if isinstance(orientation, int) else None
    return image if transpose is None else image.transpose(transpose)


# --- to the encoder's size, as torchvision and open_clip do it to a PIL image -----------------------------------------


def _resize(image: Image.Image, spec: ImageSpec) -> Image.Image:
    if spec.resize_mode == "squash":
        return _resized(image, (spec.size_px, spec.size_px), spec)
    if spec.resize_mode == "longest":
        return _fit_longest(image, spec)
    return _fit_shortest(image, spec)


def _fit_shortest(image: Image.Image, spec: ImageSpec) -> Image.Image:
    """Resizes the shorter side to `size_px` and crops the centre. The longer side is truncated, the offset rounded."""
    size, (width, height) = spec.size_px, image.size
    short, long = sorted(image.size)
    if long > _MAX_RESIZE_RATIO * short:
        return _fit_strip(image, spec)
    longer = int(size * long / short)
    image = _resized(image, (size, longer) if width <= height else (longer, size), spec)
    return _centre(image, size)


def _fit_strip(image: Image.Image, spec: ImageSpec) -> Image.Image:
    """Does the same to a strip, of which only the middle is kept before it is resized, not after."""
    width, height = image.size
    side = min(width, height)
    reach = _MAX_RESIZE_RATIO * side
    left, top = max(0, (width - reach) // 2), max(0, (height - reach) // 2)
    middle = image.crop((left, top, min(width, left + reach), min(height, top + reach)))
    return _fit_shortest(middle, spec)


def _fit_longest(image: Image.Image, spec: ImageSpec) -> Image.Image:
    """Resizes the longer side to `size_px` and pads around. An odd pixel of padding goes right and below."""
    size, (width, height) = spec.size_px, image.size
    ratio = max(width, height) / size
    image = _resized(image, (max(1, round(width / ratio)), max(1, round(height / ratio))), spec)
    canvas = Image.new("RGB", (size, size), (spec.fill,) * 3)
    canvas.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
    return canvas


def _resized(image: Image.Image, size: tuple[int, int], spec: ImageSpec) -> Image.Image:
    return image if image.size == size else image.resize(size, _RESAMPLING[spec.interpolation])


def _centre(image: Image.Image, size: int) -> Image.Image:
    left, top = round((image.width - size) / 2), round((image.height - size) / 2)
    return image.crop((left, top, left + size, top + size))
