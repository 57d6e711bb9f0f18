"""A store that shows the least that it may: its content at the latest `catch_up`, and the writer's own later writes.

No other writer's later write is ever visible.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from penstock.records import AssetRow, Collection, Entry
from penstock.store.memory import MemoryStore
from tests.store.scans import all_asset_rows, all_entries


class LaggingStore:
    """Passes writes to `store`, and answers lookups from its own copy; all other calls are those of `store`.

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
        self._unknown: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def catch_up(self) -> None:
        self._store.catch_up()
        self._refresh()

    def asset_rows(self, asset_ids: Sequence[str]) -> Mapping[str, AssetRow]:
        now = self._store.asset_rows(asset_ids)  # called in any case: it may fail
        if self._rows is None or not self._unknown.isdisjoint(asset_ids):
            return now  # type: ignore[no-any-return]
        return {id_: self._rows[id_] for id_ in asset_ids if id_ in self._rows}

    def entry_ids(self, collection: Collection, asset_ids: Sequence[str]) -> Mapping[str, frozenset[str]]:
        now = self._store.entry_ids(collection, asset_ids)
        if self._rows is None or not self._unknown.isdisjoint(asset_ids):
            return now  # type: ignore[no-any-return]
        ids_of: dict[str, set[str]] = {}
        for id_, asset_id in self._ids.get(collection, {}).items():
            if asset_id in asset_ids:
                ids_of.setdefault(asset_id, set()).add(id_)
        return {asset_id: frozenset(ids) for asset_id, ids in ids_of.items()}

    def upsert(self, collection: Collection, entries: Sequence[Entry]) -> None:
        with self._tracked(entry.asset.id for entry in entries):
            self._store.upsert(collection, entries)
        self._ids.setdefault(collection, {}).update({entry.id: entry.asset.id for entry in entries})

    def delete(self, collection: Collection, ids: Sequence[str]) -> None:
        self._store.delete(collection, ids)
        if self._rows is not None and ids:
            self._refresh()

    def put_asset_rows(self, rows: Sequence[AssetRow]) -> None:
        with self._tracked(row.asset.id for row in rows):
            self._store.put_asset_rows(rows)
        if self._rows is not None:
            self._rows.update({row.asset.id: row for row in rows})

    @contextmanager
    def _tracked(self, asset_ids: Iterable[str]) -> Iterator[None]:
        written = set(asset_ids)
        try:
            yield
        except Exception:
            self._unknown |= written
            raise
        self._unknown -= written

    def _refresh(self) -> None:
        self._rows = {row.asset.id: row for row in all_asset_rows(self._actual)}
        self._ids = {
            collection: {entry.id: entry.asset.id for entry in all_entries(self._actual, collection)}
            for collection in self._collections
        }
