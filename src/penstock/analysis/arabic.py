"""Stems Arabic words lightly, and finds words behind a conjunction or preposition that is written with them.

After light10 (Larkey, Ballesteros and Connell, 2007), except that a conjunction or preposition without an article
stays: ورده is a rose and not "and" with something else. A text gives the word behind it as a further term.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from penstock.analysis.stemming import MAX_LETTERS

_ARTICLE = re.compile(r"^[وف]?(?:[بك]?ال|لل)(?=\w{2})")
_SUFFIXES = ("ها", "ان", "ات", "ون", "ين", "يه", "ه", "ي")
_ONE_LETTER = "وفبكل"  # and, so, with, like, for
_MIN_STEM, _MIN_BEHIND = 2, 3  # letters that remain


def text_terms(word: str) -> Iterator[str]:
    """Yields the stems of a folded word in a text, and of a word behind its first letter."""
    word = word[:MAX_LETTERS]
    plain = _ARTICLE.sub("", word, count=1)
    yield _without_endings(plain)
    if plain == word and word[0] in _ONE_LETTER and len(word) > _MIN_BEHIND:
        yield _without_endings(word[1:])


def query_terms(word: str) -> Iterator[str]:
    """Yields the term of a folded word in a question: its stem, without article and endings."""
    yield _without_endings(_ARTICLE.sub("", word[:MAX_LETTERS], count=1))


def _without_endings(word: str) -> str:
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= _MIN_STEM:
            word = word.removesuffix(suffix)
    return word
