"""The header `Range`: which bytes it names, and when it is ignored."""

from __future__ import annotations

import pytest

from penstock.serve.byte_ranges import ByteRange, UnsatisfiableRangeError, requested_range

ETAG = '"abc"'


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-", ByteRange(0, 100)),
        ("bytes=0-0", ByteRange(0, 1)),
        ("bytes=10-19", ByteRange(10, 20)),
        ("bytes=90-1000", ByteRange(90, 100)),
        ("bytes=-10", ByteRange(90, 100)),
        ("bytes=-1000", ByteRange(0, 100)),
        (" Bytes = 99 - ", ByteRange(99, 100)),
    ],
)
def test_a_range_lies_within_the_media(header: str, expected: ByteRange) -> None:
    assert requested_range(header, None, etag=ETAG, size=100) == expected


@pytest.mark.parametrize(
    "header",
    [None, "", "bytes=", "bytes=-", "bytes=5-2", "bytes=0-1,4-5", "items=0-1", "bytes=a-b", f"bytes=0-{'9' * 5000}"],
)
def test_any_other_header_is_ignored(header: str | None) -> None:
    assert requested_range(header, None, etag=ETAG, size=100) is None


@pytest.mark.parametrize(("header", "size"), [("bytes=100-", 100), ("bytes=-0", 100), ("bytes=0-", 0), ("bytes=-5", 0)])
def test_a_range_of_no_bytes_cannot_be_satisfied(header: str, size: int) -> None:
    with pytest.raises(UnsatisfiableRangeError, match="byte"):
        requested_range(header, None, etag=ETAG, size=size)


@pytest.mark.parametrize(
    ("if_range", "is_whole"),
    [(ETAG, False), ('"other"', True), (f"W/{ETAG}", True), ("Mon, 30 Nov 2026 14:09:43 GMT", True), (None, False)],
)
def test_a_range_of_another_version_is_ignored(if_range: str | None, is_whole: bool) -> None:
    assert (requested_range("bytes=5-", if_range, etag=ETAG, size=100) is None) == is_whole
