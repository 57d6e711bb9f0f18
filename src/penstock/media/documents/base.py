"""Defines the interface of parsers, and what they share: clean text and reduced images."""

from __future__ import annotations

import io
import mmap
import re
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

import numpy as np
from PIL import Image, TiffImagePlugin, WebPImagePlugin

from penstock.media.documents.limits import DocumentLimits
from penstock.media.documents.types import DocumentPage
from penstock.media.pixels import as_rgb
from penstock.media.text.markup import BLOCK, LINE
from penstock.records import UInt8

MIN_FIGURE_PX = 64  # smaller images are bullets, rules and icons
MAX_FIGURE_PIXELS = 50_000_000  # of an image before it is reduced: 150 MB as RGB
_MAX_NAME_CHARS = 300

# The formats of images in documents. No other of Pillow's readers runs: some start other programs.
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", TiffImagePlugin.TiffImageFile.format, WebPImagePlugin.WebPImageFile.format)
# Controls, noncharacters and halves of surrogate pairs; BLOCK and LINE, which the parsers add, are among them.
_INVISIBLE = re.compile(
    "[\\x00-\\x08\\x0e-\\x1f\\x7f-\\x84\\x86-\\x9f\\ufeff\\ufdd0-\\ufdef\\ufffe\\uffff\\ud800-\\udfff]"
)


class OpenDocument(Protocol):
    """A document that is open.

    Attributes:
        title, author: "" if the document does not say.
        page_count: all its pages, at least one.
        notes: what is left out, in words. It may grow while pages are read.
    """

    title: str
    author: str
    page_count: int
    notes: list[str]

    def page(self, number: int) -> DocumentPage:
        """Reads a page, from 1. Any exception makes it a damaged page."""
        ...


DocumentBytes: TypeAlias = mmap.mmap | bytearray  # writable, as C libraries take only such without a copy
Opener: TypeAlias = Callable[[DocumentBytes, DocumentLimits], OpenDocument]


def clean(text: str) -> str:
    """Removes control characters and the marks of blocks and lines."""
    return _INVISIBLE.sub("", text)


def clean_name(text: str) -> str:
    """Returns a title, label or heading in one line of bounded length."""
    return " ".join(clean(text).replace(BLOCK, " ").replace(LINE, " ").split())[:_MAX_NAME_CHARS]


def blocks(parts: Sequence[str]) -> str:
    """Joins paragraphs by the mark for blocks, without empty ones."""
    return BLOCK.join(part for part in parts if part.strip())


def decode_figure(data: bytes, longest_px: int) -> UInt8 | None:
    """Decodes an embedded image: uint8[height, width, 3]; None if it is too small, too large or no image."""
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            if min(image.size) < MIN_FIGURE_PX or image.width * image.height > MAX_FIGURE_PIXELS:
                return None
            image.draft("RGB", (2 * longest_px, 2 * longest_px))
            return reduce_image(image, longest_px)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None


def reduce_image(image: Image.Image, longest_px: int) -> UInt8:
    """Returns uint8[height, width, 3] of an image, transparent parts on white, its longer side at most `longest_px`."""
    rgb = as_rgb(image)
    rgb.thumbnail((longest_px, longest_px), Image.Resampling.BICUBIC)
    return np.asarray(rgb, dtype=np.uint8)
