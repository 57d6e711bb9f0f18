"""The body of a streamed chat completion: characters in halves."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.query.generate.completion_stream import CompletionStream
from tests.query.generate.generator_server import END, chunk


def escaped(content: str) -> bytes:
    """Returns a chunk whose JSON is ASCII, as halves of characters can only be written."""
    return b"data: " + json.dumps({"choices": [{"delta": {"content": content}}]}).encode() + b"\n\n"


def text_of(contents: list[str]) -> str:
    """Returns the text of a completion with these contents, of which JSON escapes the surrogates."""
    stream = CompletionStream()
    parts = [*map(escaped, contents), chunk(finish="stop"), END]
    pieces = [piece for part in parts for piece in stream.feed(part)] + stream.end()
    return "".join(piece.text for piece in pieces)


@pytest.mark.parametrize(
    ("contents", "text"),
    [
        (["owl \ud83e", "\udd89 flies"], "owl 🦉 flies"),
        (["\ud83e", "", "\udd89"], "🦉"),
        (["<thi", "nk>a\ud83e</think>", "owl"], "owl"),
        (["a\ud83e", "b"], "a\ufffdb"),
        (["\udd89", "b"], "\ufffdb"),
        (["a\ud83e"], "a\ufffd"),
        (["\ud83e\ud83e", "\udd89"], "\ufffd🦉"),
    ],
)
def test_halves_of_a_character_are_joined_and_lone_ones_replaced(contents: list[str], text: str) -> None:
    assert text_of(contents) == text


@given(st.lists(st.text(st.characters(categories=["L", "Cs", "So"]), max_size=4), max_size=6))
def test_no_half_of_a_character_is_left(contents: list[str]) -> None:
    text_of(contents).encode()
