"""Tests what a writer's reads see on a server whose readers lag behind, and what they do not wait for."""

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


class RecordingRowIO:
    """Records the guarantee timestamp of each read. `failing`: writes get no answer."""

    def __init__(self) -> None:
        self.guarantees: list[int] = []
        self.failing = False
        self._written = NOW

    def write(self, name: str, rows: Sequence[Any]) -> int:
        if self.failing:
            raise UnavailableError("no answer")
        self._written += 1
        return self._written

    def delete(self, name: str, ids: Sequence[str]) -> None: ...

    def by_ids(self, name: str, ids: Sequence[str], columns: Sequence[str], *, guarantee: int) -> list[Any]:
        self.guarantees.append(guarantee)
        return []


@pytest.fixture
def row_io() -> RecordingRowIO:
    return RecordingRowIO()


@pytest.fixture
def lagging(row_io: RecordingRowIO) -> MilvusStore:
    """A store over that double, of a server whose timestamp is 1,000; the first write is at 1,001, and so on."""
    store = MilvusStore(StoreSettings(uri="http://127.0.0.1:1"))
    store._row_io = row_io  # type: ignore[assignment]
    store._connection = SimpleNamespace(backend=detect_backend("v2.6.0"), timestamp=lambda: NOW)  # type: ignore[assignment]
    return store


def test_reads_wait_only_for_writes_before_the_catch_up_and_their_own(
    lagging: MilvusStore, row_io: RecordingRowIO
) -> None:
    ours, other = asset(key="ours"), asset(key="other")
    lagging.asset_rows([ours.id])
    lagging.catch_up()
    lagging.put_asset_rows([asset_row(ours)])
    for ids in ([other.id], [ours.id], [other.id, ours.id]):
        lagging.asset_rows(ids)
    assert row_io.guarantees == [STRONG, NOW, NOW + 1, NOW + 1]


def test_an_asset_whose_write_got_no_answer_is_read_at_strong_consistency(
    lagging: MilvusStore, row_io: RecordingRowIO
) -> None:
    ours, other = asset(key="ours"), asset(key="other")
    lagging.catch_up()
    row_io.failing = True
    with pytest.raises(UnavailableError):
        lagging.put_asset_rows([asset_row(ours)])
    row_io.failing = False
    lagging.asset_rows([ours.id])
    lagging.asset_rows([other.id])
    lagging.put_asset_rows([asset_row(ours)])
    lagging.asset_rows([ours.id])
    assert row_io.guarantees == [STRONG, NOW, NOW + 1]


def test_a_delete_does_not_weaken_strong_reads(lagging: MilvusStore, row_io: RecordingRowIO) -> None:
    lagging.drop_checkpoints(["a"])
    lagging.asset_rows(["a"])
    assert row_io.guarantees == [STRONG]


@pytest.mark.services
@pytest.mark.slow_on_standalone
def test_writes_of_others_are_visible_before_the_first_and_after_each_catch_up(connect: Connect) -> None:
    ours, theirs = connect(), connect()
    for store in (ours, theirs):
        store.ensure(spec())
    for number in range(5):
        ref = asset(key=f"before-{number}")
        theirs.put_asset_rows([asset_row(ref)])
        assert ours.asset_rows([ref.id])
    ours.catch_up()
    for number in range(5):
        ref = asset(key=f"after-{number}")
        theirs.upsert(Collection.IMAGE, [entry(ref)])
        theirs.put_asset_rows([asset_row(ref)])
        ours.catch_up()
        assert ours.asset_rows([ref.id])
        assert ours.entry_ids(Collection.IMAGE, [ref.id]) == {ref.id: frozenset({entry(ref).id})}


@pytest.mark.services
@pytest.mark.slow_on_standalone
def test_own_writes_are_visible_immediately(connect: Connect) -> None:
    store = connect()
    store.ensure(spec())
    store.catch_up()
    for number in range(10):
        ref = asset(key=f"k{number % 3}")
        parts = [entry(ref, part) for part in range(1 + number % 4)]
        known = store.entry_ids(Collection.IMAGE, [ref.id]).get(ref.id, frozenset())
        store.upsert(Collection.IMAGE, parts)
        assert store.entry_ids(Collection.IMAGE, [ref.id])[ref.id] == known | {part.id for part in parts}
        store.delete(Collection.IMAGE, sorted(known - {part.id for part in parts}))
        assert store.entry_ids(Collection.IMAGE, [ref.id])[ref.id] == {part.id for part in parts}
        row = asset_row(ref, offset=number)
        store.put_asset_rows([row])
        assert store.asset_rows([ref.id])[ref.id].version == row.version
