"""The words of a language that are right although no text of the index has them."""

from __future__ import annotations

import functools
import importlib.resources
from collections.abc import Set
from pathlib import Path

from penstock.analysis.folding import fold
from penstock.errors import ConfigError

ENGLISH = "en"
_ENGLISH_FILE = "frequency_dictionary_en_82_765.txt"  # of symspellpy: a word and its frequency a line


@functools.cache
def english_words() -> frozenset[str]:
    """Returns 82,765 English words, folded; 10 MB. The other languages of the alphabets have no such list here."""
    lines = importlib.resources.files("symspellpy").joinpath(_ENGLISH_FILE).read_text("utf-8-sig").splitlines()
    return frozenset(fold(line.partition(" ")[0]) for line in lines)


def read_words(file: Path | None) -> frozenset[str]:
    """Returns the words of a file, one a line, folded; none without a file.

    Raises:
        ConfigError: the file cannot be read.
    """
    if file is None:
        return frozenset()
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"the words of query.dictionary cannot be read: {exc}") from exc
    return frozenset(word for line in text.splitlines() for word in fold(line).split())


class Dictionary:
    """The general dictionary: English words, and those of a file in any languages.

    Args:
        further: folded words that are right in every language.
        english: folded English words; None: those that symspellpy ships.
    """

    def __init__(self, further: Set[str] = frozenset(), english: Set[str] | None = None) -> None:
        self._further = further
        self._english = english_words() if english is None else english

    def knows(self, word: str, language: str | None) -> bool:
        """Returns whether a folded word is right in a language, which None leaves open."""
        return word in self._further or (language in (None, ENGLISH) and word in self._english)
