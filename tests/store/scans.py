"""Reads whole collections for tests. The stores themselves scan only keys and states."""

from __future__ import annotations

from penstock.records import AssetRow, Collection, Entry
from penstock.store.base import EntryScan


def all_entries(store: EntryScan, collection: Collection) -> list[Entry]:
    """Returns all entries of a collection, with their vectors, by ascending id."""
    entries: list[Entry] = []
    for page in store.scan_entry_keys(collection):
        entries += sorted(store.get(collection, [key.id for key in page]), key=lambda entry: entry.id)
    return entries


def all_asset_rows(store: EntryScan) -> list[AssetRow]:
    """Returns all asset rows by ascending asset id."""
    asset_rows: list[AssetRow] = []
    for page in store.scan_asset_states():
        by_id = store.asset_rows([state.asset_id for state in page])
        asset_rows += [by_id[state.asset_id] for state in page if state.asset_id in by_id]
    return asset_rows
