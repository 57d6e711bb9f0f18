"""Groups the entries that a search found: as moments, as assets, or not at all.

    moment   entries of one audio or video that are close together in time are one hit (`fusion.moments`)
    asset    so they are here, and all hits of one asset become one: the best, with the next ten as its `others`
    entry    every entry is a hit of its own; one with a time is a moment of one member

Hits of an asset that only a deeper search finds are not added to its `others`: a hit is the same for every limit.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import replace

from penstock.query.fusion.base import MomentRules
from penstock.query.types import GroupBy, Hit

# A video can be found at a hundred places; who wants them all searches in it alone, by a filter on its key.
MAX_OTHERS = 10
# Every entry lasts longer than this, so that none is part of a moment with others.
_NO_MOMENTS = MomentRules(max_gap_ms=0, max_ms=-1)


def moment_rules(group_by: GroupBy, rules: MomentRules) -> MomentRules:
    """Returns the rules by which entries become moments: those of the settings, or such that none do."""
    return _NO_MOMENTS if group_by is GroupBy.ENTRY else rules


def group_hits(hits: Sequence[Hit], group_by: GroupBy, *, known: Set[str] = frozenset()) -> list[Hit]:
    """Returns one hit for each asset if they are grouped by asset, else all of them, in their order.

    Args:
        hits: best first.
        group_by: what becomes one hit.
        known: ids of assets that have a hit already, whose hits are left out if they are grouped by asset.
    """
    if group_by is not GroupBy.ASSET:
        return list(hits)
    of_asset: dict[str, list[Hit]] = {}
    for hit in hits:
        asset_id = hit.entry.asset.id
        if asset_id not in known:
            of_asset.setdefault(asset_id, []).append(hit)
    return [replace(best, others=tuple(others[:MAX_OTHERS])) for best, *others in of_asset.values()]


def entry_ids(hit: Hit) -> list[str]:
    """Returns the ids of the entries of a hit, all members of its moment, and of its `others`."""
    own = [hit.entry.id] if hit.moment is None else [member.entry.id for member in hit.moment.members]
    return own if not hit.others else [*own, *(id_ for other in hit.others for id_ in entry_ids(other))]
