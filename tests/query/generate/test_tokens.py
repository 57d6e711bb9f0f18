"""The estimate of tokens, and texts that are shortened by it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.query.generate.tokens import estimate_tokens, shorten

TEXT = st.one_of(
    st.text(max_size=200),
    st.lists(st.sampled_from(["word ", "sentence. ", "水を。", "Größe! ", "12.5 "]), max_size=60).map("".join),
)


@given(TEXT, TEXT)
def test_a_text_has_at_most_the_tokens_of_its_lines_and_their_ends(first: str, second: str) -> None:
    assert estimate_tokens(f"{first}\n{second}") <= estimate_tokens(first) + 1 + estimate_tokens(second)
    assert estimate_tokens(f"{first} {second}") <= estimate_tokens(first) + estimate_tokens(second)


@given(TEXT, st.integers(-5, 80))
def test_a_shortened_text_fits_and_is_a_begin_of_the_text(text: str, max_tokens: int) -> None:
    shortened = shorten(text, max_tokens)
    assert estimate_tokens(shortened) <= max(0, max_tokens)
    assert text.startswith(shortened.removesuffix(" …"))
    if estimate_tokens(text) <= max_tokens:
        assert shortened == text


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("word", 1),
        ("sentence", 2),
        ("two sentences", 3),
        ("SENTENCE", 4),
        ("Krzysztof", 5),
        ("1984", 5),
        ("a1984", 5),
        ("a\nb", 3),
        ("(a)", 3),
        ("für", 3),
        ("水", 3),
        ("😀", 4),
    ],
)
def test_tokens_are_counted_by_script(text: str, tokens: int) -> None:
    assert estimate_tokens(text) == tokens


@pytest.mark.parametrize(
    ("text", "max_tokens", "shortened"),
    [
        ("It waits. It sleeps. It leaves at noon.", 9, "It waits. It sleeps."),
        ('It said: "No." And left for the river.', 8, 'It said: "No."'),
        ("鸟在河边。它中午离开。", 16, "鸟在河边。"),
        ("one two three four five six", 5, "one two …"),
        ("a. one two three four five six seven", 8, "a. one two …"),
        ("supercalifragilistic", 1, ""),
        ("word", 0, ""),
    ],
)
def test_a_text_is_cut_after_a_sentence_or_else_after_a_word(text: str, max_tokens: int, shortened: str) -> None:
    assert shorten(text, max_tokens) == shortened
