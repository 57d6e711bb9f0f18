"""Reads the word lists of the check: stop words, negations and opposites, by language."""

from __future__ import annotations

import functools
import importlib.resources
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import regex

from penstock.analysis import terms
from penstock.analysis.folding import fold

_FOLDER = Path(__file__).parent
_ENGLISH = "en"
_FREQUENCIES = "frequency_dictionary_en_82_765.txt"  # of symspellpy: a word and its frequency a line, descending
_COMMON_WORDS = 2_500


def stem(word: str) -> str:
    """Returns the term of one folded word of a script with spaces."""
    roots = terms(word)
    return roots[0] if roots else word


@dataclass(frozen=True, slots=True)
class Lexicon:
    """The words of one language, with those of English, which answers often mix in.

    Attributes:
        stop: folded words that claim nothing.
        light: folded words that claim little.
        negations: folded words that negate.
        inside: negations inside words of scripts without spaces.
        affirming: phrases with a negation that negate nothing.
        negating: phrases without one that negate.
    """

    stop: frozenset[str]
    light: frozenset[str]
    negations: frozenset[str]
    inside: tuple[str, ...]
    affirming: regex.Pattern[str]
    negating: regex.Pattern[str]


@functools.cache
def lexicon(language: str | None) -> Lexicon:
    """Returns the words of a language, ISO 639-1. One without lists, or None, has those of English."""
    lists = _lists()
    languages = {language or _ENGLISH, _ENGLISH}

    def words(kind: str, among: set[str]) -> frozenset[str]:
        return frozenset(word for name in among for word in lists.get((kind, name), "").split())

    own = {language} if language and ("stop", language) in lists else {_ENGLISH}
    return Lexicon(
        words("stop", own),
        words("light", own),
        words("negation", own if language != "de" else {"de"}) or words("negation", languages),
        tuple(words("inside", {language or ""})),
        _phrases(lists[("affirms", "")]),
        _phrases(lists[("negates", "")]),
    )


@functools.cache
def common_words() -> frozenset[str]:
    """Returns the most frequent English words, folded, which texts on anything share."""
    lines = importlib.resources.files("symspellpy").joinpath(_FREQUENCIES).read_text("utf-8-sig")
    return frozenset(fold(line.partition(" ")[0]) for line in lines.split("\n", _COMMON_WORDS)[:_COMMON_WORDS])


@functools.cache
def opposites() -> Mapping[str, frozenset[str]]:
    """Returns the opposites of each stem that has any."""
    pairs: dict[str, set[str]] = {}
    for line in _lines("opposites.txt"):
        left, _, right = line.partition(":")
        lefts, rights = _stems(left), _stems(right)
        for stems, against in ((lefts, rights), (rights, lefts)):
            for word in stems:
                pairs.setdefault(word, set()).update(against - {word})
    return {word: frozenset(against) for word, against in pairs.items()}


def _stems(words: str) -> set[str]:
    return {stem(fold(word).strip()) for word in words.split(",")}


def _phrases(listed: str) -> regex.Pattern[str]:
    phrases = sorted((phrase.strip() for phrase in listed.split(",")), key=len, reverse=True)
    return regex.compile(r"\b(?:" + "|".join(phrase.replace(" ", r"\s+") for phrase in phrases) + r")\b")


@functools.cache
def _lists() -> Mapping[tuple[str, str], str]:
    """Returns the lists of stop words and negations by kind and language."""
    lists: dict[tuple[str, str], str] = {}
    for file in ("stop_words.txt", "negations.txt"):
        for line in _lines(file):
            head, _, words = line.partition(":")
            kind, _, language = head.strip().partition(" ")
            lists[(kind, language)] = f"{lists.get((kind, language), '')} {words.strip()}".strip()
    return lists


def _lines(file: str) -> Iterator[str]:
    for line in (_FOLDER / file).read_text("utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            yield line
