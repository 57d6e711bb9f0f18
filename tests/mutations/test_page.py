"""Checks that a run of a few mutations keeps the lines that the page has of others."""

from __future__ import annotations

from tests.mutations.__main__ import noticed, row, table
from tests.mutations.catalog import Mutation
from tests.mutations.runner import Caught

_DIFF = "diff --git a/src/penstock/a.py b/src/penstock/a.py\n"
_MUTATIONS = [Mutation(name, ("tests/test_a.py",), _DIFF) for name in ("first", "second", "third")]


def test_lines_are_read_back_and_replaced_by_newer_ones() -> None:
    first, second, _ = _MUTATIONS
    before = {"first": row(Caught(first, "test_a", by_properties=True)), "gone": "`test_b` | no"}
    page = table(_MUTATIONS, before)
    assert noticed(page) == {"first": "`test_a` | yes"}
    page = table(_MUTATIONS, noticed(page) | {"second": row(Caught(second, "", by_properties=False))})
    assert noticed(page) == {"first": "`test_a` | yes", "second": "**nothing** | no"}
