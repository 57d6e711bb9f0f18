"""Finds the entries of an asset by primary key, for a store that reads every row to filter by `asset`."""

from __future__ import annotations

from collections import abc
from collections.abc import Callable, Mapping, Sequence

from penstock.records import SEGMENTED_COLLECTIONS, SLOTS, Collection, part_id

# Parts of an asset in the first request. Most assets have fewer; one request of 32 × 8 keys took 4 ms in Lite.
FIRST_PARTS = 8
# Missing parts in a row after which an asset ends. One would suffice, as parts have no gaps: they are written in
# ascending order, and a delete is one record of Lite's log.
_MISSING_PARTS = 4


def find_parts(
    collection: Collection, asset_ids: Sequence[str], existing: Callable[[Sequence[str]], abc.Collection[str]]
) -> Mapping[str, frozenset[str]]:
    """Returns the ids of all entries of these assets; absent assets are left out.

    Args:
        collection: the collection to search.
        asset_ids: `AssetRef.id` of each.
        existing: returns those of some entry ids that exist.
    """
    ids_of: dict[str, set[str]] = {}
    slots = range(SLOTS if collection in SEGMENTED_COLLECTIONS else 1)
    remaining, start, width = [(asset, slot) for asset in dict.fromkeys(asset_ids) for slot in slots], 0, FIRST_PARTS
    while remaining:
        parts = range(start, start + width)
        candidates = {
            (asset, slot): [part_id(asset, collection, part, slot) for part in parts] for asset, slot in remaining
        }
        present = set(existing([id_ for ids in candidates.values() for id_ in ids]))
        for (asset, _), ids in candidates.items():
            ids_of.setdefault(asset, set()).update(present.intersection(ids))
        remaining = [pair for pair, ids in candidates.items() if not present.isdisjoint(ids[-_MISSING_PARTS:])]
        start, width = start + width, width * 2
    return {asset: frozenset(ids) for asset, ids in ids_of.items() if ids}
