"""Completes what a user types, by the words and titles of the tenant's index. Looks up arrays; no store is called."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from penstock.analysis.folding import fold
from penstock.errors import QueryError
from penstock.query.understand.vocabulary import Vocabulary

MAX_SUGGESTIONS = 10
MAX_QUERY_CHARS = 200


class SuggestionKind(StrEnum):
    """Names what a suggestion completes the typed text to."""

    WORD = "word"  # its last word to a word of the index
    TITLE = "title"  # all of it to a title


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A text that the typed one may become.

    Attributes:
        text: the whole text.
        kind: what was completed.
        count: entries with the word, or assets with the title.
    """

    text: str
    kind: SuggestionKind
    count: int


def suggest(typed: str, vocabulary: Vocabulary, limit: int = MAX_SUGGESTIONS) -> list[Suggestion]:
    """Returns completions of a typed text, those of the most entries first; titles before words of the same count.

    Case and accents do not matter. A text that ends with a space has no word to complete.

    Raises:
        QueryError: the text is too long, or the limit is out of range.
    """
    if len(typed) > MAX_QUERY_CHARS:
        raise QueryError(f"q has {len(typed):,} characters, more than the maximum of {MAX_QUERY_CHARS}", field="/q")
    if not 1 <= limit <= MAX_SUGGESTIONS:
        raise QueryError(f"limit is {limit}; it can be 1 to {MAX_SUGGESTIONS}", field="/limit")
    before, last = _last_word(typed)
    words = vocabulary.complete(fold(last).strip(), limit) if last else []
    titles = vocabulary.complete_title(" ".join(fold(typed).split()), limit)
    completions = [Suggestion(title.text, SuggestionKind.TITLE, title.count) for title in titles]
    completions += [Suggestion(before + word, SuggestionKind.WORD, count) for word, count in words]
    distinct: dict[str, Suggestion] = {}
    for suggestion in sorted(completions, key=lambda suggestion: -suggestion.count):
        distinct.setdefault(" ".join(fold(suggestion.text).split()), suggestion)
    return list(distinct.values())[:limit]


def _last_word(typed: str) -> tuple[str, str]:
    """Returns what is before the last word, and that word; it is empty after a space."""
    start = max(typed.rfind(" "), typed.rfind("\t")) + 1
    return typed[:start].lstrip(), typed[start:]
