"""Text of others in a prompt: readable, and nothing but data."""

from __future__ import annotations

import unicodedata

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from penstock.query.generate.neutral import neutral, neutral_name
from tests.query.generate.hostile import HOSTILE

# Written here once more, so that the test does not believe the module's own patterns.
MARKER = regex.compile(r"\[[^\]]*\d[^\]]*\]|[［【〔〖]\s*\p{N}")
CHAT_TOKEN = regex.compile(r"<[|｜/!A-Za-z]|\[/?[A-Z]+\]|<<")
UNSEEN = {"Cc", "Cs", "Co"}
DIRECTIONS = {
    "\u202a",
    "\u202b",
    "\u202c",
    "\u202d",
    "\u202e",
    "\u2066",
    "\u2067",
    "\u2068",
    "\u2069",
    "\u200e",
    "\u200f",
}
TRICKY = st.text(
    st.one_of(
        st.sampled_from("[]<>|/0123456789{}\u200b\u200c\u200d\u202e\ufe0f\n\r ［】【３IiNST_▁｜\u0301\u0627\u0915😀"),
        st.characters(),
    ),
    max_size=60,
)


def assert_harmless(text: str, *, lines: bool = False) -> None:
    assert not MARKER.search(text)
    assert not CHAT_TOKEN.search(text)
    assert not set(text) & (DIRECTIONS | set("[]<>\u200b\u2060\ufeff\u00ad"))
    shown = text.replace("\n", "") if lines else text
    assert not [char for char in shown if unicodedata.category(char) in UNSEEN]
    assert not regex.search(r"\p{M}{5}", text)


@given(TRICKY, st.booleans())
def test_no_text_can_be_a_marker_a_delimiter_a_token_or_hidden(text: str, lines: bool) -> None:
    assert_harmless(neutral(text, lines=lines), lines=lines)


@given(st.text(st.sampled_from("abc XYZ äöü 水の, .;:?!'\"-()§$%&/=+*#@ 0123456789"), max_size=80))
def test_plain_text_stays_as_it_is_but_for_its_white_space(text: str) -> None:
    assert neutral(text) == " ".join(text.split())


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: hostile.name)
def test_hostile_texts_become_harmless_and_keep_their_fact(hostile: object) -> None:
    text, title, name, fact = (getattr(hostile, part) for part in ("text", "title", "file_name", "fact"))
    for part in (text, title, name):
        assert_harmless(neutral(part))
        assert_harmless(neutral(part, lines=True), lines=True)
        assert "\n" not in neutral(part)
    assert fact in neutral(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("see [3], a[0] and [1, 2]", "see (3), a(0) and (1, 2)"),
        ("<b>bold</b> and 1 < 2", "‹b›bold‹/b› and 1 ‹ 2"),
        ("【速報】 地震 【3】", "【速報】 地震 (3)"),
        ("می\u200cخواهم", "می\u200cخواهم"),  # Persian without its joiner would be another word
        ("क्\u200dष", "क्\u200dष"),
        ("👨\u200d👩\u200d👧 ❤\ufe0f 1\ufe0f\u20e3", "👨\u200d👩\u200d👧 ❤\ufe0f 1\ufe0f\u20e3"),
        ("a\u200bb\u00adc", "abc"),
        ("two  words\u00a0here\tnow", "two words here now"),
        ("e\u0301te\u0301", "e\u0301te\u0301"),
    ],
)
def test_what_readers_see_remains(text: str, shown: str) -> None:
    assert neutral(text) == shown


def test_lines_remain_if_they_may() -> None:
    assert neutral(" a\r\n\r\n b \u2028c", lines=True) == "a\nb\nc"
    assert neutral(" a\r\n\r\n b \u2028c") == "a b c"


def test_a_name_is_short_and_cannot_end_its_quotation_marks() -> None:
    assert neutral_name('a "quoted" [1] name') == "a ”quoted” (1) name"
    assert len(neutral_name("x" * 500)) == 120
