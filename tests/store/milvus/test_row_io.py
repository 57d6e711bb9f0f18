"""Requests that a server refuses for their size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from penstock.errors import PermanentError
from penstock.store.milvus.row_io import RowIO

_ROWS = 5


class StingyTables(RowIO):
    """Answers with five rows at most, as Milvus does with 100 MB; each asset has two rows, `fat` six."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def query(self, name: str, condition: str, columns: Sequence[str], **options: Any) -> list[dict[str, Any]]:
        self.asked.append(condition)
        rows = [
            {"id": f"{asset}{part}", "asset": asset}
            for asset in ("a", "b", "c", "d", "e", "fat")
            if f'"{asset}"' in condition
            for part in range(6 if asset == "fat" else 2)
        ]
        if len(rows) > _ROWS:
            raise PermanentError("query results exceed the maxOutputSize Limit 5")
        return rows


def test_what_is_too_much_for_one_answer_is_asked_for_in_halves() -> None:
    tables = StingyTables()
    found = tables.entry_ids("text", ["a", "b", "c", "d", "e"])
    assert [row["id"] for row in found] == [f"{asset}{part}" for asset in "abcde" for part in range(2)]
    assert len(tables.asked) == 5


def test_one_asset_that_is_too_much_is_refused() -> None:
    with pytest.raises(PermanentError, match="maxOutputSize"):
        StingyTables().entry_ids("text", ["a", "fat"])
