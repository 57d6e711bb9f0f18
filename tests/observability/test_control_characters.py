"""Tests that no text of a producer is obeyed by a terminal or begins a line of a log."""

from __future__ import annotations

import json
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from penstock.observability.control_characters import escape_json, escape_line, escape_lines

CLEAR_AND_WRITE_CLIPBOARD = "report\x1b[2J\x1b]52;c;cm0gLXJm\x07"
TEXTS = st.text(st.characters(codec=None), max_size=40)


def test_sequences_of_terminals_become_visible() -> None:
    assert escape_line(CLEAR_AND_WRITE_CLIPBOARD) == r"report\x1b[2J\x1b]52;c;cm0gLXJm\x07"
    assert escape_line("a\x9b31mb\u202ec\u2028d\n\te") == r"a\x9b31mb\u202ec\u2028d\n\te"


def test_ordinary_text_stays_as_it_is() -> None:
    text = "Grüße, “日本語” – مرحبا 👩\u200d🚀 \\n"
    assert escape_line(text) == escape_lines(text) == text


@given(TEXTS)
def test_a_line_has_no_character_that_is_obeyed(text: str) -> None:
    line = escape_line(text)
    assert len(line.splitlines()) <= 1
    assert not any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in line)
    assert not any(unicodedata.bidirectional(char) in ("LRO", "RLO", "LRE", "RLE", "PDF") for char in line)


@given(TEXTS)
def test_lines_keep_line_feeds_and_tabs_alone(text: str) -> None:
    assert escape_lines(text).count("\n") == text.count("\n")
    assert not any(unicodedata.category(char) == "Cc" for char in escape_lines(text) if char not in "\n\t")


@given(TEXTS)
def test_an_escaped_json_document_has_the_same_value_and_nothing_to_obey(text: str) -> None:
    document = escape_json(json.dumps({"key": text}, ensure_ascii=False, indent=2))
    assert json.loads(document) == {"key": text}
    assert escape_lines(document) == document
