"""Checks a long sentence in parts: the time of a comparison grows with the square of its words.

It is supported only as far as the weakest of its parts, so that nothing can hide behind a beginning that is.
"""

from __future__ import annotations

from collections.abc import Sequence

from penstock.query.generate.types import CheckedSentence, Support

MAX_CLAIM_CHARS = 400  # longer sentences are mostly transcripts without full stops
_WEAKEST_FIRST = (Support.CONTRADICTED, Support.UNSUPPORTED, Support.PARTLY, Support.SUPPORTED, Support.NO_CLAIM)


def claim_parts(text: str) -> list[str]:
    """Returns a sentence, or its parts of at most 400 characters, which end at a space if there is one."""
    parts: list[str] = []
    while len(text) > MAX_CLAIM_CHARS:
        space = text.rfind(" ", MAX_CLAIM_CHARS // 2, MAX_CLAIM_CHARS)
        end = space if space > 0 else MAX_CLAIM_CHARS
        parts.append(text[:end].rstrip())
        text = text[end:].lstrip()
    return [*parts, text] if text or not parts else parts


def weakest(text: str, written: Sequence[int], parts: Sequence[CheckedSentence]) -> CheckedSentence:
    """Returns a sentence with the support of the weakest of its parts, and the citations of all."""
    part = min(parts, key=lambda checked: (_WEAKEST_FIRST.index(checked.support), checked.score))
    citations, quotes = part.citations, part.quotes
    if part.support in (Support.PARTLY, Support.SUPPORTED):
        by_number = {quote.source: quote for checked in reversed(parts) for quote in checked.quotes}
        citations = tuple(sorted(by_number))
        quotes = tuple(by_number[number] for number in citations)
    return CheckedSentence(
        text,
        citations,
        part.support,
        part.score,
        quotes,
        repaired=set(citations) != set(written),
        because=part.because,
    )
