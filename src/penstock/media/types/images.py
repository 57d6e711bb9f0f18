"""The types of the images that Pillow reads.

Where a signature has only printable characters, with which a text may begin as well, further fields of the header are
checked. `media.sniff` does not ask for text that is text beyond doubt, except `plain_image_type`: some formats are
written in ASCII.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"II+\0", "image/tiff"),
    (b"MM\0+", "image/tiff"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "image/jp2"),
    (b"\xff\x4f\xff\x51", "image/jp2"),
    (b"8BPS\0\x01", "image/vnd.adobe.photoshop"),
    (b"DDS \x7c\0\0\0", "image/vnd.ms-dds"),
    (b"icns\0", "image/x-icns"),
    (b"\x01\xda\0", "image/sgi"),
    (b"\x01\xda\x01", "image/sgi"),
    (b"\x59\xa6\x6a\x95", "image/x-sun-raster"),
)
_NETPBM = re.compile(rb"P[1-6]\s(?:\s|#[^\n]*+\n)*+\d{1,9}\s++\d{1,9}\s")
# In ASCII the samples are numbers, and nothing but comments stands between them.
_PLAIN_NETPBM = re.compile(rb"P[1-3]\s(?:[\d\s]|#[^\n]*(?:\n|\Z))*+\Z")
_XPM = re.compile(rb"/\* XPM \*/\s*+(?:/\*(?:(?!\*/).)*+\*/\s*+)*+static\b", re.DOTALL)
_BMP_HEADER_BYTES = frozenset((12, 16, 40, 52, 56, 64, 108, 124))  # the sizes of its second header over the versions
_PCX_VERSIONS = (b"\0", b"\2", b"\3", b"\5")
_PCX_DEPTHS = (b"\1", b"\2", b"\4", b"\x08")
_GIF_HEADER_BYTES = 13


def image_type(head: bytes, tail: bytes) -> str | None:
    """Returns the type of an image that Pillow reads; None if it is none.

    Args:
        head: the first bytes, 64 KiB or all.
        tail: the last 18 bytes.
    """
    for signature, mime in _SIGNATURES:
        if head.startswith(signature):
            return mime
    if tail == b"TRUEVISION-XFILE.\0":
        return "image/x-tga"
    return next((mime for matches, mime in _STRUCTURED if matches(head)), None)


def plain_image_type(head: bytes) -> str | None:
    """Returns the type of an image that is written in ASCII; None for any other text."""
    if _PLAIN_NETPBM.match(head) and _NETPBM.match(head):
        return "image/x-portable-anymap"
    return "image/x-xpixmap" if _XPM.match(head) else None


def _is_gif(head: bytes) -> bool:
    return head[:6] in (b"GIF87a", b"GIF89a") and len(head) >= _GIF_HEADER_BYTES


def _is_webp(head: bytes) -> bool:
    return head[:4] == b"RIFF" and head[8:12] == b"WEBP"


def _is_qoi(head: bytes) -> bool:
    """Checks channels and colour space."""
    return head[:4] == b"qoif" and head[12:13] in (b"\3", b"\4") and head[13:14] in (b"\0", b"\1")


def _is_bmp(head: bytes) -> bool:
    """Checks reserved bytes and the size of the second header too, since many texts start with `BM`."""
    return head[:2] == b"BM" and head[6:10] == bytes(4) and int.from_bytes(head[14:18], "little") in _BMP_HEADER_BYTES


def _is_icon(head: bytes) -> bool:
    """Checks icon or cursor: reserved, type, number of images, and the reserved byte of the first one's entry."""
    return (
        head[:4] in (b"\0\0\1\0", b"\0\0\2\0") and 0 < int.from_bytes(head[4:6], "little") < 257 and head[9:10] == b"\0"
    )


def _is_pcx(head: bytes) -> bool:
    """Checks manufacturer, version, run-length coding and bits per plane."""
    return head[:1] == b"\n" and head[2:3] == b"\1" and head[1:2] in _PCX_VERSIONS and head[3:4] in _PCX_DEPTHS


def _is_netpbm(head: bytes) -> bool:
    return head[:1] == b"P" and _NETPBM.match(head) is not None


_STRUCTURED: tuple[tuple[Callable[[bytes], bool], str], ...] = (
    (_is_gif, "image/gif"),
    (_is_webp, "image/webp"),
    (_is_qoi, "image/qoi"),
    (_is_bmp, "image/bmp"),
    (_is_icon, "image/x-icon"),
    (_is_pcx, "image/x-pcx"),
    (_is_netpbm, "image/x-portable-anymap"),
)
