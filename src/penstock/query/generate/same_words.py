"""The words that may stand for each other when a sentence is compared with a question."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from penstock.analysis import terms

_FILE = Path(__file__).with_name("same_words.txt")
_NOT = "not:"
_MIN_COMMON = 5  # letters that two forms of a word have in common: conduct, conductor


def has(term: str, words: frozenset[str]) -> bool:
    """Returns whether terms of a text have a term of a question, or another form of it, or a synonym."""
    if term in words or not words.isdisjoint(_same().get(term, frozenset())):
        return True
    return any(_begin_alike(term, word) for word in words)


def has_opposite(term: str, words: frozenset[str]) -> bool:
    """Returns whether terms of a text have the opposite of a term of a question, and not the term."""
    return not words.isdisjoint(_opposites().get(term, frozenset())) and not has(term, words)


def _begin_alike(term: str, word: str) -> bool:
    shorter = min(len(term), len(word))
    return shorter >= _MIN_COMMON and term[:shorter] == word[:shorter]


@cache
def _groups() -> tuple[tuple[frozenset[str], frozenset[str]], ...]:
    """Returns the groups of the file, each with the opposites of its words, as terms."""
    lines = [line for line in _FILE.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    parts = [line.partition(_NOT) for line in lines]
    return tuple((frozenset(terms(same)), frozenset(terms(opposite))) for same, _, opposite in parts)


@cache
def _same() -> Mapping[str, frozenset[str]]:
    return _by_term({term: same for same, _ in _groups() for term in same}, 0)


@cache
def _opposites() -> Mapping[str, frozenset[str]]:
    return _by_term({term: same for same, _ in _groups() for term in same}, 1)


def _by_term(known: Mapping[str, frozenset[str]], place: int) -> Mapping[str, frozenset[str]]:
    """Returns for each term the words of all its groups, or their opposites."""
    return {term: frozenset().union(*(group[place] for group in _groups() if term in group[0])) for term in known}
