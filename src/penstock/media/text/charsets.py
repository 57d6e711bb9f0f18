"""Decodes the bytes of a text to characters, and rejects it rather than guess its charset wrongly.

The first charset that fits is used, in this order: a byte order mark; UTF-16 without a mark; the 7-bit charsets of East
Asia, by their escapes; UTF-8; the charset that the content type or the markup names, if the bytes decode by it; and,
for the many old files that name none, the charset in which chardet is sure enough of a language. All other text is
rejected: a text that is shown and found with wrong letters is worse than a dead letter that gives the reason.
"""

from __future__ import annotations

import codecs
import re

import chardet
import webencodings

from penstock.errors import BadInputError, Reason
from penstock.media.types.text import BOMS, utf16_without_mark

_NAMED = re.compile(rb"""(?:charset|encoding)\s*=\s*["']?\s*([a-zA-Z0-9_.:-]{1,40})""", re.IGNORECASE)
_NAMED_WITHIN_BYTES = 1024  # HTML requires it there
_NAMED_BY_META = re.compile(rb"""<meta\b[^>]{0,200}charset\s*=\s*["']?\s*([a-zA-Z0-9_.:-]{1,40})""", re.IGNORECASE)
_SAMPLE_BYTES = 65_536

# Python's stricter codecs of these charsets lack characters that files with these labels have, as the WHATWG notes.
_WIDER_CODECS = {
    "shift_jis": "cp932",
    "euc-kr": "cp949",
    "gbk": "gb18030",
    "gb2312": "gb18030",
    "gb18030": "gb18030",
}

# Names that Python has for other notations, and UTF-8, which was tried.
_NO_CHARSETS = frozenset(("utf-8", "undefined", "unicode-escape", "raw-unicode-escape", "idna", "punycode"))

# What chardet may answer: the charsets of the web and of files from Unix and Windows. It knows more, of mainframes,
# early Macs and DOS, for which it takes odd bytes.
_ERAS = chardet.EncodingEra.MODERN_WEB | chardet.EncodingEra.LEGACY_ISO
# 98 % of 1,800 texts in 12 languages and 15 charsets, 40 to 2,000 characters long, reach this, and none of them is
# wrong. Nearly all of the others are.
_MIN_CONFIDENCE = 0.1


def decode_charset(data: bytes, *, declared: str | None) -> str:
    """Returns the text, without byte order mark.

    Args:
        data: the bytes.
        declared: the producer's content type; its `charset` is tried if the bytes are not Unicode.

    Raises:
        BadInputError: CORRUPT, naming the offset of the first byte that is not of the charset.
    """
    for mark, charset in BOMS:
        if data.startswith(mark):
            return _strictly(data, charset)
    unmarked = utf16_without_mark(data[:_SAMPLE_BYTES], declared)
    if unmarked:
        return _strictly(data, unmarked)
    escaped = _by_escapes(data)
    if escaped is not None:
        return escaped
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as exc:
        text = _by_name(data, declared) or _by_language(data, exc.start)
        if text is None:
            raise BadInputError(Reason.CORRUPT, _not_utf8(exc)) from exc
        return text


def _strictly(data: bytes, charset: str) -> str:
    try:
        return data.decode(charset)
    except UnicodeDecodeError as exc:
        detail = f"not valid {charset.upper()}, which its first bytes indicate: {exc.reason} at byte {exc.start:,}"
        raise BadInputError(Reason.CORRUPT, detail) from exc


def _not_utf8(exc: UnicodeDecodeError) -> str:
    byte = exc.object[exc.start]
    return (
        f"not UTF-8: {exc.reason}, 0x{byte:02x} at byte {exc.start:,}, and no other charset fits with certainty; "
        "send UTF-8, or name the charset in the content type"
    )


# --- 7-bit charsets --------------------------------------------------------------------------------------------------

_ISO_2022 = re.compile(rb"\x1b(?:\$[@ABC]|\$[()][A-Z]|\([IJ])")
_ISO_2022_CODECS = ("iso2022_jp", "iso2022_jp_2", "iso2022_jp_ext")
_SHIFT_OUT = b"\x0e"  # between Korean and Latin letters, which only the Korean charset does
_HZ = re.compile(rb"~\{(?:[\x21-\x77][\x21-\x7e]){2,}~\}")


def _by_escapes(data: bytes) -> str | None:
    """Decodes text whose escapes say that letters stand for other characters; None if it has none.

    As UTF-8 it would be valid, and the letters would be indexed. ISO-2022's escapes are control characters and mean
    nothing else; HZ's are printable, so its pairs have to decode.

    Raises:
        BadInputError: CORRUPT, for escapes of ISO-2022 in a text that no charset of that family decodes.
    """
    if _ISO_2022.search(data) is not None:
        for codec in ("iso2022_kr",) if _SHIFT_OUT in data else _ISO_2022_CODECS:
            try:
                return data.decode(codec)
            except UnicodeDecodeError:
                continue
        raise BadInputError(
            Reason.CORRUPT, "has escape sequences of ISO-2022 and does not decode by it; send UTF-8 instead"
        )
    if _HZ.search(data) is not None and data.isascii():
        try:
            return data.decode("hz")
        except UnicodeDecodeError:
            return None
    return None


# --- named charsets --------------------------------------------------------------------------------------------------


def _by_name(data: bytes, declared: str | None) -> str | None:
    """Decodes by the charset that the content type or else the markup names; None if there is none, or it fails."""
    named = (
        _NAMED.search((declared or "").encode())
        or _NAMED.search(data[:_NAMED_WITHIN_BYTES])
        or _NAMED_BY_META.search(data[:_SAMPLE_BYTES])
    )
    codec = None if named is None else _codec(named[1].decode())
    if codec is None:
        return None
    try:
        return data.decode(codec)
    except (LookupError, UnicodeError):
        return None


def _codec(label: str) -> str | None:
    """Returns Python's name of the charset that a label means on the web, or to Python; None if to neither."""
    known = webencodings.lookup(label)
    if known is not None:
        name = _WIDER_CODECS.get(known.name, known.codec_info.name)
        return None if name == "utf-8" else name
    try:
        info = codecs.lookup(label)
    except LookupError:
        return None
    return info.name if info._is_text_encoding and info.name not in _NO_CHARSETS else None


# --- charsets by language --------------------------------------------------------------------------------------------


def _by_language(data: bytes, first_bad: int) -> str | None:
    """Decodes by the charset in which the bytes look most like a language; None if that is not clear."""
    if _is_damaged_utf8(data):
        return None
    start = max(0, first_bad - _SAMPLE_BYTES // 2)
    guess = chardet.detect(data[start : start + _SAMPLE_BYTES], encoding_era=_ERAS)
    charset = guess["encoding"]
    if charset is None or guess["confidence"] < _MIN_CONFIDENCE:
        return None
    codec = _codec(charset)
    if codec is None:
        return None
    try:
        return data.decode(codec)
    except (LookupError, UnicodeDecodeError):
        return None


def _is_damaged_utf8(data: bytes) -> bool:
    """Returns whether most bytes above ASCII are valid UTF-8: then the text is UTF-8 with a fault."""
    non_ascii = len(data) - len(data.translate(None, bytes(range(128, 256))))
    valid = sum(len(char.encode()) for char in re.findall(r"[^\0-\x7f]", data.decode("utf-8", "ignore")))
    return valid * 2 > non_ascii
