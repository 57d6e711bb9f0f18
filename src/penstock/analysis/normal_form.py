"""Gives texts that look the same the same characters, as they are indexed and as they are searched for."""

from __future__ import annotations

import re
import unicodedata

# Soft hyphens, spaces and joiners of no width, and byte order marks within a text. The joiners that change how letters
# of Persian, of India or of emoji look (U+200C and U+200D) and the marks of direction are no such characters.
_INVISIBLE = re.compile("[\u00ad\u034f\u180e\u200b\u2060\u2061-\u2064\ufeff]")
# Letters and digits as wide as ideographs, and katakana of half their width. Punctuation stays: it ends sentences.
_OTHER_WIDTH = re.compile("[\uff10-\uff19\uff21-\uff3a\uff41-\uff5a\uff66-\uff9f]+")


def normal_form(text: str) -> str:
    """Returns a text in NFC, without invisible characters, with letters and digits in their usual width."""
    if text.isascii():
        return text
    visible = _INVISIBLE.sub("", text)
    usual = _OTHER_WIDTH.sub(lambda match: unicodedata.normalize("NFKC", match[0]), visible)
    return unicodedata.normalize("NFC", usual)
