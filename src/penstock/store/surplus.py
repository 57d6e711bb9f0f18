"""Finds the entries of an asset that have to be deleted: surplus of older versions, and orphans of rejected events."""

from __future__ import annotations

from collections import abc
from collections.abc import Mapping, Sequence

from penstock.records import (
    COLLECTIONS_OF,
    SEGMENTED_COLLECTIONS,
    SINGLE_ENTRY_COLLECTIONS,
    SLOTS,
    AssetRow,
    Checkpoint,
    Collection,
    Entry,
    Event,
    part_id,
)
from penstock.store.base import AssetLookup
from penstock.store.write_plan import WritePlan, ids_in_slot, orphaned_ids

# Parts of one asset that are deleted in order; the ids of further ones are deleted in any order.
MAX_ORDERED_PARTS = 100_000


def find_surplus(
    store: AssetLookup, plans: Sequence[WritePlan], entries: Mapping[Collection, Sequence[Entry]]
) -> dict[Collection, list[str]]:
    """Returns the ids of entries that the new versions of these assets do not have, by collection, in deletion order.

    Every collection that the topics can fill is searched. The ids come from the store and not from the asset row,
    since a crash may have left entries that no row accounts for. A collection with at most one entry per asset needs no
    lookup: the entry is either written by this version or deleted.

    Args:
        store: has not yet been given the new entries.
        plans: of the events that are complete with this write.
        entries: about to be written, by collection.
    """
    surplus: dict[Collection, list[str]] = {}
    plan_of = {plan.event.asset.id: plan for plan in plans}
    for collection, ids_of in _entry_ids(store, [plan.event for plan in plans]).items():
        written = {entry.id for entry in entries.get(collection, ())}
        stale: list[str] = []
        for asset_id, ids in ids_of.items():
            plan = plan_of[asset_id]
            kept = written | plan.ids_so_far(collection)
            if plan.protected_slot is not None:
                kept |= ids_in_slot(asset_id, collection, ids, plan.protected_slot)
            stale += _last_part_first(asset_id, collection, ids - kept)
        if stale:
            surplus[collection] = stale
    return surplus


def find_orphans(
    store: AssetLookup, events: Sequence[Event], rows: Mapping[str, AssetRow], checkpoints: Mapping[str, Checkpoint]
) -> dict[Collection, list[str]]:
    """Returns the ids that interrupted writes of rejected events may have left, by collection, in deletion order.

    Args:
        store: is searched.
        events: the rejected events.
        rows, checkpoints: of their assets, by asset id.
    """
    orphans: dict[Collection, list[str]] = {}
    for collection, ids_of in _entry_ids(store, events).items():
        stale: list[str] = []
        for event in events:
            asset_id = event.asset.id
            if ids := ids_of.get(asset_id):
                orphaned = orphaned_ids(event, rows.get(asset_id), checkpoints.get(asset_id), collection, ids)
                stale += _last_part_first(asset_id, collection, orphaned)
        if stale:
            orphans[collection] = stale
    return orphans


def _entry_ids(store: AssetLookup, events: Sequence[Event]) -> dict[Collection, Mapping[str, frozenset[str]]]:
    """Returns entry ids by collection and asset; where an asset has at most one entry, the id that it can have."""
    asset_ids_of: dict[Collection, list[str]] = {}
    for event in events:
        for collection in COLLECTIONS_OF[event.modality]:
            asset_ids_of.setdefault(collection, []).append(event.asset.id)
    return {
        collection: {asset_id: frozenset({part_id(asset_id, collection, 0)}) for asset_id in asset_ids}
        if collection in SINGLE_ENTRY_COLLECTIONS
        else store.entry_ids(collection, asset_ids)
        for collection, asset_ids in asset_ids_of.items()
    }


def _last_part_first(asset_id: str, collection: Collection, ids: abc.Collection[str]) -> list[str]:
    """Returns ids in deletion order: a delete that is interrupted then leaves parts without gaps."""
    slots = range(SLOTS if collection in SEGMENTED_COLLECTIONS else 1)
    parts: dict[str, int] = {}
    part = 0
    while len(parts) < len(ids) and part <= MAX_ORDERED_PARTS:
        parts.update((id_, part) for slot in slots if (id_ := part_id(asset_id, collection, part, slot)) in ids)
        part += 1
    return sorted(ids, key=lambda id_: parts.get(id_, part), reverse=True)
