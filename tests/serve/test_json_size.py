"""Tests the bound on what the JSON of a body becomes in memory."""

from __future__ import annotations

import json

import pytest

from penstock.errors import QueryError
from penstock.serve.json_size import check_json_size


def has_more(body: bytes, *, members: int, items: int) -> bool:
    """Returns whether a body is refused for having more than this."""
    try:
        check_json_size(body, max_members=members, max_items=items)
    except QueryError as exc:
        return exc.status == 413
    return False


@pytest.mark.parametrize(
    ("value", "members", "items"),
    [
        ([], 1, 0),
        ({"a": [1, 2, {}], "b": "x"}, 5, 3),
        ([[0] * 50, [0] * 50], 3, 99),
        (["{[:,", '"{[:,', "\\", '\\"{', "\\\\", ""], 1, 5),
        ({'"{': "\\"}, 2, 0),
    ],
)
def test_objects_lists_members_and_items_are_counted_outside_of_strings(
    value: object, members: int, items: int
) -> None:
    body = json.dumps(value, separators=(",", ":")).encode()
    assert not has_more(body, members=members, items=items)
    assert has_more(body, members=members - 1, items=items)
    assert items == 0 or has_more(body, members=members, items=items - 1)


def test_a_string_of_a_million_escapes_is_one_string() -> None:
    body = json.dumps(["\n{" * 1_000_000]).encode()
    assert not has_more(body, members=1, items=0)
