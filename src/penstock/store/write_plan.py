"""Decides how an event is written: the slot of its entries, protected entries, and where its media continue.

A version that is written in segments lies beside the older one, in the other of two slots of ids, until its last
segment is written. The functions are pure: they decide from the asset row and from the checkpoint that the store holds.
"""

from __future__ import annotations

from collections import abc
from collections.abc import Mapping
from dataclasses import dataclass, replace

from penstock.records import (
    SEGMENTED_MODALITIES,
    AssetRow,
    Checkpoint,
    Collection,
    Continues,
    Event,
    MediaPosition,
    Outcome,
    Settled,
    WriteResult,
    Written,
    part_id,
)

# A version whose checkpoint has not moved for this long no longer blocks older ones: its record may be gone.
ABANDONED_AFTER_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class WritePlan:
    """The decisions for one event that is written.

    Attributes:
        event: the event.
        slot: of its entries' ids; see `records.part_id`.
        checkpoint: to be stored with this segment, for media that take more than one; None for any other event.
        protected_slot: the slot of a newer version that is being written, whose entries stay; None if there is none.
        ends_checkpoint: whether the asset's checkpoint is dropped once the event is written.
        former_acl: labels of the version that the asset row stands for.
        expires: whether it ends the time of the indexed version, see `is_expiry`.
    """

    event: Event
    slot: int = 0
    checkpoint: Checkpoint | None = None
    protected_slot: int | None = None
    ends_checkpoint: bool = False
    former_acl: tuple[str, ...] = ()
    expires: bool = False

    @property
    def acl(self) -> tuple[str, ...]:
        """Labels of the asset: a deletion is shown to those who could read it."""
        return self.former_acl if self.event.is_tombstone else self.event.acl

    @property
    def is_complete(self) -> bool:
        """Whether this write is the last of the event."""
        return self.checkpoint is None or self.checkpoint.finished

    @property
    def outcome(self) -> Outcome:
        """The outcome of the event once it is complete."""
        if self.expires:
            return Outcome.EXPIRED
        return Outcome.DELETED if self.event.is_tombstone else Outcome.INDEXED

    def ids_so_far(self, collection: Collection) -> set[str]:
        """Returns the ids of all entries up to this segment; none for an event that is written without checkpoints."""
        count = self.checkpoint.counts.get(collection, 0) if self.checkpoint else 0
        return {part_id(self.event.asset.id, collection, part, self.slot) for part in range(count)}

    def result(self, written: Mapping[Collection, int], now_ms: int) -> WriteResult:
        """Returns the result to report once everything planned is acknowledged.

        Args:
            written: the number of entries that this write added, by collection.
            now_ms: milliseconds since the epoch.
        """
        counts = written if self.checkpoint is None else self.checkpoint.counts
        since = {collection: count - written.get(collection, 0) for collection, count in counts.items()}
        stored = Written(counts, now_ms, self.slot, {name: part for name, part in since.items() if part}, self.acl)
        if self.checkpoint is None or self.checkpoint.finished:
            return Settled(self.event.position, self.outcome, written=stored)
        return Continues(self.event.position, self.checkpoint.position, stored)


@dataclass(frozen=True, slots=True)
class Resume:
    """Nothing is written now: the event's next segment begins at `position`, or, if that is the start, it waits.

    `written` is what another write of this version has stored, which may not have been announced.
    """

    event: Event
    position: MediaPosition
    written: Written | None = None


def plan_write(
    event: Event, segment: Checkpoint | None, *, row: AssetRow | None, checkpoint: Checkpoint | None, now_ms: int
) -> WritePlan | Resume:
    """Decides how an event is written that is newer than its asset row.

    Args:
        event: the event.
        segment: where the decoded segment starts and ends; None for media that were decoded as a whole.
        row: the asset row, if there is one.
        checkpoint: the stored checkpoint of the asset, of this version or another.
        now_ms: milliseconds since the epoch.
    """
    if segment is not None:
        return _plan_segment(event, segment, row, checkpoint, now_ms)
    former, expires = () if row is None else row.acl, is_expiry(event, row)
    if checkpoint is None:
        return WritePlan(event, former_acl=former, expires=expires)
    if _is_newer_and_active(checkpoint, event, now_ms):
        return WritePlan(event, 1 - checkpoint.slot, protected_slot=checkpoint.slot, former_acl=former)
    return WritePlan(event, ends_checkpoint=True, former_acl=former, expires=expires)


def is_expiry(event: Event, row: AssetRow | None) -> bool:
    """Returns whether an event ends the time of the version that is indexed: a replay of it without its value.

    Only Penstock signs such a replay (`ingest.retention`). Once the asset has a newer version it changes nothing.
    """
    is_valueless_replay = event.is_tombstone and event.origin != event.position
    return is_valueless_replay and row is not None and row.version == event.version and row.outcome is Outcome.INDEXED


def must_wait(event: Event, checkpoint: Checkpoint | None, now_ms: int) -> bool:
    """Returns whether long media have to wait for a newer version that is being written."""
    return checkpoint is not None and event.payload is not None and _is_newer_and_active(checkpoint, event, now_ms)


def orphaned_ids(
    event: Event, row: AssetRow | None, checkpoint: Checkpoint | None, collection: Collection, ids: abc.Collection[str]
) -> set[str]:
    """Returns those of an asset's entry ids that an interrupted write of a rejected event may have left.

    An asset that has no row, or is deleted, should have no entries at all. If an older version has a row, its entries
    are partly overwritten, and removing the others would lose still more of it; segments, however, lie beside it.
    """
    has_no_entries = row is None or row.outcome is not Outcome.INDEXED
    orphaned = set(ids) if has_no_entries else set()
    if row is not None and not has_no_entries and event.modality in SEGMENTED_MODALITIES:
        orphaned = ids_in_slot(event.asset.id, collection, ids, 1 - row.slot)
    if checkpoint is not None and checkpoint.version.newer_than(event.version):
        orphaned -= ids_in_slot(event.asset.id, collection, ids, checkpoint.slot)
    return orphaned


def ids_in_slot(asset_id: str, collection: Collection, ids: abc.Collection[str], slot: int) -> set[str]:
    """Returns those of an asset's entry ids that lie in a slot; parts have no gaps in either."""
    return {id_ for part in range(len(ids)) if (id_ := part_id(asset_id, collection, part, slot)) in ids}


def own_checkpoints(events: abc.Collection[Event], checkpoints: Mapping[str, Checkpoint]) -> tuple[Checkpoint, ...]:
    """Returns the checkpoints that belong to the very versions of these events."""
    pairs = [(event, checkpoints[event.asset.id]) for event in events if event.asset.id in checkpoints]
    return tuple(checkpoint for event, checkpoint in pairs if checkpoint.version == event.version)


def written_so_far(checkpoint: Checkpoint) -> Written:
    """Returns all that the store holds of the version of a checkpoint."""
    return Written(checkpoint.counts, checkpoint.updated_ms, checkpoint.slot)


def is_obsolete(checkpoint: Checkpoint | None, event: Event) -> bool:
    """Returns whether a checkpoint belongs to a settled event: this one, or an older one."""
    return checkpoint is not None and not checkpoint.version.newer_than(event.version)


def _plan_segment(
    event: Event, segment: Checkpoint, row: AssetRow | None, checkpoint: Checkpoint | None, now_ms: int
) -> WritePlan | Resume:
    start = MediaPosition()
    if checkpoint is not None and _is_newer_and_active(checkpoint, event, now_ms):
        return Resume(event, start)
    if checkpoint is not None and checkpoint.version == event.version:
        if segment.start not in (start, checkpoint.position) and segment.position != checkpoint.position:
            return Resume(event, checkpoint.position, written_so_far(checkpoint))
        slot = checkpoint.slot
    elif segment.start != start:
        return Resume(event, start)
    else:
        slot = 1 - row.slot if row is not None and row.counts else 0
    stored = replace(segment, slot=slot, updated_ms=now_ms)
    return WritePlan(event, slot, stored, ends_checkpoint=segment.finished and checkpoint is not None)


def _is_newer_and_active(checkpoint: Checkpoint, event: Event, now_ms: int) -> bool:
    return checkpoint.version.newer_than(event.version) and now_ms - checkpoint.updated_ms < ABANDONED_AFTER_MS
