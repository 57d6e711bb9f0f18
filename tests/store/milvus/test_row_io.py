"""Tests requests that a server refuses for the size of the answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from penstock.errors import PermanentError
from penstock.store.milvus.row_io import RowIO

_ROWS = 5


class LimitedRowIO(RowIO):
    """Answers with at most five rows, as Milvus does with 100 MB; each asset has two rows, `fat` six."""

    def __init__(self) -> None:
        self.conditions: list[str] = []

    def query(self, name: str, condition: str, columns: Sequence[str], **options: Any) -> list[dict[str, Any]]:
        self.conditions.append(condition)
        rows = [
            {"id": f"{asset}{part}", "asset": asset}
            for asset in ("a", "b", "c", "d", "e", "fat")
            if f'"{asset}"' in condition
            for part in range(6 if asset == "fat" else 2)
        ]
        if len(rows) > _ROWS:
            raise PermanentError("query results exceed the maxOutputSize Limit 5")
        return rows


def test_a_request_whose_answer_is_too_large_is_sent_in_halves() -> None:
    row_io = LimitedRowIO()
    rows = row_io.entry_ids("text", ["a", "b", "c", "d", "e"])
    assert [row["id"] for row in rows] == [f"{asset}{part}" for asset in "abcde" for part in range(2)]
    assert len(row_io.conditions) == 5


def test_a_single_asset_whose_answer_is_too_large_is_refused() -> None:
    with pytest.raises(PermanentError, match="maxOutputSize"):
        LimitedRowIO().entry_ids("text", ["a", "fat"])
