"""The rules of an audit, as plain functions: the outcome of an event, and the problems of an asset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple, Protocol

from penstock.audit.report import AuditProblem, ProblemKind
from penstock.records import Collection, Outcome, Position, Version, part_id
from penstock.store.base import AssetState, EntryKey

_MAX_NAMED = 5  # missing parts in one message


class StoredEntry(NamedTuple):
    """The key of an entry, with the collection that holds it."""

    collection: Collection
    key: EntryKey


class EventHistory(Protocol):
    """The events of one asset, as the topics hold them."""

    def in_flight(self, origin: Position) -> Version | None:
        """Returns the version of the event with this origin if it is in flight."""

    def settled(self, origin: Position) -> Version | None:
        """Returns the version of the event with this origin if it lies below the committed offset."""

    def has_newer_in_flight(self, version: Version) -> bool:
        """Returns whether an event newer than this version is in flight."""


def outcome_of(
    version: Version, row: Version | None, *, deleted: bool, dead_letter: bool, expired: bool = False
) -> Outcome | None:
    """Returns the outcome of a settled event: the first that holds, in the order of `Outcome`; None if none does.

    Args:
        version: the version of the event.
        row: the version of its asset's row, if there is one.
        deleted: whether that row's outcome is `DELETED` or `EXPIRED`.
        dead_letter: whether a dead letter has the event as its origin.
        expired: whether that row's outcome is `EXPIRED`.
    """
    if row == version:
        if expired:
            return Outcome.EXPIRED
        return Outcome.DELETED if deleted else Outcome.INDEXED
    if row is not None and row.newer_than(version):
        return Outcome.SUPERSEDED
    return Outcome.DEAD_LETTERED if dead_letter else None


def fits(asset_id: str, row: AssetState | None, entries: Sequence[StoredEntry]) -> bool:
    """Returns whether the entries are those that the row counts, and no others.

    Args:
        asset_id: `AssetRef.id`.
        row: the asset's row, if there is one.
        entries: the asset's entries, ordered by collection and part.
    """
    if row is None or row.deleted:
        return not entries and not (row and row.counts)
    parts: Counter[Collection] = Counter()
    for collection, key in entries:
        number = parts[collection]
        expected_id = part_id(asset_id, collection, number, row.slot)
        if key.part != number or key.origin != row.origin or key.id != expected_id:
            return False
        parts[collection] += 1
    return parts == row.counts


def problems_of(
    asset_id: str, name: str, row: AssetState | None, entries: Sequence[StoredEntry], events: EventHistory
) -> Iterator[AuditProblem]:
    """Yields the problems of an asset that does not fit, except those that an event in flight explains.

    While a newer version is written, its entries stand beside a row of the older one, and entries of the older one are
    missing.

    Args:
        asset_id: `AssetRef.id`.
        name: the asset's name, for messages.
        row: the asset's row, if there is one.
        entries: the asset's entries, ordered by collection and part.
        events: the asset's events.
    """
    for (collection, number), group in groupby(entries, key=lambda entry: (entry.collection, entry.key.part)):
        # A newer version that is written in segments lies beside the older one, under ids of its own.
        keys = [key for _, key in group if not _is_being_written(row, key, events)]
        if len(keys) > 1:
            message = (
                f"{name}: {len(keys)} entries are part {number} in {collection}: {_list([key.id for key in keys])}"
            )
            yield AuditProblem(ProblemKind.DOUBLED, message, asset_id=asset_id, entry_id=keys[-1].id)
        expected_id = part_id(asset_id, collection, number, row.slot if row else 0)
        for key in keys:
            if key.id != expected_id and len(keys) == 1:
                message = f"{name}: entry {key.id} is part {number} in {collection}, which has another id"
                yield AuditProblem(ProblemKind.MISNAMED, message, key.origin, asset_id, key.id)
            misplaced = _misplaced(row, collection, key, events)
            if misplaced is not None:
                kind, reason = misplaced
                message = f"{name}: entry {key.id}, part {number} in {collection} of event {key.origin}, {reason}"
                yield AuditProblem(kind, message, key.origin, asset_id, key.id)
    if row is not None and not events.has_newer_in_flight(row.version):
        yield from _incomplete(asset_id, name, row, entries)


def _misplaced(
    row: AssetState | None, collection: Collection, key: EntryKey, events: EventHistory
) -> tuple[ProblemKind, str] | None:
    """Returns why this entry, which is not being written, should not exist; None if it should."""
    if row is None:
        return ProblemKind.ORPHAN, "has no asset row"
    if key.origin == row.origin:
        if row.deleted:
            return ProblemKind.LEFTOVER, "exists though the asset is deleted"
        count = row.counts.get(collection, 0)
        return None if key.part < count else (ProblemKind.LEFTOVER, f"is beyond the {count} that its row counts")
    settled = events.settled(key.origin)
    if settled is not None and settled.newer_than(row.version):
        return ProblemKind.TORN, f"is newer than its asset row, which is of {row.origin}"
    return ProblemKind.LEFTOVER, f"is not of {row.origin}, which its asset row is of"


def _is_being_written(row: AssetState | None, key: EntryKey, events: EventHistory) -> bool:
    """Returns whether an event in flight that is newer than the asset's row explains the entry."""
    in_flight = events.in_flight(key.origin)
    return in_flight is not None and (row is None or in_flight.newer_than(row.version))


def _incomplete(asset_id: str, name: str, row: AssetState, entries: Sequence[StoredEntry]) -> Iterator[AuditProblem]:
    """Yields the parts that the row counts and that do not exist, one problem for each collection."""
    present = {(collection, key.part) for collection, key in entries}
    for collection, count in row.counts.items():
        absent = [number for number in range(count) if (collection, number) not in present]
        if absent:
            message = f"{name}: of {count} entries in {collection} part {_list(absent)} does not exist"
            first_id = part_id(asset_id, collection, absent[0], row.slot)
            yield AuditProblem(ProblemKind.INCOMPLETE, message, row.origin, asset_id, first_id)


def _list(items: Sequence[object]) -> str:
    shown = ", ".join(map(str, items[:_MAX_NAMED]))
    return shown if len(items) <= _MAX_NAMED else f"{shown} and {len(items) - _MAX_NAMED} more"
