"""How an event is written whose media may be long: which ids its entries get, and what of its asset is left alone.

A version that is written in slices lies beside the older one, in the other of two spaces of ids, until its last slice
is there. Pure functions of what the store knows: the asset's row, and how far a version of it is that is under way.
"""

from __future__ import annotations

from collections.abc import Collection as AnyOf
from collections.abc import Mapping
from dataclasses import dataclass, replace

from penstock.records import TIMED_MODALITIES, AssetRow, Checkpoint, Collection, Event, MediaPosition, Outcome, part_id

ABANDONED_AFTER_MS = 3_600_000
"""A version that has made no progress for so long does not keep older ones waiting: its record may be gone."""


@dataclass(frozen=True, slots=True)
class WritePlan:
    """How one event is written.

    Attributes:
        event: the event.
        space: of its entries' ids; see `records.part_id`.
        progress: of an event whose media did not fit into one slice, as it is to be noted; None for any other.
        spared: the space in which a newer version is under way, whose entries stay; None if none is.
        drops: whether the asset's progress is over with this event.
    """

    event: Event
    slot: int = 0
    checkpoint: Checkpoint | None = None
    protected_slot: int | None = None
    ends_checkpoint: bool = False

    @property
    def is_complete(self) -> bool:
        """Whether nothing of it is to come."""
        return self.checkpoint is None or self.checkpoint.finished

    def ids_so_far(self, collection: Collection) -> set[str]:
        """Ids of the entries that it has once this is written, its earlier slices included; of an event in slices."""
        count = self.checkpoint.counts.get(collection, 0) if self.checkpoint else 0
        return {part_id(self.event.asset.id, collection, part, self.slot) for part in range(count)}


@dataclass(frozen=True, slots=True)
class Resume:
    """Nothing of the event is written now: its next slice begins at this place, or it waits, if that is the start."""

    event: Event
    position: MediaPosition


def plan_write(
    event: Event, segment: Checkpoint | None, *, row: AssetRow | None, checkpoint: Checkpoint | None, now_ms: int
) -> WritePlan | Resume:
    """How an event that its asset's row has not overtaken is written.

    Args:
        event: the event.
        told: of media in slices: where this slice begins and ends.
        row: of its asset, if there is one.
        begun: how far a version of its asset is, this one or another.
        now_ms: milliseconds since the epoch.
    """
    newer = checkpoint is not None and _is_newer_and_active(checkpoint, event, now_ms)
    if segment is None:
        if checkpoint is None:
            return WritePlan(event)
        return (
            WritePlan(event, 1 - checkpoint.slot, protected_slot=checkpoint.slot)
            if newer
            else WritePlan(event, ends_checkpoint=True)
        )
    if newer:
        return Resume(event, MediaPosition())
    if checkpoint is not None and checkpoint.version == event.version:
        if segment.start not in (MediaPosition(), checkpoint.position) and segment.position != checkpoint.position:
            return Resume(event, checkpoint.position)
        space = checkpoint.slot
    elif segment.start != MediaPosition():
        return Resume(event, MediaPosition())
    else:
        space = 1 - row.slot if row is not None and row.counts else 0
    progress = replace(segment, slot=space, updated_ms=now_ms)
    return WritePlan(event, space, progress, ends_checkpoint=segment.finished and checkpoint is not None)


def must_wait(event: Event, checkpoint: Checkpoint | None, now_ms: int) -> bool:
    """Whether a long medium has to wait for a newer version of it that is under way."""
    return checkpoint is not None and event.payload is not None and _is_newer_and_active(checkpoint, event, now_ms)


def orphaned_ids(
    event: Event, row: AssetRow | None, checkpoint: Checkpoint | None, collection: Collection, ids: AnyOf[str]
) -> set[str]:
    """Of the ids of an asset's entries those that a rejected event has perhaps left.

    An asset that has no row, or is deleted, should have none at all. Where an older version has a row, its entries are
    partly overwritten, and removing the rest would lose still more of it; but not by slices, which lie beside it.
    """
    bare = row is None or row.outcome is Outcome.DELETED
    found = set(ids) if bare else set()
    if row is not None and not bare and event.modality in TIMED_MODALITIES:
        found = ids_in_slot(event.asset.id, collection, ids, 1 - row.slot)
    if checkpoint is not None and checkpoint.version.newer_than(event.version):
        found -= ids_in_slot(event.asset.id, collection, ids, checkpoint.slot)
    return found


def ids_in_slot(asset_id: str, collection: Collection, ids: AnyOf[str], slot: int) -> set[str]:
    """Those of an asset's entries that lie in a space; parts have no gaps in either."""
    return {id_ for part in range(len(ids)) if (id_ := part_id(asset_id, collection, part, slot)) in ids}


def own_checkpoints(events: AnyOf[Event], checkpoints: Mapping[str, Checkpoint]) -> tuple[Checkpoint, ...]:
    """How far these very events are."""
    ours = [(event, checkpoints[event.asset.id]) for event in events if event.asset.id in checkpoints]
    return tuple(progress for event, progress in ours if progress.version == event.version)


def _is_newer_and_active(checkpoint: Checkpoint, event: Event, now_ms: int) -> bool:
    return checkpoint.version.newer_than(event.version) and now_ms - checkpoint.updated_ms < ABANDONED_AFTER_MS
