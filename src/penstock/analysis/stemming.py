"""Stems words by the stemmer of their script, since the language of a single word is unknown.

A stemmer made for another language of the script does no harm to literal matches: text and question pass the same one.
Latin words pass the English stemmer and then lose an ending of other European languages, such as the plural of Tomaten.
"""

from __future__ import annotations

import re
import threading

from Stemmer import Stemmer

# Snowball's algorithms by ranges of code points, after folding. Only those that were measured to help.
_ALGORITHMS = (
    (range(0x0400, 0x0530), "russian"),
    (range(0x0900, 0x0980), "hindi"),
)
_LATIN = range(0x0061, 0x0250)
_EUROPEAN_ENDING = re.compile(r"(?<=\w{4})(?:es|en|er|em|as|os|[esnaoi])$")
# Words whose stems are kept: a stem costs 1 µs, its look-up 0.05 µs, and a few thousand words make up most texts.
_MAX_WORDS = 100_000
MAX_LETTERS = 64  # the rest of longer ones, such as keys and encoded data, is not searched for


class Stems(dict[str, str]):
    """The stem of each folded word, worked out when the word is first seen. Safe to use from several threads."""

    def __init__(self) -> None:
        super().__init__()
        self._english = Stemmer("english")
        self._stemmers = [(points, Stemmer(algorithm)) for points, algorithm in _ALGORITHMS]
        self._lock = threading.Lock()  # a stemmer serves one thread at a time

    def __missing__(self, word: str) -> str:
        if len(word) > MAX_LETTERS:
            return self[word[:MAX_LETTERS]]
        with self._lock:
            if len(self) >= _MAX_WORDS:
                self.clear()
            stem = self[word] = self._stem(word)
        return stem

    def _stem(self, word: str) -> str:
        first = ord(word[0])
        if first in _LATIN:
            return _EUROPEAN_ENDING.sub("", self._english.stemWord(word))
        for points, stemmer in self._stemmers:
            if first in points:
                return str(stemmer.stemWord(word))
        return word
