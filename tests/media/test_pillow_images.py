"""The test images of Pillow's own source, fetched from the package index: what becomes of each kind is pinned."""

from __future__ import annotations

import re
import shutil
import subprocess
import tarfile
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL
import pytest
from PIL import Image, ImageOps

from penstock.config import ImageSettings
from penstock.errors import BadInputError
from penstock.media.image import decode_reduced_image
from penstock.query.understand.image import as_media

pytestmark = [pytest.mark.exhaustive, pytest.mark.timeout(900)]

VERSION = "13.0.0"
SIDE_PX = 64
# Pillow has readers for these; they are not among the formats that are indexed.
REFUSED = {
    "BLP", "DCX", "DIB", "FITS", "FLI", "FTEX", "GBR", "IM", "IMT", "MCIDAS", "MSP", "PCD", "PIXAR", "SPIDER", "XBM",
    "XVThumb",
}  # fmt: skip
# Read further than by Pillow: cut, with faults beside the pixels, or in a mode that it does not scale.
READ_ANYWAY = {
    "apng/chunk_no_fctl.png", "cmx3g8_wv_1998.260_0745_mcidas.tiff", "ifd_tag_type.tiff", "pillow.ico",
    "png_decompression_dos.png", "truncated_jpeg.jpg", "unknown_compression_method.png",
}  # fmt: skip
INDEXED = {
    "image/png": 417, "image/tiff": 96, "image/jpeg": 61, "image/bmp": 54, "image/gif": 37, "image/x-tga": 33,
    "image/vnd.ms-dds": 29, "image/avif": 16, "image/webp": 14, "image/x-portable-anymap": 13, "image/jp2": 11,
    "image/x-icon": 11, "image/vnd.adobe.photoshop": 10, "image/sgi": 7, "image/qoi": 3, "image/x-xpixmap": 3,
    "image/x-pcx": 3, "image/x-icns": 3, "image/x-sun-raster": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if PIL.__version__ != VERSION:
        pytest.skip(f"the table is of Pillow {VERSION}, this is {PIL.__version__}")
    folder = tmp_path_factory.mktemp("pillow")
    if (pip := shutil.which("pip")) is None:
        pytest.skip("Pillow's source cannot be fetched: there is no pip")
    fetch = [pip, "download", "-q", "--no-deps", "--no-binary", ":all:", f"pillow=={VERSION}"]
    fetched = subprocess.run(fetch, check=False, cwd=folder, capture_output=True, text=True, timeout=600)
    if fetched.returncode:
        pytest.skip(f"Pillow's source cannot be fetched: {fetched.stderr.strip().splitlines()[-1:]}")
    with tarfile.open(folder / f"pillow-{VERSION}.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder / f"pillow-{VERSION}" / "Tests" / "images"


def read_by_pillow(path: Path) -> tuple[str, Image.Image] | None:
    """Returns the format and the upright image, its longer side at most `SIDE_PX`; None if it cannot be read."""
    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter("ignore")
            image.load()
            upright = ImageOps.exif_transpose(image)
            upright.thumbnail((SIDE_PX, SIDE_PX))
            return image.format or "", upright
    except Exception:
        return None


def test_every_image_is_indexed_upright_or_refused_in_words(images: Path) -> None:
    indexed: Counter[str] = Counter()
    further: set[str] = set()
    for name, path in files(images):
        media, known = as_media(path.read_bytes()), read_by_pillow(path)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                pixels = decode_reduced_image(media, settings=ImageSettings(), longest_px=SIDE_PX)
        except BadInputError as exc:
            refused = str(exc)
        else:
            refused = ""
        if refused:
            assert not re.search("0x[0-9a-f]{6}|\n", refused), name
            assert known is None or known[0] in REFUSED or name.endswith(".pfm"), name
            continue
        indexed[media.mime] += 1
        if known is None:
            further.add(name)
        elif min(known[1].size) > 1:
            assert np.array_equal(np.array(pixels.shape[:2]) > SIDE_PX / 2, np.array(known[1].size[::-1]) > SIDE_PX / 2)
            assert is_as_upright(pixels, known[1]), name
    assert dict(indexed) == INDEXED
    assert further == READ_ANYWAY


def is_as_upright(pixels: np.ndarray, expected: Image.Image) -> bool:
    """Returns whether no turned or mirrored form of the expected image is clearly closer than itself."""
    actual = np.asarray(Image.fromarray(pixels).convert("L").resize((16, 16)), dtype=float)

    def distance(image: Image.Image) -> float:
        return float(np.abs(np.asarray(image.resize((16, 16)), dtype=float) - actual).mean())

    white = Image.new("RGBA", expected.size, "white")
    upright = Image.alpha_composite(white, expected.convert("RGBA")).convert("L")
    others = min(distance(upright.transpose(turn)) for turn in Image.Transpose)
    return distance(upright) <= others + 8.0


def files(folder: Path) -> Iterator[tuple[str, Path]]:
    return ((str(path.relative_to(folder)), path) for path in sorted(folder.rglob("*")) if path.is_file())
