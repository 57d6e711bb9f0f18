"""Finds what a generator adds of its own to a sentence that needs no source, or that a source supports.

A question, a greeting or an offer is shown without a source. So it may have nothing that a reader could take for a
fact, follow or load: no number, no address, no markup, and no word of a topic that the question and the sources have
not. Other sentences may have the addresses and the markup of a source that they cite.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

import regex

from penstock.analysis import terms
from penstock.analysis.function_words import content_words
from penstock.query.generate.model_instructions import instructs_model
from penstock.query.generate.neutral import neutral

_FILE = Path(__file__).with_name("conversation_words.txt")
_ADDRESS = regex.compile(
    r"""
      \b[a-z][a-z0-9+.-]{1,20}:(?://|(?<=(?:data|mailto|javascript|vbscript|file|tel|sms|blob):))[^\s<>"'‹›()\[\]]*
    | //[^\s<>"'‹›()\[\]]+
    | \bwww\.[^\s<>"'‹›()\[\]]+
    | [\p{L}\p{N}._%+-]{1,64}@[\p{L}\p{N}-]{1,63}(?:\.[\p{L}\p{N}-]{1,63}){1,8}
    | \b(?:[\p{L}\p{N}-]{1,63}\.){1,8}[\p{L}]{2,24}(?:[:]\d+)?[/?\#][^\s<>"'‹›()\[\]]*
    | \b(?:[\p{L}\p{N}-]{1,63}\.){1,8}
      (?:com|org|net|info|biz|io|ai|app|dev|xyz|top|site|online|shop|link|click|example|invalid|test|local|onion)\b
    """,
    regex.IGNORECASE | regex.VERBOSE,
)
_MARKUP = regex.compile(
    r"[<‹][/!?]?[a-z][^>›]{0,200}[>›]?|!\[[^\]]{0,200}\]?|\][(\[:][^)\]]{0,200}|&(?:\#\w{1,8}|[a-z]{2,8});",
    regex.IGNORECASE,
)
_AROUND = ".,;:!?…。'\"”’*_/"


def addition_without_source(text: str, known: frozenset[str]) -> str | None:
    """Returns what a sentence without a source may not have, in words; None: it has nothing of the kind.

    Args:
        text: of the sentence.
        known: the terms of the question and of all sources.
    """
    if _parts(_ADDRESS, text) or _parts(_MARKUP, text):
        return "it has an address or markup, and cites no source for it"
    if instructs_model(text):
        return "it instructs its reader"
    if any(char.isnumeric() for char in text):
        return "it has a number, and cites no source for it"
    allowed = known | _conversation()
    for word in content_words(text):
        if not allowed.issuperset(terms(word)):
            return f"neither the question nor a source has {word!r}"
    return None


def foreign_address(text: str, sources: Iterable[str]) -> str | None:
    """Returns an address or markup that a sentence has and none of the sources; None: it has none."""
    own = [*_parts(_ADDRESS, text), *_parts(_MARKUP, text)]
    if not own:
        return None
    of_sources = frozenset(
        part for source in sources for pattern in (_ADDRESS, _MARKUP) for part in _parts(pattern, source)
    )
    return next((part for part in own if part not in of_sources), None)


def _parts(pattern: regex.Pattern[str], text: str) -> list[str]:
    """Returns the parts of a text as it stands, and as a prompt shows it: without hidden characters and brackets."""
    return [match[0].strip(_AROUND).casefold() for shown in (text, neutral(text)) for match in pattern.finditer(shown)]


@cache
def _conversation() -> frozenset[str]:
    lines = [line for line in _FILE.read_text("utf-8").splitlines() if not line.startswith("#")]
    return frozenset(terms(" ".join(lines)))
