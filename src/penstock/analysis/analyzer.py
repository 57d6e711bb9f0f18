"""Cuts a folded text into words, and the words of scripts without spaces further into n-grams."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import regex

from penstock.analysis import arabic, ngrams
from penstock.analysis.folding import fold
from penstock.analysis.stemming import Stems

# Recorded with each collection; texts and questions can be compared only if both were analysed by the same. Change it
# with every change of a term of any text.
ANALYZER = "words-1"

_CJK = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\u30fc"
_SYLLABIC = r"\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_WITHOUT_STEMMER = rf"{_CJK}{_SYLLABIC}\p{{Hangul}}\p{{Arabic}}"
_ANY = regex.compile(rf"[{_WITHOUT_STEMMER}]")
_RUN = regex.compile(
    rf"(?P<cjk>[{_CJK}]+)|(?P<hangul>\p{{Hangul}}+)|(?P<syllabic>[{_SYLLABIC}]+)|(?P<arabic>\p{{Arabic}}+)"
    rf"|(?P<word>[^{_WITHOUT_STEMMER}]+)"
)
_STEMS = Stems()
_Terms = Callable[[str], Iterator[str]]
_OF_TEXT: Mapping[str, _Terms] = {
    "cjk": ngrams.text_cjk,
    "hangul": ngrams.text_hangul,
    "syllabic": ngrams.text_syllables,
    "arabic": arabic.text_terms,
}
_OF_QUERY: Mapping[str, _Terms] = {
    "cjk": ngrams.query_cjk,
    "hangul": ngrams.query_hangul,
    "syllabic": ngrams.query_syllables,
    "arabic": arabic.query_terms,
}


def terms(text: str) -> list[str]:
    """Returns the terms of a text, in no particular order and with repetitions."""
    return _analyse(text, _OF_TEXT)


def query_terms(text: str) -> list[str]:
    """Returns the terms of a question: some of `terms` of the same text."""
    return _analyse(text, _OF_QUERY)


def _analyse(text: str, of_script: Mapping[str, _Terms]) -> list[str]:
    words = fold(text)
    if words.isascii() or not _ANY.search(words):
        return list(map(_STEMS.__getitem__, words.split()))
    analysed: list[str] = []
    for word in words.split():
        for run in _RUN.finditer(word):
            kind = run.lastgroup or ""
            if kind == "word":
                analysed.append(_STEMS[run[0]])
            else:
                analysed.extend(of_script[kind](run[0]))
    return analysed
