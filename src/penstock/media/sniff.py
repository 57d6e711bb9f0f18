"""Detects the type of media from their bytes.

A producer's declaration is not trusted, with one exception: it separates kinds of text, which no magic number does.
Binary formats are detected by their signatures: first the images that Pillow reads (they are most of the traffic), then
audio and video, then any type that puremagic can name. The last are unsupported, but get a name in the dead letter.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import puremagic

from penstock.records import Modality

PLAIN, HTML, MARKDOWN = "text/plain", "text/html", "text/markdown"

_HEAD_BYTES = 65_536  # of a text that are searched: enough to detect its kind, at no measurable cost


@dataclass(frozen=True, slots=True)
class Sniffed:
    """The detected type of media.

    Attributes:
        mime: the type; `application/octet-stream` if it is unknown.
        modality: the modality of its topic; None if there is no decoder for it.
    """

    mime: str
    modality: Modality | None


def sniff(data: bytes, *, declared: str | None) -> Sniffed:
    """Detects the type of media from their bytes.

    Text is HTML if it starts as the WHATWG's MIME Sniffing Standard defines for HTML, or is declared so. It is Markdown
    if declared so, or if it is not declared as anything particular and has a heading between blank lines and
    a second mark of Markdown. A declared `text/plain` is never Markdown, but may be HTML.

    Args:
        data: the whole media.
        declared: the producer's content type, or None.
    """
    image_type = _image_type(data)
    if image_type:
        return Sniffed(image_type, Modality.IMAGE)
    timed = _audio_or_video(data)
    if timed:
        return timed
    if looks_like_text(data):
        return _kind_of_text(data, declared)
    return Sniffed(_name_of(data), None)


# --- images ----------------------------------------------------------------------------------------------------------

_IMAGE_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"II+\0", "image/tiff"),
    (b"MM\0+", "image/tiff"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "image/jp2"),
    (b"\xff\x4f\xff\x51", "image/jp2"),
    (b"8BPS\0\x01", "image/vnd.adobe.photoshop"),
    (b"qoif", "image/qoi"),
    (b"DDS \x7c\0\0\0", "image/vnd.ms-dds"),
    (b"icns\0", "image/x-icns"),
    (b"\x01\xda\0", "image/sgi"),
    (b"\x01\xda\x01", "image/sgi"),
    (b"\x59\xa6\x6a\x95", "image/x-sun-raster"),
    (b"/* XPM */", "image/x-xpixmap"),
)
_NETPBM = re.compile(rb"P[1-6]\s(?:\s|#[^\n]*\n)*\d{1,9}\s+\d{1,9}\s")
_BMP_HEADER_BYTES = frozenset((12, 16, 40, 52, 56, 64, 108, 124))  # the sizes of its second header over the versions
_PCX_VERSIONS = (b"\0", b"\2", b"\3", b"\5")
_PCX_DEPTHS = (b"\1", b"\2", b"\4", b"\x08")


def _is_webp(data: bytes) -> bool:
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def _is_avif(data: bytes) -> bool:
    return data[4:12] in (b"ftypavif", b"ftypavis")


def _is_bmp(data: bytes) -> bool:
    """Checks reserved bytes and the size of the second header too, since many texts start with `BM`."""
    return data[:2] == b"BM" and data[6:10] == bytes(4) and int.from_bytes(data[14:18], "little") in _BMP_HEADER_BYTES


def _is_icon(data: bytes) -> bool:
    """Checks icon or cursor: reserved, type, number of images, and the reserved byte of the first one's entry."""
    return (
        data[:4] in (b"\0\0\1\0", b"\0\0\2\0") and 0 < int.from_bytes(data[4:6], "little") < 257 and data[9:10] == b"\0"
    )


def _is_pcx(data: bytes) -> bool:
    """Checks manufacturer, version, run-length coding and bits per plane."""
    return data[:1] == b"\n" and data[2:3] == b"\1" and data[1:2] in _PCX_VERSIONS and data[3:4] in _PCX_DEPTHS


def _is_netpbm(data: bytes) -> bool:
    return data[:1] == b"P" and _NETPBM.match(data) is not None


def _is_tga(data: bytes) -> bool:
    return data[-18:] == b"TRUEVISION-XFILE.\0"


_STRUCTURED_IMAGES: tuple[tuple[Callable[[bytes], bool], str], ...] = (
    (_is_webp, "image/webp"),
    (_is_avif, "image/avif"),
    (_is_bmp, "image/bmp"),
    (_is_icon, "image/x-icon"),
    (_is_pcx, "image/x-pcx"),
    (_is_netpbm, "image/x-portable-anymap"),
    (_is_tga, "image/x-tga"),
)


def _image_type(data: bytes) -> str | None:
    """Returns the type of an image that Pillow reads."""
    for signature, mime in _IMAGE_SIGNATURES:
        if data.startswith(signature):
            return mime
    return next((mime for matches, mime in _STRUCTURED_IMAGES if matches(data)), None)


# --- audio and video -------------------------------------------------------------------------------------------------

_TIMED_SIGNATURES: tuple[tuple[bytes, str, Modality], ...] = (
    (b"ID3", "audio/mpeg", Modality.AUDIO),
    (b"fLaC", "audio/flac", Modality.AUDIO),
    (b".snd", "audio/basic", Modality.AUDIO),
    (b"caff", "audio/x-caf", Modality.AUDIO),
    (b"#!AMR", "audio/amr", Modality.AUDIO),
    (b"wvpk", "audio/x-wavpack", Modality.AUDIO),
    (b"\0\0\1\xba", "video/mpeg", Modality.VIDEO),
    (b"\0\0\1\xb3", "video/mpeg", Modality.VIDEO),
    (b"FLV\1", "video/x-flv", Modality.VIDEO),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "video/x-ms-asf", Modality.VIDEO),
)
_CHUNKED: Mapping[bytes, tuple[str, Modality]] = {
    b"RIFFWAVE": ("audio/wav", Modality.AUDIO),
    b"RIFFAVI ": ("video/x-msvideo", Modality.VIDEO),
    b"FORMAIFF": ("audio/aiff", Modality.AUDIO),
    b"FORMAIFC": ("audio/aiff", Modality.AUDIO),
}
_UNREADABLE_BRANDS: Mapping[bytes, str] = {
    b"heic": "image/heic",
    b"heix": "image/heic",
    b"hevc": "image/heic",
    b"heif": "image/heif",
    b"mif1": "image/heif",
    b"msf1": "image/heif",
    b"crx ": "image/x-canon-cr3",
}
_VIDEO_CODECS_IN_OGG = (b"\x80theora", b"\1video", b"BBCD\0")


def _audio_or_video(data: bytes) -> Sniffed | None:
    """Detects audio and video. A container that can hold either is video if it has a video track."""
    for signature, mime, modality in _TIMED_SIGNATURES:
        if data.startswith(signature):
            return Sniffed(mime, modality)
    chunked = _CHUNKED.get(data[:4] + data[8:12])
    if chunked:
        return Sniffed(*chunked)
    if data[4:8] == b"ftyp":
        return _iso_base_media(data)
    if data[:4] == b"\x1a\x45\xdf\xa3":
        return _matroska(data)
    if data[:4] == b"OggS":
        return _ogg(data)
    return _mpeg_frames(data)


def _ogg(data: bytes) -> Sniffed:
    """Reads the first pages, which name the codecs."""
    if any(codec in data[:4096] for codec in _VIDEO_CODECS_IN_OGG):
        return Sniffed("video/ogg", Modality.VIDEO)
    return Sniffed("audio/ogg", Modality.AUDIO)


def _matroska(data: bytes) -> Sniffed:
    """Searches the track list, which precedes the media in files made for streaming, for codecs such as `V_VP9`."""
    head = data[:_HEAD_BYTES]
    kind = "webm" if b"webm" in head[:64] else "x-matroska"
    if b"A_" in head and b"V_" not in head:
        return Sniffed(f"audio/{kind}", Modality.AUDIO)
    return Sniffed(f"video/{kind}", Modality.VIDEO)


def _iso_base_media(data: bytes) -> Sniffed:
    """Detects MP4 and its family by brand, else by the video handler in its `moov` box (ISO/IEC 14496-12)."""
    brand = data[8:12]
    if brand in _UNREADABLE_BRANDS:
        return Sniffed(_UNREADABLE_BRANDS[brand], None)
    if brand in (b"M4A ", b"M4B ", b"M4P "):
        return Sniffed("audio/mp4", Modality.AUDIO)
    mime = "quicktime" if brand == b"qt  " else "mp4"
    start, end = _box(data, b"moov")
    if start < end and data.find(b"soun", start, end) >= 0 and data.find(b"vide", start, end) < 0:
        return Sniffed("audio/mp4", Modality.AUDIO)
    return Sniffed(f"video/{mime}", Modality.VIDEO)


def _box(data: bytes, name: bytes) -> tuple[int, int]:
    """Returns start and end of the first box of that name at the top level; (0, 0) if there is none."""
    at = 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        if data[at + 4 : at + 8] == name:
            return at, at + size if size else len(data)
        if size < 8:
            break
        at += size
    return 0, 0


def _mpeg_frames(data: bytes) -> Sniffed | None:
    """Detects MPEG without a header: packets of 188 bytes; or AAC and MP3 frames, by fields with forbidden values."""
    if data[:1] == b"\x47" and len(data) > 376 and data[188] == data[376] == 0x47:
        return Sniffed("video/mp2t", Modality.VIDEO)
    if len(data) < 4 or data[0] != 0xFF:
        return None
    if data[1] in (0xF0, 0xF1, 0xF8, 0xF9) and (data[2] >> 2) & 0xF < 13:
        return Sniffed("audio/aac", Modality.AUDIO)
    layer_is_3_or_2 = data[1] & 0xE0 == 0xE0 and data[1] >> 1 & 3 in (1, 2) and data[1] >> 3 & 3 != 1
    if layer_is_3_or_2 and data[2] >> 4 not in (0, 15) and data[2] >> 2 & 3 != 3:
        return Sniffed("audio/mpeg", Modality.AUDIO)
    return None


# --- text ------------------------------------------------------------------------------------------------------------

BOMS: tuple[tuple[bytes, str], ...] = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark is a prefix of it
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROLS = bytes({*range(32), 127} - set(b"\t\n\v\f\r\x1b"))
_CONTROL_SHARE = 0.02  # a stray NUL or bell is dropped later; random bytes have 11 % of these


def looks_like_text(data: bytes) -> bool:
    """Returns whether the head has a byte order mark, is UTF-16 without one, or has almost no control characters."""
    head = data[:_HEAD_BYTES]
    if any(head.startswith(mark) for mark, _ in BOMS) or utf16_without_mark(head):
        return True
    controls = len(head) - len(head.translate(None, _CONTROLS))
    return controls <= _CONTROL_SHARE * len(head) and head[:5] != b"%PDF-"


def utf16_without_mark(head: bytes) -> str | None:
    """Returns `utf-16-le` or `utf-16-be` if nearly every second byte is NUL and almost no other; else None."""
    pairs = len(head) // 2
    if pairs < 2 or head.count(0) < pairs // 2:
        return None
    even, odd = head[0 : 2 * pairs : 2].count(0), head[1 : 2 * pairs : 2].count(0)
    if odd > 0.7 * pairs and even < 0.05 * pairs:
        return "utf-16-le"
    if even > 0.7 * pairs and odd < 0.05 * pairs:
        return "utf-16-be"
    return None


# https://mimesniff.spec.whatwg.org/#identifying-a-resource-with-an-unknown-mime-type, and HTML's newer elements
_HTML_START = re.compile(
    r"(?:<!--(?:(?!-->).){0,4096}-->\s*|<\?xml[^>]*>\s*)*+<(?:!doctype\s+html|html|head|script|iframe|h[1-6]|div|font"
    r"|table|a|style|title|b|body|br|p|article|section|main|nav|header|ul|ol|span|meta|link|img|blockquote)[\s>/]",
    re.IGNORECASE | re.DOTALL,
)
_HTML_DOCUMENT = re.compile(
    r"(?:<!--(?:(?!-->).){0,4096}-->\s*)*+<(?:!doctype\s+html|html)[\s>]", re.IGNORECASE | re.DOTALL
)
_SVG_START = re.compile(
    r"(?:<\?xml[^>]*>|<!--(?:(?!-->).){0,4096}-->|<!doctype\s+svg[^>]*>|\s)*+<(?:\w{1,32}:)?svg[\s>/]",
    re.IGNORECASE | re.DOTALL,
)
_HEADING = re.compile(r"(?:\A|\n[ \t]*\n)#{1,6} \S[^\n]*\n[ \t]*\n")
_MARKDOWN_MARKS = (
    re.compile(r"\]\([^\s()]+\)"),  # a link or image
    re.compile(r"^(?:```|~~~)", re.MULTILINE),  # a fence
    re.compile(r"\*\*[^\s*][^*\n]{0,200}\*\*"),  # bold
    re.compile(r"^[ \t]{0,3}[-*+] \S[^\n]*\n[ \t]{0,3}[-*+] \S", re.MULTILINE),  # a list
    re.compile(r"\n[ \t]*\n#{1,6} \S[^\n]*\n[ \t]*\n[\s\S]*\n[ \t]*\n#{1,6} \S"),  # more headings
)
_DECLARED = {
    "text/html": HTML,
    "application/xhtml+xml": HTML,
    "text/markdown": MARKDOWN,
    "text/x-markdown": MARKDOWN,
    "text/plain": PLAIN,
}


def _kind_of_text(data: bytes, declared: str | None) -> Sniffed:
    head = _head_as_text(data)
    if _SVG_START.match(head):
        return Sniffed("image/svg+xml", None)
    kind = _DECLARED.get((declared or "").partition(";")[0].strip().lower())
    if kind is HTML or _HTML_DOCUMENT.match(head):
        return Sniffed(HTML, Modality.TEXT)
    if kind is MARKDOWN:
        return Sniffed(MARKDOWN, Modality.TEXT)
    if _HTML_START.match(head):
        return Sniffed(HTML, Modality.TEXT)
    if kind is None and _HEADING.search(head) and any(mark.search(head) for mark in _MARKDOWN_MARKS):
        return Sniffed(MARKDOWN, Modality.TEXT)
    return Sniffed(PLAIN, Modality.TEXT)


def _head_as_text(data: bytes) -> str:
    """Decodes the head well enough to find markup, which is ASCII in every charset that matters."""
    head = data[:_HEAD_BYTES]
    charset = next((name for mark, name in BOMS if head.startswith(mark)), None) or utf16_without_mark(head)
    text = head.decode(charset, "replace") if charset else head.decode("utf-8", "replace")
    return text.lstrip().replace("\r\n", "\n")


# --- the rest --------------------------------------------------------------------------------------------------------


def _name_of(data: bytes) -> str:
    """Returns a name for an unsupported type. Signatures of fewer than three bytes match by chance too often."""
    try:
        matches = puremagic.magic_string(data)
    except puremagic.PureError:
        return "application/octet-stream"
    named = [match.mime_type for match in matches if match.mime_type and len(match.byte_match) >= 3]
    return str(named[0]) if named else "application/octet-stream"
