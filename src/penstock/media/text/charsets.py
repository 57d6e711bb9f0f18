"""Decodes the bytes of a text to characters, and rejects it rather than guess its charset wrongly.

The first charset that fits is used, in this order: a byte order mark; UTF-16 without a mark; UTF-8; the charset that
the content type or the markup names, if the bytes decode by it; and, for the many old files that name none, a charset
in which charset-normalizer finds the letter frequencies of a language. All other text is rejected: a text that is shown
and found with wrong letters is worse than a dead letter that gives the reason.
"""

from __future__ import annotations

import codecs
import re

from charset_normalizer import from_bytes
from charset_normalizer.models import CharsetMatch

from penstock.errors import BadInputError, Reason
from penstock.media.types.text import BOMS, utf16_without_mark

_NAMED = re.compile(rb"""(?:charset|encoding)\s*=\s*["']?\s*([a-zA-Z0-9_.:-]{1,40})""", re.IGNORECASE)
_NAMED_WITHIN_BYTES = 1024  # HTML requires it there

# As the WHATWG's Encoding Standard reads these labels, since files with them are mostly of Windows' charsets.
_WHATWG_MEANING = {
    "iso8859-1": "cp1252",
    "ascii": "cp1252",
    "iso8859-9": "cp1254",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
}

_CJK = ("cp932", "euc_jp", "gb18030", "big5", "cp949")
_LEGACY = ("cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "koi8_r", *_CJK)
_SAMPLE_BYTES = 65_536

# Measured on sentences in eleven languages: right guesses have a coherence of 0.43 and above with a chaos of at most
# 0.07; random bytes, UTF-8 with missing bytes, and texts of too few words have a coherence of 0.13 and below.
_MIN_COHERENCE = 0.4
_MAX_CHAOS = 0.1
_MIN_CJK_CHARS = 20  # CJK has no letter frequencies; that all bytes pair up by chance is unlikely from here on


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
    unmarked = utf16_without_mark(data[:_SAMPLE_BYTES])
    if unmarked:
        return _strictly(data, unmarked)
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


def _by_name(data: bytes, declared: str | None) -> str | None:
    """Decodes by the charset that the content type or else the markup names; None if there is none, or it fails."""
    named = _NAMED.search((declared or "").encode()) or _NAMED.search(data[:_NAMED_WITHIN_BYTES])
    if named is None:
        return None
    try:
        codec = codecs.lookup(named[1].decode())
        if not codec._is_text_encoding or codec.name == "utf-8":
            return None
        return data.decode(_WHATWG_MEANING.get(codec.name, codec.name))
    except (LookupError, UnicodeDecodeError):
        return None


def _by_language(data: bytes, first_bad: int) -> str | None:
    """Decodes by the charset in which the bytes look most like a language; None if that is not clear."""
    start = max(0, first_bad - _SAMPLE_BYTES // 2)
    if _is_damaged_utf8(data):
        return None
    matches = from_bytes(
        data[start : start + _SAMPLE_BYTES],
        cp_isolation=list(_LEGACY),
        enable_fallback=False,
        preemptive_behaviour=False,
    )
    sure = [match for match in matches if _is_sure(match)]
    if not sure:
        return None
    charset = _western_if_as_good(sure)
    try:
        return data.decode(charset)
    except UnicodeDecodeError:
        return None


def _is_damaged_utf8(data: bytes) -> bool:
    """Returns whether most bytes above ASCII are valid UTF-8: then the text is UTF-8 with a fault."""
    non_ascii = len(data) - len(data.translate(None, bytes(range(128, 256))))
    valid = sum(len(char.encode()) for char in re.findall(r"[^\0-\x7f]", data.decode("utf-8", "ignore")))
    return valid * 2 > non_ascii


def _is_sure(match: CharsetMatch) -> bool:
    if match.chaos > _MAX_CHAOS:
        return False
    if match.encoding in _CJK:
        return len(re.findall(r"[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7a3]", str(match))) >= _MIN_CJK_CHARS
    return match.coherence >= _MIN_COHERENCE


def _western_if_as_good(sure: list[CharsetMatch]) -> str:
    """Prefers Windows-1252 if it is as coherent as the best: for most Western texts several charsets are."""
    best = sure[0]
    for match in sure:
        if match.coherence >= best.coherence and "cp1252" in (
            match.encoding,
            *(same.encoding for same in match.submatch),
        ):
            return "cp1252"
    return best.encoding
