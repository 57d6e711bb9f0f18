"""An image that is searched by is bounded in pixels, and so in memory."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest
from PIL import Image

from penstock.config import ImageSettings, QuerySettings
from penstock.encoders.profiles import load_profile
from penstock.errors import QueryError
from penstock.query.understand.image import query_image_decoder

SPEC = load_profile("reference").image
PIXELS = 10_000


def encoded(width: int, height: int, kind: str, mode: str = "RGB", **options: bool) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (width, height)).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(("kind", "width"), [("PNG", 100), ("WEBP", 100), ("JPEG", 250)])
def test_pixels_are_limited_and_a_jpeg_may_have_more(kind: str, width: int) -> None:
    decode = query_image_decoder(SPEC, ImageSettings(), max_pixels=PIXELS)
    assert decode(encoded(width, 100, kind), None).shape == (SPEC.size_px, SPEC.size_px, 3)
    with pytest.raises(QueryError, match=r"query\.max_image_pixels") as refused:
        decode(encoded(width + 1, 100, kind), None)
    assert (refused.value.status, refused.value.field) == (413, "/image")


_LARGEST = """
import resource, sys
from penstock.config import ImageSettings, QuerySettings
from penstock.encoders.profiles import load_profile
from penstock.query.understand.image import query_image_decoder
decode = query_image_decoder(
    load_profile("reference").image, ImageSettings(), max_pixels=QuerySettings().max_image_pixels
)
before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
decode(sys.stdin.buffer.read(), None)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb)
"""


@pytest.mark.parametrize(
    ("kind", "mode", "factor"),
    [
        ("PNG", "RGBA", 1.0),
        pytest.param("PNG", "I;16", 1.0, marks=pytest.mark.exhaustive),
        pytest.param("TIFF", "F", 1.0, marks=pytest.mark.exhaustive),
        pytest.param("JPEG", "RGB", 2.5, marks=pytest.mark.exhaustive),
    ],
)
def test_the_largest_image_takes_less_than_512_mib(kind: str, mode: str, factor: float) -> None:
    pixels = int(QuerySettings().max_image_pixels * factor)
    image = encoded(5_000, pixels // 5_000, kind, mode, progressive=True)
    child = subprocess.run([sys.executable, "-c", _LARGEST], input=image, capture_output=True, check=True, timeout=120)
    assert int(child.stdout) < 512 * 1024
