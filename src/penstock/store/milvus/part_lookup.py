"""Finding the entries of an asset by primary key, for a store that reads every row to filter by `asset`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from penstock import records
from penstock.records import SLOTS, TIMED_COLLECTIONS, part_id

FIRST_PARTS = 8
"""Parts asked for at once in the first round. Most assets have fewer; one request of 32 × 8 keys took 4 ms in Lite."""
MARGIN = 4
"""An asset ends where so many parts in a row are missing. One would do, as parts have no gaps: they are written in
ascending order, and a delete is one record of Lite's log."""


def find_parts(
    collection: records.Collection, asset_ids: Sequence[str], present: Callable[[Sequence[str]], Collection[str]]
) -> Mapping[str, frozenset[str]]:
    """The ids of all entries of these assets; absent assets are left out.

    Args:
        collection: where to look.
        asset_ids: `AssetRef.id` of each.
        present: tells which of some entry ids exist.
    """
    found: dict[str, set[str]] = {}
    for space in range(SLOTS if collection in TIMED_COLLECTIONS else 1):
        asked, start, width = list(dict.fromkeys(asset_ids)), 0, FIRST_PARTS
        while asked:
            parts = range(start, start + width)
            ids = {asset: [part_id(asset, collection, part, space) for part in parts] for asset in asked}
            there = set(present([each for wanted in ids.values() for each in wanted]))
            for asset in asked:
                found.setdefault(asset, set()).update(there.intersection(ids[asset]))
            asked = [asset for asset in asked if not there.isdisjoint(ids[asset][-MARGIN:])]
            start, width = start + width, width * 2
    return {asset: frozenset(ids) for asset, ids in found.items() if ids}
