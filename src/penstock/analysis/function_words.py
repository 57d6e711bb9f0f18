"""The words that carry no topic of their own, in the languages in which most questions come."""

from __future__ import annotations

from pathlib import Path

from penstock.analysis.folding import fold

_FILE = Path(__file__).with_name("function_words.txt")


def _read() -> frozenset[str]:
    lines = [line for line in _FILE.read_text("utf-8").splitlines() if not line.startswith("#")]
    return frozenset(word for line in lines for word in fold(line).split())


FUNCTION_WORDS = _read()
"""Folded. Words of other scripts than the Latin are none of them."""


def content_words(text: str) -> list[str]:
    """Returns the folded words of a text that carry a topic, in their order and with repetitions."""
    return [word for word in fold(text).split() if word not in FUNCTION_WORDS]
