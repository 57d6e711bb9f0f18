"""Images with a fault outside of their pixels."""

from __future__ import annotations

import io
import zlib

import numpy as np
import pytest
from PIL import Image

from penstock.media.tolerance import missing_share, pixel_chunks

SIZE = (40, 30)


def chunk(name: bytes, content: bytes, *, crc: int | None = None) -> bytes:
    checked = zlib.crc32(name + content) if crc is None else crc
    return len(content).to_bytes(4, "big") + name + content + checked.to_bytes(4, "big")


def png(*, before_pixels: bytes = b"", after_pixels: bytes = b"") -> bytes:
    out = io.BytesIO()
    pixels = np.random.default_rng(1).integers(0, 256, (*SIZE[::-1], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(out, "PNG")
    data = out.getvalue()
    start, end = data.index(b"IDAT") - 4, data.index(b"IEND") - 4
    return data[:start] + before_pixels + data[start:end] + after_pixels + data[end:]


def pixels_of(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(pixel_chunks(data)), formats=("PNG",)) as image:
        return np.asarray(image)


@pytest.mark.parametrize(
    "fault",
    [
        chunk(b"zTXt", b"key\0\0" + zlib.compress(bytes(3_000_000))),
        chunk(b"iTXt", b"key\0\1\0\0\0" + zlib.compress(bytes(3_000_000))),
        chunk(b"iCCP", b"name\0\0" + zlib.compress(bytes(3_000_000))),
        chunk(b"tEXt", b"a\0b", crc=1),
        chunk(b"tIME", b"short"),
        chunk(b"pHYs", b""),
        chunk(b"gAMA", b"\0", crc=7),
        chunk(b"tRNS", bytes(6), crc=7),
        chunk(b"fcTL", bytes(3)),
        chunk(b"prVt", bytes(100_000), crc=9),
    ],
    ids=lambda fault: fault[4:8].decode(),
)
def test_a_fault_in_a_chunk_that_says_nothing_about_pixels_is_ignored(fault: bytes) -> None:
    assert np.array_equal(pixels_of(png(before_pixels=fault)), pixels_of(png()))
    assert np.array_equal(pixels_of(png(after_pixels=fault)), pixels_of(png()))


def test_a_png_without_faults_keeps_its_transparency_and_orientation() -> None:
    exif = chunk(b"eXIf", b"MM\0*" + bytes(4))
    kept = pixel_chunks(png(before_pixels=chunk(b"tRNS", bytes(6)), after_pixels=exif))
    assert chunk(b"tRNS", bytes(6)) in kept
    assert exif in kept


XMP = b'<x xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
TIFF = b"MM\0*" + bytes((0, 0, 0, 8, 0, 1, 1, 18, 0, 3, 0, 0, 0, 1, 0, 6, 0, 0)) + bytes(4)
EXIF = b"\nexif\n    %d\n" % len(TIFF) + TIFF.hex().encode()


@pytest.mark.parametrize(
    "text",
    [
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
        chunk(b"tEXt", b"Raw profile type exif\0" + EXIF),
        chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(EXIF)),
    ],
    ids=["xmp", "text", "packed text"],
)
def test_the_orientation_in_a_text_is_kept(text: bytes) -> None:
    with Image.open(io.BytesIO(pixel_chunks(png(before_pixels=text)))) as image:
        assert image.getexif().get(0x0112) == 6


@pytest.mark.parametrize(
    "text",
    [
        chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(bytes(3_000_000))),
        chunk(b"zTXt", b"Raw profile type exif\0\0broken"),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(3_000_000))),
        chunk(b"tEXt", b"Raw profile type exif\0" + EXIF, crc=7),
        chunk(b"tEXt", b"Raw profile type exif\0" + bytes(2_000_000)),
    ],
    ids=["bomb", "broken", "packed", "crc", "large"],
)
def test_an_orientation_that_cannot_be_read_is_ignored(text: bytes) -> None:
    assert np.array_equal(pixels_of(png(before_pixels=text)), pixels_of(png()))


@pytest.mark.parametrize("share", [0.001, 0.02, 0.3, 0.9])
def test_a_png_that_is_cut_within_its_pixels_stays_cut(share: float) -> None:
    data = png()
    with pytest.raises((OSError, SyntaxError)):
        pixels_of(data[: int(share * len(data))])


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_the_missing_share_is_that_of_flat_rows_at_the_lower_end(share: float) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (160, 96, 3), dtype=np.uint8)
    pixels[160 - int(160 * share) :] = 128
    assert missing_share(Image.fromarray(pixels)) == pytest.approx(share)


def test_an_image_smaller_than_a_block_misses_nothing() -> None:
    assert missing_share(Image.new("RGB", (7, 100))) == 0
