"""The type that media have by their bytes."""

from __future__ import annotations

import io
import random
import time
import wave

import pytest
from PIL import Image

from penstock.media.image import FORMATS
from penstock.media.sniff import Sniffed, sniff
from penstock.records import Modality

_WRITABLE = {
    "image/jpeg": "JPEG",
    "image/png": "PNG",
    "image/gif": "GIF",
    "image/webp": "WEBP",
    "image/bmp": "BMP",
    "image/tiff": "TIFF",
    "image/avif": "AVIF",
    "image/jp2": "JPEG2000",
    "image/x-icon": "ICO",
    "image/vnd.ms-dds": "DDS",
    "image/x-icns": "ICNS",
    "image/sgi": "SGI",
    "image/x-pcx": "PCX",
    "image/x-portable-anymap": "PPM",
    "image/x-tga": "TGA",
    "image/qoi": "QOI",
}


def _image(format_name: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(out, format_name)
    return out.getvalue()


def _wav() -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(bytes(320))
    return out.getvalue()


def _mp4(brand: bytes, handler: bytes) -> bytes:
    def box(name: bytes, body: bytes) -> bytes:
        return (8 + len(body)).to_bytes(4, "big") + name + body

    return box(b"ftyp", brand + bytes(4)) + box(b"mdat", bytes(50)) + box(b"moov", box(b"hdlr", bytes(8) + handler))


@pytest.mark.parametrize(("mime", "format_name"), _WRITABLE.items())
def test_images_that_pillow_writes_are_detected(mime: str, format_name: str) -> None:
    assert sniff(_image(format_name), declared=None) == Sniffed(mime, Modality.IMAGE)
    assert mime in FORMATS


@pytest.mark.parametrize(
    ("data", "mime", "modality"),
    [
        (_wav(), "audio/wav", Modality.AUDIO),
        (b"ID3\x04\0\0\0\0\0\0" + bytes(100), "audio/mpeg", Modality.AUDIO),
        (b"\xff\xfb\x90\x64" + bytes(100), "audio/mpeg", Modality.AUDIO),
        (b"\xff\xf1\x50\x80" + bytes(100), "audio/aac", Modality.AUDIO),
        (b"fLaC\0\0\0\x22" + bytes(100), "audio/flac", Modality.AUDIO),
        (b"OggS\0\2" + bytes(22) + b"OpusHead", "audio/ogg", Modality.AUDIO),
        (b"OggS\0\2" + bytes(22) + b"\x80theora", "video/ogg", Modality.VIDEO),
        (b"\x1a\x45\xdf\xa3" + b"\x42\x82\x84webm" + bytes(40) + b"A_OPUS", "audio/webm", Modality.AUDIO),
        (b"\x1a\x45\xdf\xa3" + b"\x42\x82\x84webm" + bytes(40) + b"V_VP9 A_OPUS", "video/webm", Modality.VIDEO),
        (_mp4(b"isom", b"vide"), "video/mp4", Modality.VIDEO),
        (_mp4(b"isom", b"soun"), "audio/mp4", Modality.AUDIO),
        (_mp4(b"M4A ", b"soun"), "audio/mp4", Modality.AUDIO),
        (_mp4(b"qt  ", b"vide"), "video/quicktime", Modality.VIDEO),
        (b"RIFF\0\0\0\0AVI LIST", "video/x-msvideo", Modality.VIDEO),
        (_mp4(b"heic", b"pict"), "image/heic", None),
        (b"%PDF-1.7\nhello\n", "application/pdf", None),
        (b"\x7fELF\2\1\1\0" + bytes(100), None, None),
        (b'<?xml version="1.0"?>\n<!-- a -->\n<svg xmlns="x"></svg>', "image/svg+xml", None),
        (b"<svg width='1'></svg>", "image/svg+xml", None),
        (b"\x00\x01\x02\x03" * 50, "application/octet-stream", None),
    ],
)
def test_audio_video_and_unsupported_types_are_detected(
    data: bytes, mime: str | None, modality: Modality | None
) -> None:
    sniffed = sniff(data, declared="image/jpeg")
    assert sniffed.modality == modality
    assert mime is None or sniffed.mime == mime


@pytest.mark.parametrize(
    ("text", "declared", "kind"),
    [
        ("Just words.", None, "plain"),
        ("BM is how this text begins", None, "plain"),
        ("P1 2 many", None, "plain"),
        ("# Not a heading\nbut a comment\n# and another\n", None, "plain"),
        ("a < b and <b>bold</b> in the middle", None, "plain"),
        ("<!DOCTYPE html><p>x", None, "html"),
        ("  <!-- note -->\n<html lang='en'>", None, "html"),
        ("<p>one</p>", None, "html"),
        ("<pre-like> no element", None, "plain"),
        ("words with a <b>tag</b>", "text/html; charset=utf-8", "html"),
        ("words", "text/markdown", "markdown"),
        ("<p align=center>a readme</p>\n\n# Title", "text/markdown", "markdown"),
        ("<!doctype html><p>x", "text/markdown", "html"),
        ("# Title\n\nSee [this](http://x/y).\n", None, "markdown"),
        ("# Title\n\nSee [this](http://x/y).\n", "text/plain", "plain"),
        ("# Title\n\nSee [this](http://x/y).\n", "application/octet-stream", "markdown"),
    ],
)
def test_kinds_of_text_are_detected(text: str, declared: str | None, kind: str) -> None:
    assert sniff(text.encode(), declared=declared) == Sniffed(f"text/{kind}", Modality.TEXT)


@pytest.mark.parametrize("charset", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1"])
def test_text_is_text_in_any_charset(charset: str) -> None:
    assert sniff("Grüße aus München, sagte er.".encode(charset), declared=None).modality is Modality.TEXT


def test_random_bytes_are_never_text() -> None:
    source = random.Random(7)
    modalities = {sniff(source.randbytes(2_000), declared="text/plain").modality for _ in range(200)}
    assert Modality.TEXT not in modalities


def test_a_declaration_does_not_turn_text_into_an_image() -> None:
    assert sniff(b"words", declared="image/png").modality is Modality.TEXT
    assert sniff(_image("PNG"), declared="text/html").modality is Modality.IMAGE


def test_an_image_is_detected_within_50_microseconds() -> None:
    data = _image("WEBP")
    elapsed_s = []
    for _ in range(50):
        started = time.perf_counter()
        sniff(data, declared=None)
        elapsed_s.append(time.perf_counter() - started)
    assert min(elapsed_s) < 50e-6


@pytest.mark.parametrize("unit", ["<!--", "<!-- -->", "<?xml", "# a\n\n", "](", "**a", "P1 #\n", "[a](b", "\n# a\n"])
def test_no_text_takes_long(unit: str) -> None:
    data = (unit * 1_000_000)[:5_000_000].encode()
    started = time.perf_counter()
    sniff(data, declared=None)
    assert time.perf_counter() - started < 0.5
