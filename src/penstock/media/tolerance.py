"""Reads images of which a part has a fault, but not the pixels, or only the last of them."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

# --- PNG -------------------------------------------------------------------------------------------------------------

_SIGNATURE_BYTES = 8
# The chunks that decide on the pixels of the first image, and its orientation. All others are text, colour profiles
# that no encoder applies, and further images of an animation; a fault in one of them would stop Pillow.
_CRITICAL = frozenset((b"IHDR", b"PLTE", b"IDAT", b"IEND"))
_USED = frozenset((b"tRNS", b"eXIf"))
# Texts that hold the orientation where no EXIF does.
_TEXTS = frozenset((b"tEXt", b"zTXt", b"iTXt"))
_ORIENTING = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0")
_MAX_TEXT_BYTES = 1 << 20  # unpacked: Pillow takes no more


def pixel_chunks(png: bytes) -> bytes:
    """Returns a PNG without the chunks that say nothing about its pixels; of those that do, broken ones remain."""
    view = memoryview(png)
    return b"".join((view[:_SIGNATURE_BYTES], *_kept(view)))


def _kept(png: memoryview) -> Iterator[memoryview]:
    at = _SIGNATURE_BYTES
    while at + 8 <= len(png):
        name, end = bytes(png[at + 4 : at + 8]), at + 12 + int.from_bytes(png[at : at + 4], "big")
        used = name in _USED or (name in _TEXTS and _is_orienting(name, png[at + 8 : end - 4]))
        if end > len(png) or name in _CRITICAL or (used and _is_whole(png[at:end])):
            yield png[at:end]
        at = end


def _is_orienting(name: bytes, text: memoryview) -> bool:
    """Returns whether a text of a PNG may hold its orientation, and unpacks to what Pillow takes."""
    keyword = next((keyword for keyword in _ORIENTING if bytes(text[: len(keyword)]) == keyword), None)
    if keyword is None or len(text) > _MAX_TEXT_BYTES:
        return False
    if name == b"tEXt":
        return True
    if name == b"iTXt":
        return bytes(text[len(keyword) : len(keyword) + 1]) == b"\0"  # not packed, as XMP never is
    unpacking = zlib.decompressobj()
    try:
        unpacking.decompress(text[len(keyword) + 1 :], _MAX_TEXT_BYTES)
    except zlib.error:
        return False
    return unpacking.eof


def _is_whole(chunk: memoryview) -> bool:
    return zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")


# --- JPEG ------------------------------------------------------------------------------------------------------------

END_OF_IMAGE = b"\xff\xd9"  # behind a JPEG that was cut, it makes libjpeg fill up what is missing
MAX_MISSING = 0.5  # of the height; less of an image is rather another image
_BLOCK_PX = 8


def missing_share(image: Image.Image) -> float:
    """Returns at most which share of the height is missing from a JPEG that was cut and filled up.

    What is missing has one colour in each block of 8 × 8 pixels, so the rows of such blocks at the lower end are
    counted. In a image that ends in them anyway, as a scanned page does, fewer are missing.

    Args:
        image: decoded, perhaps at a smaller scale, in which the blocks are smaller too and count as flat less easily.
    """
    grey = np.asarray(image.convert("L"))
    rows, columns = (side // _BLOCK_PX for side in grey.shape)
    if not rows or not columns:
        return 0.0
    blocks = grey[: rows * _BLOCK_PX, : columns * _BLOCK_PX].reshape(rows, _BLOCK_PX, columns, _BLOCK_PX)
    has_detail = (blocks.max(axis=(1, 3)) != blocks.min(axis=(1, 3))).any(axis=1)
    return 1.0 - (int(np.flatnonzero(has_detail)[-1]) + 1) / rows if has_detail.any() else 1.0
