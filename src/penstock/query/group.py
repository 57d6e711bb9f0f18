"""Groups the entries that a search found: as moments, as assets, or not at all.

    moment   entries of one audio or video that are close together in time are one hit (`fusion.moments`)
    asset    so they are here, and all hits of one asset become one: the best, with the next ten as its `others`
    entry    every entry is a hit of its own; one with a time is a moment of one member

The image of a page of a document shows what its passages say. After a hit of such a passage it is one of the `others`
of that hit, unless every entry is a hit of its own.

Hits of an asset that only a deeper search finds are not added to its `others`: a hit is the same for every limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from penstock.query.fusion.base import MomentRules
from penstock.query.types import GroupBy, Hit
from penstock.records import Collection

# A video can be found at a hundred places; who wants them all searches in it alone, by a filter on its key.
MAX_OTHERS = 10
# Every entry lasts longer than this, so that none is part of a moment with others.
_NO_MOMENTS = MomentRules(max_gap_ms=0, max_ms=-1)


def moment_rules(group_by: GroupBy, rules: MomentRules) -> MomentRules:
    """Returns the rules by which entries become moments: those of the settings, or such that none do."""
    return _NO_MOMENTS if group_by is GroupBy.ENTRY else rules


def group_hits(hits: Sequence[Hit], group_by: GroupBy, *, known: Sequence[Hit] = ()) -> list[Hit]:
    """Returns one hit for each asset if they are grouped by asset; else all but images of known pages.

    Args:
        hits: best first.
        group_by: what becomes one hit.
        known: better hits that there are already. Those that would be among their `others` are left out.
    """
    if group_by is GroupBy.ENTRY:
        return list(hits)
    groups: list[list[Hit]] = []
    by_key: dict[str, list[Hit]] = {}
    taken = {key for hit in known for key in _keys(hit, group_by)}
    for hit in hits:
        key, *further = _keys(hit, group_by)
        if key in taken:
            continue
        if (group := by_key.get(key)) is not None:
            group.append(hit)
            continue
        groups.append([hit])
        for joined in (key, *further):
            by_key.setdefault(joined, groups[-1])
    return [replace(best, others=tuple(others[:MAX_OTHERS])) for best, *others in groups]


def _keys(hit: Hit, group_by: GroupBy) -> tuple[str, ...]:
    """Returns the group that a hit joins if there is one, and the further ones that join it."""
    entry = hit.entry
    if group_by is GroupBy.ASSET:
        return (entry.asset.id,)
    if not entry.page or entry.figure:
        return (entry.id,)
    origin = entry.origin
    page = f"{entry.asset.id} {origin.topic} {origin.partition} {origin.offset} {entry.page}"
    return (page,) if entry.collection is Collection.PAGE else (entry.id, page)


def entry_ids(hit: Hit) -> list[str]:
    """Returns the ids of the entries of a hit, all members of its moment, and of its `others`."""
    own = [hit.entry.id] if hit.moment is None else [member.entry.id for member in hit.moment.members]
    return own if not hit.others else [*own, *(id_ for other in hit.others for id_ in entry_ids(other))]
