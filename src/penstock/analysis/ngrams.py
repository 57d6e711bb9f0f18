"""Cuts runs of scripts without spaces into n-grams, which agree with any segmenter of words.

A dictionary would cut words more precisely, but a question and a text would have to be cut alike, and a word inside a
clause is not. A text gives n-grams of all lengths, a question only those that say most:

- Han: bigrams. Most words have two characters.
- kana, Thai, Lao, Khmer, Burmese: trigrams, since two of their letters say little; together with Han bigrams.
- Korean words: bigrams, which find a noun before its particles, and the whole word.
- a question that is shorter gives what it has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import regex

# Letters that belong together wherever words begin and end: vowels written before or after their consonant (Thai, Lao),
# letters stacked below another (Khmer, Burmese), and marks.
_SYLLABLE = regex.compile(
    r"[\u0e40-\u0e44\u0ec0-\u0ec4]*\p{L}(?:[\u17d2\u1039]\p{L}|\p{M}|[\u0e30\u0e32\u0e45\u0eb0\u0eb2])*"
)
_MAX_SYLLABLES = 64  # of a Korean word that is a term as a whole
_FIRST_HAN = 0x3400  # kana, their marks and Bopomofo lie below


def text_cjk(run: str) -> Iterator[str]:
    """Yields the terms of a run of Han and kana in a text."""
    yield from run
    yield from map("".join, pairwise(run))
    for start in range(len(run) - 2):
        gram = run[start : start + 3]
        if _are_kana(gram[:2]) or _are_kana(gram[1:]):
            yield gram


def query_cjk(run: str) -> Iterator[str]:
    """Yields the terms of a run of Han and kana in a question."""
    if len(run) < 3:
        yield run
        return
    for start in range(len(run) - 1):
        pair = run[start : start + 2]
        if not _are_kana(pair):
            yield pair
        elif start + 2 < len(run):
            yield run[start : start + 3]
        elif not _are_kana(run[start - 1 : start + 1]):
            yield run[start - 1 :]


def text_syllables(run: str) -> Iterator[str]:
    """Yields the terms of a run of Thai, Lao, Khmer or Burmese in a text. A lone consonant is none."""
    syllables = _SYLLABLE.findall(run)
    yield from (syllable for syllable in syllables if len(syllable) > 1)
    yield from _grams(syllables, 2)
    yield from _grams(syllables, 3)


def query_syllables(run: str) -> Iterator[str]:
    """Yields the terms of a run of Thai, Lao, Khmer or Burmese in a question."""
    syllables = _SYLLABLE.findall(run)
    if len(syllables) == 1:
        yield from (syllable for syllable in syllables if len(syllable) > 1)
    else:
        yield from _grams(syllables, min(3, len(syllables)))


def text_hangul(run: str) -> Iterator[str]:
    """Yields the terms of a Korean word in a text."""
    yield from run
    yield from map("".join, pairwise(run))
    if 2 < len(run) <= _MAX_SYLLABLES:
        yield run


def query_hangul(run: str) -> Iterator[str]:
    """Yields the terms of a Korean word in a question."""
    if len(run) > 2:
        yield from map("".join, pairwise(run))
    if len(run) <= _MAX_SYLLABLES:
        yield run


def _grams(units: Sequence[str], length: int) -> Iterator[str]:
    return ("".join(units[start : start + length]) for start in range(len(units) - length + 1))


def _are_kana(pair: str) -> bool:
    return ord(pair[0]) < _FIRST_HAN and ord(pair[1]) < _FIRST_HAN
