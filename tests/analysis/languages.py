"""Ten texts and fifty words of each of eight languages, and which texts have a word literally."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_SPACED = ("hi", "ru", "de")  # whose words stand between spaces; in Arabic other words are written together with them


@dataclass(frozen=True)
class Language:
    """The texts of a language, and words that occur in them, as tools/language_words.py chose them."""

    code: str
    texts: list[str]
    words: list[str]

    def containing(self, word: str) -> set[int]:
        """Returns the numbers of the texts in which the word is literally."""
        found_in = (re.split(r"[\s,.:।]+", text) if self.code in _SPACED else text for text in self.texts)
        return {number for number, text in enumerate(found_in) if word in text}


def languages() -> Iterator[Language]:
    content = json.loads(Path(__file__).with_name("languages.json").read_text(encoding="utf-8"))
    return (Language(code, language["texts"], language["words"]) for code, language in content.items())
