"""The rules of an audit, as plain functions: how an event ended, and what is wrong with an asset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Protocol, TypeAlias

from penstock.audit.report import AuditProblem, ProblemKind
from penstock.records import Collection, Outcome, Position, Version, part_id
from penstock.store.base import AssetState, EntryKey

Held: TypeAlias = tuple[Collection, EntryKey]
"""An entry with the collection that holds it."""

_MOST_NAMED = 5  # absent parts in one line


class Events(Protocol):
    """What the topics say of the events of one asset."""

    def pending(self, origin: Position) -> Version | None:
        """The version of the event that was first at this position, if it is in flight."""

    def settled(self, origin: Position) -> Version | None:
        """The same, if it lies below the committed offset."""

    def newer_pending(self, version: Version) -> bool:
        """Whether an event newer than this version is in flight."""


def outcome_of(version: Version, row: Version | None, *, deleted: bool, dead_letter: bool) -> Outcome | None:
    """How a settled event ended: the first that holds, in the order of `Outcome`; None if nothing does.

    Args:
        version: of the event.
        row: of its asset's row, if there is one.
        deleted: that row's outcome is `DELETED`.
        dead_letter: a dead letter has the event as its origin.
    """
    if row == version:
        return Outcome.DELETED if deleted else Outcome.INDEXED
    if row is not None and row.newer_than(version):
        return Outcome.SUPERSEDED
    return Outcome.DEAD_LETTERED if dead_letter else None


def fits(asset_id: str, row: AssetState | None, entries: Sequence[Held]) -> bool:
    """Whether the entries are what the row tells of, and nothing else.

    Args:
        asset_id: `AssetRef.id`.
        row: of the asset, if there is one.
        entries: of the asset, by collection and part.
    """
    if row is None or row.deleted:
        return not entries and not (row and row.counts)
    found: Counter[Collection] = Counter()
    for collection, entry in entries:
        number = found[collection]
        wanted = part_id(asset_id, collection, number, row.slot)
        if entry.part != number or entry.origin != row.origin or entry.id != wanted:
            return False
        found[collection] += 1
    return found == row.counts


def problems_of(
    asset_id: str, name: str, row: AssetState | None, entries: Sequence[Held], events: Events
) -> Iterator[AuditProblem]:
    """What is wrong with an asset that does not fit, less what an event in flight accounts for: while a newer version
    is written, its entries stand beside a row of the older one, and entries of the older one are gone.

    Args:
        asset_id: `AssetRef.id`.
        name: of the asset, for people.
        row: of the asset, if there is one.
        entries: of the asset, by collection and part.
        events: of the asset.
    """
    for (collection, number), group in groupby(entries, key=lambda held: (held[0], held[1].part)):
        # A newer version that is written in slices lies beside the older one, under ids of its own.
        same = [entry for _, entry in group if not _is_being_written(row, entry, events)]
        if len(same) > 1:
            line = f"{name}: {len(same)} entries are part {number} in {collection}: {_list([each.id for each in same])}"
            yield AuditProblem(ProblemKind.DOUBLED, line, asset_id=asset_id, entry_id=same[-1].id)
        for entry in same:
            if entry.id != part_id(asset_id, collection, number, row.slot if row else 0) and len(same) == 1:
                line = f"{name}: entry {entry.id} is part {number} in {collection}, which has another id"
                yield AuditProblem(ProblemKind.MISNAMED, line, entry.origin, asset_id, entry.id)
            found = _misplaced(row, collection, entry, events)
            if found is not None:
                kind, why = found
                line = f"{name}: entry {entry.id}, part {number} in {collection} of event {entry.origin}, {why}"
                yield AuditProblem(kind, line, entry.origin, asset_id, entry.id)
    if row is not None and not events.newer_pending(row.version):
        yield from _absent(asset_id, name, row, entries)


def _misplaced(
    row: AssetState | None, collection: Collection, entry: EntryKey, events: Events
) -> tuple[ProblemKind, str] | None:
    """Why this entry, which is not being written, should not be there; None if it should."""
    if row is None:
        return ProblemKind.ORPHAN, "has no asset row"
    if entry.origin == row.origin:
        if row.deleted:
            return ProblemKind.LEFTOVER, "is left though the asset is deleted"
        count = row.counts.get(collection, 0)
        return None if entry.part < count else (ProblemKind.LEFTOVER, f"is beyond the {count} that its row tells of")
    settled = events.settled(entry.origin)
    if settled is not None and settled.newer_than(row.version):
        return ProblemKind.TORN, f"is newer than its asset row, which is of {row.origin}"
    return ProblemKind.LEFTOVER, f"is not of {row.origin}, which its asset row is of"


def _is_being_written(row: AssetState | None, entry: EntryKey, events: Events) -> bool:
    """Whether an event in flight accounts for the entry, one that is newer than the asset's row."""
    pending = events.pending(entry.origin)
    return pending is not None and (row is None or pending.newer_than(row.version))


def _absent(asset_id: str, name: str, row: AssetState, entries: Sequence[Held]) -> Iterator[AuditProblem]:
    found = {(collection, entry.part) for collection, entry in entries}
    for collection, count in row.counts.items():
        absent = [number for number in range(count) if (collection, number) not in found]
        if absent:
            line = f"{name}: of {count} entries in {collection} part {_list(absent)} is not there"
            yield AuditProblem(
                ProblemKind.INCOMPLETE, line, row.origin, asset_id, part_id(asset_id, collection, absent[0], row.slot)
            )


def _list(items: Sequence[object]) -> str:
    shown = ", ".join(map(str, items[:_MOST_NAMED]))
    return shown if len(items) <= _MOST_NAMED else f"{shown} and {len(items) - _MOST_NAMED} more"
