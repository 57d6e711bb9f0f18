"""The least that a store may show to the writer of its assets: what was there at the latest `catch_up`, and what the
writer itself has written since. Nothing that anybody else wrote after that is ever seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from penstock.records import AssetRow, Collection, Entry
from penstock.store.memory import MemoryStore
from tests.store.scans import all_asset_rows, all_entries


class LaggingStore:
    """Writes go to `store`, and are read again from what this double remembers; other calls are those of `store`.

    Args:
        store: `store.base.Store`, or a double of it that fails now and then.
        actual: what it writes to, for a look at everything.
        collections: that `actual` has.
    """

    def __init__(self, store: Any, actual: MemoryStore, collections: Sequence[Collection]) -> None:
        self._store = store
        self._actual = actual
        self._collections = collections
        self._rows: dict[str, AssetRow] | None = None
        self._ids: dict[Collection, dict[str, str]] = {}  # asset id by entry id
        self._unsure: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def catch_up(self) -> None:
        self._store.catch_up()
        self._look()

    def asset_rows(self, asset_ids: Sequence[str]) -> Mapping[str, AssetRow]:
        now = self._store.asset_rows(asset_ids)  # asked in any case: it may fail
        if self._rows is None or not self._unsure.isdisjoint(asset_ids):
            return now  # type: ignore[no-any-return]
        return {id_: self._rows[id_] for id_ in asset_ids if id_ in self._rows}

    def entry_ids(self, collection: Collection, asset_ids: Sequence[str]) -> Mapping[str, frozenset[str]]:
        now = self._store.entry_ids(collection, asset_ids)
        if self._rows is None or not self._unsure.isdisjoint(asset_ids):
            return now  # type: ignore[no-any-return]
        found: dict[str, set[str]] = {}
        for id_, asset_id in self._ids.get(collection, {}).items():
            if asset_id in asset_ids:
                found.setdefault(asset_id, set()).add(id_)
        return {asset_id: frozenset(ids) for asset_id, ids in found.items()}

    def upsert(self, collection: Collection, entries: Sequence[Entry]) -> None:
        with self._sure(entry.asset.id for entry in entries):
            self._store.upsert(collection, entries)
        self._ids.setdefault(collection, {}).update({entry.id: entry.asset.id for entry in entries})

    def delete(self, collection: Collection, ids: Sequence[str]) -> None:
        self._store.delete(collection, ids)
        if self._rows is not None and ids:
            self._look()

    def put_asset_rows(self, rows: Sequence[AssetRow]) -> None:
        with self._sure(row.asset.id for row in rows):
            self._store.put_asset_rows(rows)
        if self._rows is not None:
            self._rows.update({row.asset.id: row for row in rows})

    @contextmanager
    def _sure(self, asset_ids: Iterable[str]) -> Iterator[None]:
        written = set(asset_ids)
        try:
            yield
        except Exception:
            self._unsure |= written
            raise
        self._unsure -= written

    def _look(self) -> None:
        self._rows = {row.asset.id: row for row in all_asset_rows(self._actual)}
        self._ids = {
            collection: {entry.id: entry.asset.id for entry in all_entries(self._actual, collection)}
            for collection in self._collections
        }
