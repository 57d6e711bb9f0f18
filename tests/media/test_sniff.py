"""The type that media have by their bytes."""

from __future__ import annotations

import io
import random
import time
import wave
from typing import Literal

import pytest
from PIL import Image

from penstock.media.image import FORMATS
from penstock.media.sniff import sniff
from penstock.media.types.base import Sniffed
from penstock.media.types.documents import DOCUMENT
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


def _box(name: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return (8 + len(body)).to_bytes(4, "big") + name + body


def _moov(*handlers: bytes, title: bytes = b"") -> bytes:
    """A box `moov` of an MP4 with a track for each handler."""
    tracks = [_box(b"trak", _box(b"mdia", _box(b"hdlr", bytes(8), handler, bytes(12)))) for handler in handlers]
    return _box(b"moov", _box(b"udta", title), *tracks)


def _mp4(brand: bytes, *handlers: bytes, compatible: bytes = b"", title: bytes = b"") -> bytes:
    """An MP4 whose list of tracks stands behind its media."""
    return _box(b"ftyp", brand, bytes(4), compatible) + _box(b"mdat", bytes(50)) + _moov(*handlers, title=title)


def _element(name: int, *content: bytes, unknown_size: bool = False) -> bytes:
    """An element of Matroska."""
    body = b"".join(content)
    size = b"\x01" + b"\xff" * 7 if unknown_size else (1 << 56 | len(body)).to_bytes(8, "big")
    return name.to_bytes((name.bit_length() + 7) // 8, "big") + size + body


def _tracks(*kinds: int) -> bytes:
    return _element(0x1654AE6B, *(_element(0xAE, _element(0x83, bytes([kind]))) for kind in kinds))


def _mkv(document: bytes, *elements: bytes) -> bytes:
    """A Matroska file of unknown length with these elements."""
    return _element(0x1A45DFA3, _element(0x4282, document)) + _element(0x18538067, *elements, unknown_size=True)


def _mkv_tracks_last(document: bytes, *kinds: int) -> bytes:
    """A Matroska file whose index says that the list of tracks stands behind its media, of a length not stated."""

    def index(position: int) -> bytes:
        seek = _element(0x53AB, (0x1654AE6B).to_bytes(4, "big")), _element(0x53AC, position.to_bytes(8, "big"))
        return _element(0x114D9B74, _element(0x4DBB, *seek))

    media = _element(0x1F43B675, b"A_ and V_ are only letters here", unknown_size=True)
    return _mkv(document, index(len(index(0)) + len(media)), media, _tracks(*kinds))


def _ogg(*codecs: bytes) -> bytes:
    """An Ogg file with the first page of a track for each codec, and a page that follows them."""
    pages = [b"OggS\0\2" + bytes(20) + b"\1" + bytes([len(codec)]) + codec for codec in codecs]
    return b"".join(pages) + b"OggS\0\0" + bytes(20) + b"\1\x07\x80theora"


def _asf(*streams: str) -> bytes:
    """An ASF file with streams of these kinds."""
    kinds = {"audio": "409e69f84d5bcf11a8fd00805f5c442b", "video": "c0ef19bc4d5bcf11a8fd00805f5c442b"}
    objects = [
        bytes.fromhex("9107dcb7b7a9cf118ee600c00c205365") + (100).to_bytes(8, "little") + bytes.fromhex(kinds[stream])
        + bytes(60)
        for stream in streams
    ]  # fmt: skip
    body = len(objects).to_bytes(4, "little") + b"\1\2" + b"".join(objects)
    return bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c") + (24 + len(body)).to_bytes(8, "little") + body


def _mp3(frames: int) -> bytes:
    """Frames of MPEG-1 layer 3 with 128 kbit/s at 44.1 kHz, of 417 bytes."""
    return (b"\xff\xfb\x90\x64" + bytes(413)) * frames


@pytest.mark.parametrize(("mime", "format_name"), _WRITABLE.items())
def test_images_that_pillow_writes_are_detected(mime: str, format_name: str) -> None:
    assert sniff(_image(format_name), declared=None) == Sniffed(mime, Modality.IMAGE)
    assert mime in FORMATS


@pytest.mark.parametrize(
    ("data", "mime", "modality"),
    [
        (_wav(), "audio/wav", Modality.AUDIO),
        (b"RF64\xff\xff\xff\xffWAVEds64", "audio/wav", Modality.AUDIO),
        (b"BW64\xff\xff\xff\xffWAVEds64", "audio/wav", Modality.AUDIO),
        (b"ID3\x04\0\0\0\0\0\0" + bytes(100), "audio/mpeg", Modality.AUDIO),
        (b"\xff\xfb\x90\x64" + bytes(100), "audio/mpeg", Modality.AUDIO),
        (bytes(2_000) + _mp3(5), "audio/mpeg", Modality.AUDIO),
        (b"\x55" * 300 + _mp3(5), "audio/mpeg", Modality.AUDIO),
        (b"\xff\xff\x00" * 100 + _mp3(5), "audio/mpeg", Modality.AUDIO),
        (bytes(2_000) + _mp3(2), "application/octet-stream", None),
        (b"\xff\xf1\x50\x80" + bytes(100), "audio/aac", Modality.AUDIO),
        (b"fLaC\0\0\0\x22" + bytes(100), "audio/flac", Modality.AUDIO),
        (_ogg(b"\x7fOpusHead"), "audio/ogg", Modality.AUDIO),
        (_ogg(b"\1vorbis", b"\x80theora"), "video/ogg", Modality.VIDEO),
        (_ogg(b"\1vorbis", b"fishead\0"), "audio/ogg", Modality.AUDIO),
        (_mkv(b"webm", _tracks(2)), "audio/webm", Modality.AUDIO),
        (_mkv(b"webm", _tracks(1, 2)), "video/webm", Modality.VIDEO),
        (_mkv(b"webm", _element(0x1549A966, b"V_VP9"), _tracks(2)), "audio/webm", Modality.AUDIO),
        (_mkv_tracks_last(b"matroska", 2), "audio/x-matroska", Modality.AUDIO),
        (_mkv_tracks_last(b"matroska", 2, 1), "video/x-matroska", Modality.VIDEO),
        (_mp4(b"isom", b"vide"), "video/mp4", Modality.VIDEO),
        (_mp4(b"isom", b"soun"), "audio/mp4", Modality.AUDIO),
        (_mp4(b"isom", b"soun", title=b"a provident video"), "audio/mp4", Modality.AUDIO),
        (_mp4(b"isom", b"soun", b"vide"), "video/mp4", Modality.VIDEO),
        (_mp4(b"isom", b"soun", b"text"), "audio/mp4", Modality.AUDIO),
        (_mp4(b"M4A ", b"soun"), "audio/mp4", Modality.AUDIO),
        (_mp4(b"qt  ", b"vide"), "video/quicktime", Modality.VIDEO),
        (_box(b"wide") + _box(b"mdat", bytes(50)) + _moov(b"vide"), "video/quicktime", Modality.VIDEO),
        (_box(b"mdat", bytes(50)) + _moov(b"soun"), "audio/mp4", Modality.AUDIO),
        (_box(b"skip", bytes(50)), "video/quicktime", None),
        (_mp4(b"mif1", compatible=b"mif1avifmiaf"), "image/avif", Modality.IMAGE),
        (_mp4(b"msf1", compatible=b"avismsf1"), "image/avif", Modality.IMAGE),
        (_mp4(b"mif1", compatible=b"mif1heic"), "image/heic", None),
        (_mp4(b"mif1", compatible=b"mif1miaf"), "image/heif", None),
        (_mp4(b"heic", b"pict"), "image/heic", None),
        (_asf("audio"), "audio/x-ms-wma", Modality.AUDIO),
        (_asf("audio", "video"), "video/x-ms-asf", Modality.VIDEO),
        (_asf(), "video/x-ms-asf", Modality.VIDEO),
        (b"FLV\1\4\0\0\0\x09", "audio/x-flv", Modality.AUDIO),
        (b"FLV\1\5\0\0\0\x09", "video/x-flv", Modality.VIDEO),
        (b"RIFF\0\0\0\0AVI LIST", "video/x-msvideo", Modality.VIDEO),
        ((b"\x47" + bytes(187)) * 4, "video/mp2t", Modality.VIDEO),
        ((bytes(4) + b"\x47" + bytes(187)) * 4, "video/mp2t", Modality.VIDEO),
        ((b"\x47" + bytes(203)) * 4, "video/mp2t", Modality.VIDEO),
        (b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog >>\nendobj\n", "application/pdf", DOCUMENT),
        (b"{\\rtf1\\ansi The heron.}", "application/rtf", None),
        (b"{\\rtf {\\fonttbl}The heron.}", "application/rtf", None),
        (b"%!PS-Adobe-3.0\n%%Pages: 1\n(Heron) show\nshowpage\n", "application/postscript", None),
        (b"%!PS\n/Helvetica findfont 12 scalefont setfont\n", "application/postscript", None),
        (b'<!DOCTYPE svg [ <!ENTITY a "b"> <!ENTITY c "d"> ]>\n<svg xmlns="&a;"></svg>', "image/svg+xml", None),
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
        ("P1 100 200 metres were run", "text/plain", "plain"),
        ("ID3 tags hold the title", None, "plain"),
        ("GIF89a introduced transparency", "text/markdown", "markdown"),
        ("caffeine after noon", None, "plain"),
        (".snd files come from NeXT", None, "plain"),
        ("fLaC, a lossless coder", None, "plain"),
        ("OggS begins each page", None, "plain"),
        ("RIFF, and then WAVE: chunks", None, "plain"),
        ("The ftyp box", None, "plain"),
        ("FORM follows function", None, "plain"),
        ("qoif and wvpk and #!AMR", None, "plain"),
        ("%PDF-1.4 is how a PDF begins", None, "plain"),
        ("%PDF-1.4\nis its first line", None, "plain"),
        ("{\\rtf1 begins every RTF", None, "plain"),
        ("%!PS begins PostScript", None, "plain"),
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


@pytest.mark.parametrize("letters", ["GIF89a ist älter", "ID3 für Töne", ".snd mit Gewühl"])
@pytest.mark.parametrize("charset", ["latin-1", "utf-16"])
def test_a_declared_text_in_any_charset_is_text(letters: str, charset: str) -> None:
    sniffed = sniff(letters.encode(charset), declared=f"text/plain; charset={charset}")
    assert sniffed == Sniffed("text/plain", Modality.TEXT)


@pytest.mark.parametrize("charset", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("text", ["今天天气很好。我们去公园散步。", "Сегодня хорошая погода.", "ภาษาไทย"])
def test_utf16_without_a_mark_is_text_where_it_is_declared(text: str, charset: str) -> None:
    data = text.encode(charset)
    assert sniff(data, declared=f"text/plain; charset={charset}").modality is Modality.TEXT


@pytest.mark.parametrize("step", [37, 5, 251])
@pytest.mark.parametrize("order", ["little", "big"])
def test_small_numbers_of_16_bits_are_no_text(step: int, order: Literal["little", "big"]) -> None:
    numbers = b"".join((step * number % 256).to_bytes(2, order) for number in range(4_000))
    assert sniff(numbers, declared=None).modality is None


def test_images_written_in_ascii_are_images_unless_they_are_declared_as_text() -> None:
    bitmap = b"P2\n# a comment\n3 2\n255\n0 100 200\n9 99 199\n"
    pixmap = b'/* XPM */\nstatic char *dot[] = {"1 1 1 1", "a c red", "a"};\n'
    assert sniff(bitmap, declared=None) == Sniffed("image/x-portable-anymap", Modality.IMAGE)
    assert sniff(pixmap, declared=None) == Sniffed("image/x-xpixmap", Modality.IMAGE)
    assert sniff(bitmap, declared="text/plain").modality is Modality.TEXT


@pytest.mark.parametrize(
    "data",
    [
        b"/* XPM */" + b"/**/" * 10_000 + b"x",
        b"/* XPM */" + b" " * 60_000,
        b"/* XPM */" + b"/*" * 30_000,
        b"%PDF-1.4" + b"\n" * 60_000,
        b"%!PS-Adobe-3.0\n" + b"%\n" * 30_000,
        b"P2 " + b"# \n" * 20_000,
        b"P2 " + b" " * 60_000,
        b"<?xml ?>" * 8_000,
        b"<!-- -->" * 8_000,
        b"{\\rtf" + b" " * 60_000,
        b"# a\n\n" + b"](" * 30_000,
    ],
    ids=lambda data: repr(data[:16]),
)
def test_odd_beginnings_take_milliseconds(data: bytes) -> None:
    started_s = time.process_time()
    sniff(data, declared=None)
    assert time.process_time() - started_s < 0.5


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
        started = time.process_time()
        sniff(data, declared=None)
        elapsed_s.append(time.process_time() - started)
    assert min(elapsed_s) < 50e-6


@pytest.mark.parametrize("unit", ["<!--", "<!-- -->", "<?xml", "# a\n\n", "](", "**a", "P1 #\n", "[a](b", "\n# a\n"])
def test_no_text_takes_long(unit: str) -> None:
    data = (unit * 1_000_000)[:5_000_000].encode()
    started = time.process_time()
    sniff(data, declared=None)
    assert time.process_time() - started < 0.5
