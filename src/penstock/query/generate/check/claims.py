"""Finds which sentences claim nothing about the sources: questions, greetings, offers, and that nothing is known."""

from __future__ import annotations

import functools
import unicodedata
from pathlib import Path

import regex

from penstock.query.generate.check.statement import Statement

_FILE = Path(__file__).with_name("no_claims.txt")
_QUESTION = regex.compile(r"[?？؟;]\s*[\"”’»」』)]*\s*$")
_GREEK_QUESTION = ";"
_EDGES = " \t\n.,;:!?…。！？，、：()[]{}*_#\"'“”„«»‚‘’–—-"
# No further clause: "I do not know, but herons are extinct" claims something.
_TAIL = r"(?:(?!\b(?:but|however|although|though|because|since|aber|mais|pero)\b)[^,.:;!?…<>()\[\]/\p{N}]){0,80}"
_TIMEOUT_S = 0.05  # of one pattern on an odd text


def claims_nothing(text: str, statement: Statement) -> bool:
    """Returns whether a sentence needs no source.

    Args:
        text: the sentence.
        statement: what it says.
    """
    if _is_question(text) or not (statement.content or statement.quantities):
        return True
    plain = _plain(text)
    try:
        return _patterns().fullmatch(plain, timeout=_TIMEOUT_S) is not None
    except TimeoutError:
        return False


def _is_question(text: str) -> bool:
    match = _QUESTION.search(text)
    if match is None:
        return False
    return not match[0].startswith(_GREEK_QUESTION) or regex.search(r"\p{Greek}", text) is not None


def _plain(text: str) -> str:
    lowered = text.casefold().replace("’", "'")
    decomposed = regex.sub(r"\p{Mn}", "", _decomposed(lowered))
    return str(regex.sub(r"\s+", " ", decomposed)).strip(_EDGES)


def _decomposed(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFD", text).replace("ß", "ss")


@functools.cache
def _patterns() -> regex.Pattern[str]:
    lines = _FILE.read_text("utf-8").replace("<tail>", _TAIL).splitlines()
    return regex.compile("|".join(f"(?:{line})" for line in lines if line and not line.startswith("#")))
