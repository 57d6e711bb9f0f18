"""Bounds what the JSON of a body becomes in memory, before objects are made of it.

A body of 60 MB may be base64 of media, which stays 60 MB, or 20 million times `{},`, each of which becomes an object of
hundreds of bytes and perhaps a finding of a kilobyte.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from penstock.errors import QueryError

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)  # possessive: as fast with a million escapes
_STRUCTURE, _COMMA = b"{[:", b","


def check_json_size(json: bytes, *, max_members: int, max_items: int) -> None:
    """Refuses JSON of too many parts, from the bytes that stand outside of its strings.

    Args:
        json: syntactically valid; otherwise the time to refuse it has no bound.
        max_members: objects, lists and members of objects.
        max_items: commas, which come between the items of lists too.

    Raises:
        QueryError: 413.
    """
    if _structure(json, 0, len(json)) <= max_members and json.count(_COMMA) <= max_items:
        return  # strings included: most bodies end here
    members = items = 0
    for start, end in _outside_strings(json):
        members += _structure(json, start, end)
        items += json.count(_COMMA, start, end)
        if members > max_members or items > max_items:
            raise QueryError(
                f"the body has more than {max_members:,} objects, lists and members, or more than {max_items:,} items",
                status=413,
            )


def _outside_strings(json: bytes) -> Iterator[tuple[int, int]]:
    """Yields where the bytes between two strings begin and end."""
    start = 0
    for string in _STRING.finditer(json):
        yield start, string.start()
        start = string.end()
    yield start, len(json)


def _structure(json: bytes, start: int, end: int) -> int:
    return sum(json.count(sign, start, end) for sign in _STRUCTURE)
