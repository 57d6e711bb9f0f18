"""Finds the markers of citations in a text, such as `[1]`, `[1, 2]`, `[1-3]` and `[source 2]`."""

from __future__ import annotations

import regex

MAX_MARKER_CHARS = 60  # an opening bracket with more text behind it begins no marker
MAX_NUMBERS = 20  # of one marker, so that `[1-999]` cites no thousand sources

_NUMBER = r"\p{Nd}{1,3}"  # four digits are a year
_GAP = r"[^\S\n]*"  # a marker stays on its line
_RANGE = rf"{_NUMBER}(?:{_GAP}[-–—]{_GAP}{_NUMBER})?"
_WORD = rf"(?:(?:sources?|quellen?|fuentes?|doc(?:ument)?s?|refs?|来源|出典)\.?{_GAP})?[\^#]?"
_LIST = rf"{_WORD}{_RANGE}(?:{_GAP}(?:[,;，、&]|and){_GAP}{_WORD}{_RANGE})*"
MARKER = regex.compile(rf"\[{_GAP}{_LIST}{_GAP}\]|【{_GAP}{_LIST}{_GAP}(?:†[^】\n]{{0,40}})?】", regex.IGNORECASE)
"""One marker, with its brackets."""

_RANGES = regex.compile(rf"({_NUMBER})(?:{_GAP}[-–—]{_GAP}({_NUMBER}))?")
_NO_BRACKETS = str.maketrans("[]【】", "()()")
_BEFORE_MARK = regex.compile(r"\s+(?=[.,;:!?…。！？，、؟])")
_SPACES = regex.compile(r"[^\S\n]{2,}")


def cited_numbers(marker: str) -> list[int]:
    """Returns the numbers of a marker, as it has them; a range gives each of its numbers."""
    inside = marker.partition("†")[0]
    numbers: list[int] = []
    for first, last in _RANGES.findall(inside):
        low, high = int(first), int(last or first)
        numbers.extend(range(low, high + 1) if low <= high else (low, high))
    return numbers[:MAX_NUMBERS]


def without_markers(text: str) -> tuple[str, tuple[int, ...]]:
    """Returns a text without its markers, and their distinct numbers in order."""
    numbers: dict[int, None] = {}
    for match in MARKER.finditer(text):
        numbers.update(dict.fromkeys(cited_numbers(match[0])))
    if not numbers:
        return text.strip(), ()
    bare = _BEFORE_MARK.sub("", MARKER.sub(" ", text))
    if MARKER.search(bare) is not None:  # one stood within another: `[1[2]]`
        bare = bare.translate(_NO_BRACKETS)
    return _SPACES.sub(" ", bare).strip(), tuple(numbers)


def may_begin_marker(text: str) -> bool:
    """Returns whether a text, of which more may follow, may begin with a marker that is not complete yet."""
    return text[:1] in ("[", "【") and len(text) < MAX_MARKER_CHARS and not any(mark in text for mark in "]】\n")
