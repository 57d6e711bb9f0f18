"""Tests requests that a server refuses for the size of the answer, and when a write checks the lease."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from penstock.config import StoreSettings
from penstock.errors import NotReadyError, PermanentError
from penstock.store.milvus.client import Connection
from penstock.store.milvus.dialect import detect_backend
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


class ReloadingConnection(Connection):
    """Sends each request twice, as after the loading of a collection, in which a lease runs out."""

    def __init__(self) -> None:
        super().__init__(StoreSettings(uri="http://127.0.0.1:1"), self._check)
        self._backend = detect_backend("")
        self.checks = 0
        self.sent = 0

    @property
    def backend(self) -> Any:
        return self._backend

    def call(self, doing: str, request: Callable[[Any], Any], *, collection: str | None = None) -> Any:
        request(self)
        return request(self)

    def upsert(self, client: Any, request: Any, *, timeout_s: float) -> int:
        self.sent += 1
        return 1

    def delete(self, *args: Any, **options: Any) -> None:
        self.sent += 1

    def _check(self) -> None:
        self.checks += 1
        if self.checks > 1:
            raise NotReadyError("the lease has run out")


@pytest.mark.parametrize(
    "change", [lambda rows: rows.write("text", [{"id": "a"}]), lambda rows: rows.delete("text", ["a"])]
)
def test_a_write_that_is_sent_again_is_checked_again(change: Callable[[RowIO], object]) -> None:
    connection = ReloadingConnection()
    with pytest.raises(NotReadyError):
        change(RowIO(connection))
    assert connection.sent == 1
