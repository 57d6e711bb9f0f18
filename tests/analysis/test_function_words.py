"""Tests which words of a text carry its topic."""

from __future__ import annotations

import pytest

from penstock.analysis.function_words import content_words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Where does the Heron live?", ["heron", "live"]),
        ("What's the heron's nest made of?", ["heron", "nest"]),
        ("Wie viele Eier legt der Graureiher?", ["eier", "legt", "graureiher"]),
        ("Où est-ce que le héron dort ?", ["heron", "dort"]),
        ("¿Cuándo vuelve la garza?", ["vuelve", "garza"]),
        ("灰鹭在哪里？", ["灰鹭在哪里"]),
        ("", []),
    ],
)
def test_content_words_are_those_with_a_topic(text: str, words: list[str]) -> None:
    assert content_words(text) == words
