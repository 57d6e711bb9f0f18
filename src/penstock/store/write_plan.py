"""How an event is written whose media may be long: which ids its entries get, and what of its asset is left alone.

A version that is written in slices lies beside the older one, in the other of two spaces of ids, until its last slice
is there. Pure functions of what the store knows: the asset's row, and how far a version of it is that is under way.
"""

from __future__ import annotations

from collections.abc import Collection as AnyOf
from collections.abc import Mapping
from dataclasses import dataclass, replace

from penstock.records import LONG, AssetRow, Collection, Event, Outcome, Place, Progress, part_id

ABANDONED_MS = 3_600_000
"""A version that has made no progress for so long does not keep older ones waiting: its record may be gone."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How one event is written.

    Attributes:
        event: the event.
        space: of its entries' ids; see `records.part_id`.
        progress: of an event whose media did not fit into one slice, as it is to be noted; None for any other.
        spared: the space in which a newer version is under way, whose entries stay; None if none is.
        drops: whether the asset's progress is over with this event.
    """

    event: Event
    space: int = 0
    progress: Progress | None = None
    spared: int | None = None
    drops: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether nothing of it is to come."""
        return self.progress is None or self.progress.finished

    def earlier(self, collection: Collection) -> set[str]:
        """Ids of the entries that it has once this is written, its earlier slices included; of an event in slices."""
        count = self.progress.counts.get(collection, 0) if self.progress else 0
        return {part_id(self.event.asset.id, collection, part, self.space) for part in range(count)}


@dataclass(frozen=True, slots=True)
class GoesOn:
    """Nothing of the event is written now: its next slice begins at this place, or it waits, if that is the start."""

    event: Event
    place: Place


def plan(
    event: Event, told: Progress | None, *, row: AssetRow | None, begun: Progress | None, now_ms: int
) -> Plan | GoesOn:
    """How an event that its asset's row has not overtaken is written.

    Args:
        event: the event.
        told: of media in slices: where this slice begins and ends.
        row: of its asset, if there is one.
        begun: how far a version of its asset is, this one or another.
        now_ms: milliseconds since the epoch.
    """
    newer = begun is not None and _keeps_waiting(begun, event, now_ms)
    if told is None:
        if begun is None:
            return Plan(event)
        return Plan(event, 1 - begun.space, spared=begun.space) if newer else Plan(event, drops=True)
    if newer:
        return GoesOn(event, Place())
    if begun is not None and begun.version == event.version:
        if told.begins not in (Place(), begun.place) and told.place != begun.place:
            return GoesOn(event, begun.place)
        space = begun.space
    elif told.begins != Place():
        return GoesOn(event, Place())
    else:
        space = 1 - row.space if row is not None and row.counts else 0
    progress = replace(told, space=space, updated_ms=now_ms)
    return Plan(event, space, progress, drops=told.finished and begun is not None)


def waits_for(event: Event, begun: Progress | None, now_ms: int) -> bool:
    """Whether a long medium has to wait for a newer version of it that is under way."""
    return begun is not None and event.payload is not None and _keeps_waiting(begun, event, now_ms)


def leftovers(
    event: Event, row: AssetRow | None, begun: Progress | None, collection: Collection, ids: AnyOf[str]
) -> set[str]:
    """Of the ids of an asset's entries those that a rejected event has perhaps left.

    An asset that has no row, or is deleted, should have none at all. Where an older version has a row, its entries are
    partly overwritten, and removing the rest would lose still more of it; but not by slices, which lie beside it.
    """
    bare = row is None or row.outcome is Outcome.DELETED
    found = set(ids) if bare else set()
    if row is not None and not bare and event.modality in LONG:
        found = in_space(event.asset.id, collection, ids, 1 - row.space)
    if begun is not None and begun.version.newer_than(event.version):
        found -= in_space(event.asset.id, collection, ids, begun.space)
    return found


def in_space(asset_id: str, collection: Collection, ids: AnyOf[str], space: int) -> set[str]:
    """Those of an asset's entries that lie in a space; parts have no gaps in either."""
    return {id_ for part in range(len(ids)) if (id_ := part_id(asset_id, collection, part, space)) in ids}


def known_of(events: AnyOf[Event], begun: Mapping[str, Progress]) -> tuple[Progress, ...]:
    """How far these very events are."""
    ours = [(event, begun[event.asset.id]) for event in events if event.asset.id in begun]
    return tuple(progress for event, progress in ours if progress.version == event.version)


def _keeps_waiting(begun: Progress, event: Event, now_ms: int) -> bool:
    return begun.version.newer_than(event.version) and now_ms - begun.updated_ms < ABANDONED_MS
