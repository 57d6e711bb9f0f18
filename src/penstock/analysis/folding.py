"""Folds spellings that a question need not repeat: case, width, accents, vowel points, forms of a letter, digits."""

from __future__ import annotations

import unicodedata

# Letters without a decomposition that keyboards of other languages lack, as ASCII.
_LATIN = {"ø": "o", "đ": "d", "ð": "d", "ħ": "h", "ı": "i", "ł": "l", "ŧ": "t", "æ": "ae", "œ": "oe", "þ": "th"}
# Forms of one letter that writers exchange; ي and ك have other code points on Persian keyboards.
_ARABIC = {"آ": "ا", "أ": "ا", "إ": "ا", "ٱ": "ا", "ى": "ي", "ی": "ي", "ک": "ك", "ة": "ه", "ـ": ""}
_CYRILLIC = {"ё": "е"}
_DEVANAGARI = {"ँ": "ं", "\u093c": ""}  # the two signs of nasal vowels; nukta, which is often left out
_LETTERS = {ord(letter): folded for letter, folded in {**_LATIN, **_ARABIC, **_CYRILLIC, **_DEVANAGARI}.items()}

# Marks that are left out or not, by writer: accents, Hebrew points, Arabic vowels and Koranic signs.
_OPTIONAL_MARKS = (range(0x0300, 0x0370), range(0x0591, 0x05C8), range(0x0610, 0x061B), range(0x064B, 0x0660),
                   range(0x0670, 0x0671), range(0x06D6, 0x06EE))  # fmt: skip
_ACCENTED_SCRIPTS = ("LATIN", "GREEK")


class _Folding(dict[int, str]):
    """The folded form of each character, worked out when it is first seen."""

    def __missing__(self, code_point: int) -> str:
        folded = self[code_point] = _folded(chr(code_point))
        return folded


def _folded(char: str) -> str:
    category = unicodedata.category(char)
    if category == "Nd":
        return str(unicodedata.decimal(char))
    if category == "Cf":  # soft hyphens, joiners, and spaces of no width between words of Thai and Khmer
        return ""
    if category == "Mn" and any(ord(char) in marks for marks in _OPTIONAL_MARKS):
        return ""
    if category.startswith("L") and unicodedata.name(char, "").startswith(_ACCENTED_SCRIPTS):
        return "".join(part for part in unicodedata.normalize("NFD", char) if unicodedata.category(part) != "Mn")
    return char if category[0] in "LMN" else " "


_FOLDING = _Folding(_LETTERS)


def fold(text: str) -> str:
    """Returns the letters, marks and digits of a text in NFKC and lower case, anything else as white space."""
    if text.isascii():
        return text.lower().translate(_FOLDING)
    return unicodedata.normalize("NFKC", text).casefold().translate(_FOLDING)
