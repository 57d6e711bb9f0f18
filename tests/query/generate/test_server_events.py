"""Server-sent events, split anywhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.query.generate.server_events import ServerEvents


def events(*parts: bytes) -> list[str]:
    reader = ServerEvents()
    return [event for part in parts for event in reader.feed(part)] + reader.end()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"data: a\n\ndata: b\n\n", ["a", "b"]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", ["a", "b"]),
        (b"data: a\r\rdata: b\r\r", ["a", "b"]),
        (b": a comment\n\n:\n\ndata: a\n\n", ["a"]),
        (b"event: token\nid: 7\nretry: 10\ndata: a\n\n", ["a"]),
        (b"data: a\ndata: b\n\n", ["a\nb"]),
        (b"data:a\ndata:  b\n\n", ["a\n b"]),
        (b"data\n\n", [""]),
        (b"data: a: b\n\n", ["a: b"]),
        (b"\xef\xbb\xbfdata: a\n\n", ["a"]),
        (b"data: a", ["a"]),
        (b"data: a\n", ["a"]),
        (b"\n\n\n", []),
        (b"", []),
        ("data: Übergröße 🦀 水\n\n".encode(), ["Übergröße 🦀 水"]),
    ],
)
def test_events_are_split_as_the_standard_says_wherever_their_bytes_are(body: bytes, expected: list[str]) -> None:
    assert events(body) == expected
    for at in range(len(body)):
        assert events(body[:at], body[at:]) == expected
    assert events(*(body[at : at + 1] for at in range(len(body)))) == expected


@given(
    st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=20), max_size=5),
    st.sampled_from(["\n", "\r", "\r\n"]),
    st.data(),
)
def test_any_data_survives_any_split(lines: list[str], line_end: str, data: st.DataObject) -> None:
    body = "".join(f"data: {line}{line_end}{line_end}" for line in lines).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=6)))
    parts = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    assert events(*parts) == lines


def test_bytes_that_are_no_text_are_an_error() -> None:
    with pytest.raises(UnicodeDecodeError):
        events(b"data: \xff\n\n")
    with pytest.raises(UnicodeDecodeError):
        events(b"data: \xe6\xb0")
