"""Reads the header `Range` of a request for bytes (RFC 9110, section 14)."""

from __future__ import annotations

import re
from dataclasses import dataclass

# More than 18 digits are no position in any file: such a header is ignored, as one of another unit is.
_SINGLE = re.compile(r"\s*bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ByteRange:
    """The bytes from `start` to before `end` of media; none of them if both are the same."""

    start: int
    end: int


class UnsatisfiableRangeError(ValueError):
    """The requested range begins after the last byte."""


def requested_range(header: str | None, if_range: str | None, *, etag: str, size: int) -> ByteRange | None:
    """Returns the range of a request; None: it gets all bytes.

    A header with several ranges, of another unit or of no meaning is ignored, as the RFC allows: the answer is whole.
    So is it if `If-Range` names another version; a date never matches, as media have none.

    Args:
        header: `Range`, or None.
        if_range: `If-Range`, or None.
        etag: of the media, in quotes.
        size: of the media, bytes.

    Raises:
        UnsatisfiableRangeError: the range has none of the bytes.
    """
    match = None if header is None else _SINGLE.fullmatch(header)
    if match is None or (if_range is not None and if_range.strip() != etag):
        return None
    first, last = match.groups()
    if not first:
        return _suffix(int(last), size) if last else None
    start, end = int(first), int(last) + 1 if last else size
    if last and end <= start:
        return None
    if start >= size:
        raise UnsatisfiableRangeError(f"the range begins at byte {start:,} of {size:,}")
    return ByteRange(start, min(end, size))


def _suffix(length: int, size: int) -> ByteRange:
    if length == 0 or size == 0:
        raise UnsatisfiableRangeError(f"the range has none of the {size:,} bytes")
    return ByteRange(max(0, size - length), size)
