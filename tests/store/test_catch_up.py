"""What the reads of a writer have to see on a server whose readers lag behind, and what they need not wait for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from penstock.config import StoreSettings
from penstock.errors import UnavailableError
from penstock.records import Collection
from penstock.store.milvus.dialect import detect_backend
from penstock.store.milvus.read_timestamps import STRONG
from penstock.store.milvus.store import MilvusStore
from tests.store.builders import asset, asset_row, entry, spec

Connect = Callable[..., MilvusStore]

NOW = 1_000


class NotedTables:
    """Notes up to which timestamp reads are asked to see everything. `failing`: writes get no answer."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.failing = False
        self._written = NOW

    def write(self, name: str, rows: Sequence[Any]) -> int:
        if self.failing:
            raise UnavailableError("no answer")
        self._written += 1
        return self._written

    def delete(self, name: str, ids: Sequence[str]) -> None: ...

    def by_ids(self, name: str, ids: Sequence[str], columns: Sequence[str], *, guarantee: int) -> list[Any]:
        self.seen.append(guarantee)
        return []


@pytest.fixture
def tables() -> NotedTables:
    return NotedTables()


@pytest.fixture
def lagging(tables: NotedTables) -> MilvusStore:
    """Over those tables, of a server that tells 1,000 for its time; an asset's write is at 1,001, and so on."""
    store = MilvusStore(StoreSettings(uri="http://127.0.0.1:1"))
    store._row_io = tables  # type: ignore[assignment]
    store._connection = SimpleNamespace(backend=detect_backend("v2.6.0"), timestamp=lambda: NOW)  # type: ignore[assignment]
    return store


def test_reads_wait_for_nothing_but_what_was_there_and_their_own_writes(
    lagging: MilvusStore, tables: NotedTables
) -> None:
    ours, other = asset(key="ours"), asset(key="other")
    lagging.asset_rows([ours.id])
    lagging.catch_up()
    lagging.put_asset_rows([asset_row(ours)])
    for ids in ([other.id], [ours.id], [other.id, ours.id]):
        lagging.asset_rows(ids)
    assert tables.seen == [STRONG, NOW, NOW + 1, NOW + 1]


def test_an_asset_whose_write_was_not_answered_is_read_at_strong_consistency(
    lagging: MilvusStore, tables: NotedTables
) -> None:
    ours, other = asset(key="ours"), asset(key="other")
    lagging.catch_up()
    tables.failing = True
    with pytest.raises(UnavailableError):
        lagging.put_asset_rows([asset_row(ours)])
    tables.failing = False
    lagging.asset_rows([ours.id])
    lagging.asset_rows([other.id])
    lagging.put_asset_rows([asset_row(ours)])
    lagging.asset_rows([ours.id])
    assert tables.seen == [STRONG, NOW, NOW + 1]


def test_a_delete_makes_no_weak_reads_of_strong_ones(lagging: MilvusStore, tables: NotedTables) -> None:
    lagging.drop_checkpoints(["a"])
    lagging.asset_rows(["a"])
    assert tables.seen == [STRONG]


@pytest.mark.services
def test_what_others_wrote_is_seen_without_and_after_a_catch_up(connect: Connect) -> None:
    ours, theirs = connect(), connect()
    for store in (ours, theirs):
        store.ensure(spec())
    for number in range(5):
        one = asset(key=f"before-{number}")
        theirs.put_asset_rows([asset_row(one)])
        assert ours.asset_rows([one.id])
    ours.catch_up()
    for number in range(5):
        one = asset(key=f"after-{number}")
        theirs.upsert(Collection.IMAGE, [entry(one)])
        theirs.put_asset_rows([asset_row(one)])
        ours.catch_up()
        assert ours.asset_rows([one.id])
        assert ours.entry_ids(Collection.IMAGE, [one.id]) == {one.id: frozenset({entry(one).id})}


@pytest.mark.services
def test_its_own_writes_are_seen_at_once(connect: Connect) -> None:
    store = connect()
    store.ensure(spec())
    store.catch_up()
    for number in range(10):
        one = asset(key=f"k{number % 3}")
        parts = [entry(one, part) for part in range(1 + number % 4)]
        known = store.entry_ids(Collection.IMAGE, [one.id]).get(one.id, frozenset())
        store.upsert(Collection.IMAGE, parts)
        assert store.entry_ids(Collection.IMAGE, [one.id])[one.id] == known | {part.id for part in parts}
        store.delete(Collection.IMAGE, sorted(known - {part.id for part in parts}))
        assert store.entry_ids(Collection.IMAGE, [one.id])[one.id] == {part.id for part in parts}
        row = asset_row(one, offset=number)
        store.put_asset_rows([row])
        assert store.asset_rows([one.id])[one.id].version == row.version
