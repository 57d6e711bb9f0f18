"""The only hand that changes entries and asset rows: fences, orders, upserts, removes surplus, and says what became of
each event.

A writer owns the assets whose id falls into its shard, in all collections, so that order check, entries, surplus and
asset row of one asset are never interleaved with another writer's. One writer that writes one batch at a time is
therefore also the one writer of each collection that Milvus Lite demands.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Collection as AnyOf
from dataclasses import dataclass

from penstock.concurrency import KeyedLocks, MemoryBudget
from penstock.errors import NotReadyError, PermanentError, Reason
from penstock.records import (
    COLLECTIONS_OF,
    SINGLE_ENTRY_COLLECTIONS,
    SLOTS,
    TIMED_COLLECTIONS,
    TIMED_MODALITIES,
    AssetRow,
    Assignment,
    Checkpoint,
    ClaimCheck,
    Collection,
    Continues,
    Decoded,
    Encoded,
    Entry,
    Event,
    Fenced,
    MediaPosition,
    Outcome,
    PendingEntry,
    Rejected,
    Settled,
    WriteResult,
    entry_id,
    part_id,
)
from penstock.store.base import Store
from penstock.store.write_plan import (
    Resume,
    WritePlan,
    ids_in_slot,
    must_wait,
    orphaned_ids,
    own_checkpoints,
    plan_write,
)

logger = logging.getLogger(__name__)

MAX_CONCURRENT_ENTRIES = 16_384  # entries that are being made into requests: some 250 MB, or one batch that has more
MAX_ORDERED_PARTS = 100_000  # of an asset: beyond, ids are deleted in any order


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """One batch to write, with the right to do so.

    Attributes:
        lane: who asks; for the log.
        assignments: of every partition that events of the batch were delivered from.
    """

    lane: str
    assignments: tuple[Assignment, ...]


class Writer:
    """Writes batches, from as many threads as the store takes at once; of one asset, one event at a time.

    It accepts nothing until `start` told it which lane owns what: after a restart it would otherwise take the write of
    a lane that lost its partition for a rightful one. From then on it learns newer assignments from the writes.

    Args:
        store: where to.
        wall_ms: milliseconds since the epoch, for `indexed_at`.
        shard, shards: this writer's assets are those for which `shard_of(id, shards) == shard`; others are left alone.
        claims: keeps threads apart that would write the same asset.
    """

    def __init__(
        self,
        store: Store,
        *,
        wall_ms: Callable[[], int],
        shard: int = 0,
        shards: int = 1,
        locks: KeyedLocks | None = None,
    ) -> None:
        self._store = store
        self._shard = shard
        self._shards = shards
        self._wall_ms = wall_ms
        self._locks = locks or KeyedLocks()
        self._room = MemoryBudget(
            MAX_CONCURRENT_ENTRIES
        )  # asked for with assets claimed, and never the other way round
        self._lock = threading.Lock()  # of the generations
        self._generations: dict[tuple[str, int], int] | None = None

    def is_started(self) -> bool:
        """Whether it knows the assignments and accepts writes."""
        return self._generations is not None

    def start(self, assignments: Iterable[Assignment]) -> None:
        """Learns the assignments that are in force, from all lanes. Never lowers a generation it knows.

        Raises:
            UnavailableError: the store does not answer; it has not begun.
        """
        self._store.catch_up()
        with self._lock:
            self._generations = self._generations or {}
            self._record_assignments(assignments)

    def write(self, request: WriteRequest, decoded: Decoded, *encoded: Encoded) -> tuple[WriteResult, ...]:
        """Writes one batch; the order of the steps is the guarantee.

        1. fence      events of a partition that now has a newer assignment are dropped
        2. reject     an asset with an item that could not be encoded is rejected as a whole
        3. order      an event that is older than its asset row is superseded, the same one is already settled
        4. entries    upserted, acknowledged
        5. surplus    entries that this version of the asset did not write are deleted, acknowledged
        6. asset rows upserted last, acknowledged: from here on the event counts as settled

        Of an event with long media (`Decoded.progress`) one slice is written: its entries, and then how far it is. They
        have ids in the space in which the older version is not; 5 and 6 are for the last slice.

        Args:
            request: who writes, by which right.
            decoded: one event per asset; those of other shards are passed over.
            encoded: the vectors that `decoded.pending` refer to.

        Returns:
            what became of the events of this shard; what was rejected before is told by shard 0.

        Raises:
            NotReadyError: this writer was restarted and does not know the assignments yet.
            UnavailableError: the store does not answer; nothing is lost by writing the whole batch again.
        """
        mine = self._own_events((*decoded.indexable, *decoded.tombstones))
        with self._locks.hold(event.asset.id for event in mine):
            fenced = self._fence(request)
            failed = _encode_failures(decoded, encoded)
            told = decoded.rejected if self._shard == 0 else ()
            results: list[WriteResult] = [Settled(item.position, Outcome.DEAD_LETTERED, item) for item in told]
            live: list[Event] = []
            for event in mine:
                if (event.position.topic, event.position.partition) in fenced:
                    results.append(Fenced(event.position))
                elif event.asset.id in failed:
                    rejected = Rejected(
                        event.position, "encode", Reason.ENCODER_FAILED, f"{event.asset}: {failed[event.asset.id]}"
                    )
                    results.append(Settled(event.position, Outcome.DEAD_LETTERED, rejected))
                else:
                    live.append(event)
            return (*results, *self._write_live(live, decoded, encoded))

    def lookup(
        self, request: WriteRequest, events: Sequence[Event]
    ) -> tuple[tuple[WriteResult, ...], tuple[Checkpoint, ...]]:
        """What is known of events of this shard before anything is done for them: those that are settled already, are
        fenced, or have to wait for a newer version under way; and how far those are that were left in the midst.

        Raises:
            NotReadyError, UnavailableError: as `write` does.
        """
        mine = self._own_events(events)
        with self._locks.hold(event.asset.id for event in mine):
            fenced = self._fence(request)
            lost = [event for event in mine if (event.position.topic, event.position.partition) in fenced]
            settled, current, _ = self._order([event for event in mine if event not in lost])
            self._drop_stale_checkpoints([event for event in mine if event not in lost and event not in current])
            begun, now_ms = self._checkpoints(current), self._wall_ms()
            waiting = [event for event in current if must_wait(event, begun.get(event.asset.id), now_ms)]
            results: list[WriteResult] = [*settled, *(Fenced(event.position) for event in lost)]
            results += [Continues(event.position, MediaPosition()) for event in waiting]
            return tuple(results), own_checkpoints([event for event in current if event not in waiting], begun)

    def _drop_stale_checkpoints(self, settled: Sequence[Event]) -> None:
        """Drops what is known of how far they are: a writer that died after an asset's row has left it."""
        left = self._checkpoints(settled)
        over = {event.asset.id for event in settled if _is_obsolete(event, left.get(event.asset.id))}
        if over:
            self._store.drop_checkpoints(sorted(over))

    def retract(self, request: WriteRequest, events: Sequence[Event]) -> None:
        """Removes what a write that broke off has left of events that turned out to be rejected; see `orphaned_ids`.

        Their writer or lane died after some entries and before the asset row, and then the media were gone, say.

        Args:
            request: who asks, by which right; fenced as `write` is.
            events: those that are rejected; of other shards they are passed over.

        Raises:
            NotReadyError, UnavailableError: as `write` does.
        """
        mine = self._own_events(events)
        with self._locks.hold(event.asset.id for event in mine):
            fenced = self._fence(request)
            kept = [event for event in mine if (event.position.topic, event.position.partition) not in fenced]
            if not kept:
                return
            self._store.catch_up()  # the write that broke off was perhaps a dead writer's, and came about late
            rows = self._store.asset_rows([event.asset.id for event in kept])
            begun = self._checkpoints(kept)
            for collection, found in self._entries_of(kept).items():
                stale = [
                    id_
                    for event in kept
                    if (ids := found.get(event.asset.id))
                    for id_ in _last_part_first(
                        event.asset.id,
                        collection,
                        orphaned_ids(event, rows.get(event.asset.id), begun.get(event.asset.id), collection, ids),
                    )
                ]
                if stale:
                    self._store.delete(collection, stale)
            over = [event.asset.id for event in kept if _is_obsolete(event, begun.get(event.asset.id))]
            if over:
                self._store.drop_checkpoints(over)

    def _own_events(self, events: Iterable[Event]) -> list[Event]:
        return [event for event in events if shard_of(event.asset.id, self._shards) == self._shard]

    def _write_live(self, events: Sequence[Event], decoded: Decoded, encoded: Sequence[Encoded]) -> list[WriteResult]:
        settled, current, rows = self._order(events)
        begun, now_ms = self._checkpoints(current), self._wall_ms()
        told = {one.asset.id: one for one in decoded.checkpoints}
        results: list[WriteResult] = [*settled]
        plans: dict[str, WritePlan] = {}
        for event in current:
            asset_id = event.asset.id
            made = plan_write(
                event, told.get(asset_id), row=rows.get(asset_id), checkpoint=begun.get(asset_id), now_ms=now_ms
            )
            if isinstance(made, Resume):
                results.append(Continues(event.position, made.position))
            else:
                plans[asset_id] = made
        if not plans:
            return results
        drafts = [draft for draft in decoded.pending if draft.event.asset.id in plans]
        with self._room.reserve(len(drafts)):
            return results + self._write_planned(plans, drafts, encoded)

    def _write_planned(
        self, plans: Mapping[str, WritePlan], drafts: Sequence[PendingEntry], encoded: Sequence[Encoded]
    ) -> list[WriteResult]:
        entries = self._entries(drafts, encoded, plans)
        whole = [one for one in plans.values() if one.is_complete]
        unfinished = [one.checkpoint for one in plans.values() if one.checkpoint is not None and not one.is_complete]
        surplus = self._surplus(whole, entries)
        for collection, written in entries.items():
            self._store.upsert(collection, written)
        if unfinished:
            self._store.put_checkpoints(unfinished)
        for collection, ids in surplus.items():
            self._store.delete(collection, ids)
        rows = self._rows(whole, entries)
        if rows:
            self._store.put_asset_rows(rows)
        if over := [one.event.asset.id for one in whole if one.ends_checkpoint]:
            self._store.drop_checkpoints(over)
        ended = {one.event.asset.id: row.outcome for one, row in zip(whole, rows, strict=True)}
        return [_result(one, ended.get(asset_id)) for asset_id, one in plans.items()]

    # --- 1 fence ----------------------------------------------------------------------------------------------------

    def _fence(self, request: WriteRequest) -> frozenset[tuple[str, int]]:
        """The partitions whose events must not be written; learns assignments that are newer than those known. Asked
        with the assets claimed: what a newer owner wrote of them while this write waited is seen. So is what was
        written while a partition was another's, perhaps by the writer of another plane.
        """
        if self._has_newer_assignment(request.assignments):
            self._store.catch_up()  # before any thread takes these assignments for known
        with self._lock:
            assert self._generations is not None
            fenced = frozenset(
                (assignment.topic, assignment.partition)
                for assignment in request.assignments
                if assignment.generation < self._generations.get((assignment.topic, assignment.partition), -1)
            )
            self._record_assignments(request.assignments)
        for topic, partition in sorted(fenced):
            logger.warning(
                "refused a write of lane %s to %s[%d]: it lost that partition", request.lane, topic, partition
            )
        return fenced

    def _has_newer_assignment(self, assignments: Iterable[Assignment]) -> bool:
        with self._lock:
            known = self._generations
            if known is None:
                raise NotReadyError(
                    "the writer was restarted and waits to be told which lane owns what; the batch is retried"
                )
            return any(one.generation > known.get((one.topic, one.partition), -1) for one in assignments)

    def _record_assignments(self, assignments: Iterable[Assignment]) -> None:
        known = self._generations
        assert known is not None
        for assignment in assignments:
            key = (assignment.topic, assignment.partition)
            known[key] = max(assignment.generation, known.get(key, -1))

    # --- 3 order ----------------------------------------------------------------------------------------------------

    def _order(self, events: Sequence[Event]) -> tuple[list[Settled], list[Event], Mapping[str, AssetRow]]:
        """Splits off the events that their asset rows have overtaken, or already stand for; and those rows."""
        rows = self._store.asset_rows([event.asset.id for event in events]) if events else {}
        settled: list[Settled] = []
        current: list[Event] = []
        for event in events:
            row = rows.get(event.asset.id)
            if row is not None and row.version == event.version:
                settled.append(Settled(event.position, row.outcome))
            elif row is not None and row.version.newer_than(event.version):
                settled.append(Settled(event.position, Outcome.SUPERSEDED))
            else:
                current.append(event)
        return settled, current, rows

    def _checkpoints(self, events: Sequence[Event]) -> Mapping[str, Checkpoint]:
        """How far assets are that are written in slices, by asset; perhaps of another version than the event's."""
        ids = [event.asset.id for event in events if event.modality in TIMED_MODALITIES]
        return self._store.checkpoints(ids) if ids else {}

    # --- 4 entries --------------------------------------------------------------------------------------------------

    def _entries(
        self, drafts: Sequence[PendingEntry], encoded: Sequence[Encoded], plans: Mapping[str, WritePlan]
    ) -> dict[Collection, list[Entry]]:
        vectors = {batch.encoder: batch.vectors for batch in encoded}
        indexed_at_ms = self._wall_ms()
        entries: dict[Collection, list[Entry]] = {}
        for draft in drafts:
            event = draft.event
            if draft.part and draft.collection in SINGLE_ENTRY_COLLECTIONS:
                raise PermanentError(f"{event.asset} has more than one entry in {draft.collection}, which holds one")
            entry = Entry(
                id=entry_id(event.asset, draft.collection, draft.part, plans[event.asset.id].slot),
                collection=draft.collection,
                asset=event.asset,
                part=draft.part,
                title=event.title,
                text=draft.text,
                uri=draft.uri,
                mime=draft.mime,
                attributes_json=event.attributes_json,
                start_ms=draft.start_ms,
                end_ms=draft.end_ms,
                start_char=draft.start_char,
                end_char=draft.end_char,
                event_time_ms=event.event_time_ms,
                indexed_at_ms=indexed_at_ms,
                origin=event.origin,
                thumbnail=draft.thumbnail,
                vectors={field: vectors[encoder][row] for field, encoder, row in draft.vectors},
            )
            entries.setdefault(draft.collection, []).append(entry)
        return entries

    # --- 5 surplus --------------------------------------------------------------------------------------------------

    def _surplus(
        self, plans: Sequence[WritePlan], entries: Mapping[Collection, Sequence[Entry]]
    ) -> dict[Collection, list[str]]:
        """Entries of these assets that their new versions do not have, in every collection their topics can fill.

        Asked of the store, not reckoned from the asset row: a crash may have left entries that no row tells of. Where
        an asset has one entry at most, there is nothing to ask: it is written now, or it is deleted.
        """
        surplus: dict[Collection, list[str]] = {}
        plan_of = {one.event.asset.id: one for one in plans}
        for collection, found in self._entries_of([one.event for one in plans]).items():
            written = {entry.id for entry in entries.get(collection, ())}
            stale: list[str] = []
            for asset_id, ids in found.items():
                one = plan_of[asset_id]
                kept = written | one.ids_so_far(collection)
                if one.protected_slot is not None:
                    kept |= ids_in_slot(asset_id, collection, ids, one.protected_slot)
                stale += _last_part_first(asset_id, collection, ids - kept)
            if stale:
                surplus[collection] = stale
        return surplus

    def _entries_of(self, events: Sequence[Event]) -> dict[Collection, Mapping[str, frozenset[str]]]:
        """Ids of the entries that the assets of these events have, by collection and asset; in a collection of one
        part those that they can have.
        """
        wanted: dict[Collection, list[str]] = {}
        for event in events:
            for collection in COLLECTIONS_OF[event.modality]:
                wanted.setdefault(collection, []).append(event.asset.id)
        return {
            collection: {asset_id: frozenset({part_id(asset_id, collection, 0)}) for asset_id in asset_ids}
            if collection in SINGLE_ENTRY_COLLECTIONS
            else self._store.entry_ids(collection, asset_ids)
            for collection, asset_ids in wanted.items()
        }

    # --- 6 asset rows -----------------------------------------------------------------------------------------------

    def _rows(self, plans: Sequence[WritePlan], entries: Mapping[Collection, Sequence[Entry]]) -> list[AssetRow]:
        written = Counter((entry.asset.id, entry.collection) for each in entries.values() for entry in each)
        now_ms = self._wall_ms()
        rows = []
        for one in plans:
            event = one.event
            counts = {
                collection: one.checkpoint.counts.get(collection, 0)
                if one.checkpoint is not None
                else written[event.asset.id, collection]
                for collection in COLLECTIONS_OF[event.modality]
            }
            rows.append(
                AssetRow(
                    asset=event.asset,
                    version=event.version,
                    outcome=Outcome.DELETED if event.is_tombstone else Outcome.INDEXED,
                    counts={collection: count for collection, count in counts.items() if count},
                    uri=event.payload.uri if isinstance(event.payload, ClaimCheck) else "",
                    indexed_at_ms=now_ms,
                    slot=one.slot,
                )
            )
        return rows


def _result(plan: WritePlan, outcome: Outcome | None) -> WriteResult:
    if outcome is not None:
        return Settled(plan.event.position, outcome)
    assert plan.checkpoint is not None  # else the plan were complete
    return Continues(plan.event.position, plan.checkpoint.position)


def _is_obsolete(event: Event, begun: Checkpoint | None) -> bool:
    """Whether what is known of how far an asset is, is of an event that is settled: this one, or an older one."""
    return begun is not None and not begun.version.newer_than(event.version)


def _last_part_first(asset_id: str, collection: Collection, ids: AnyOf[str]) -> list[str]:
    """Ids in the order in which they are deleted: a delete that breaks off then leaves parts without gaps."""
    spaces = range(SLOTS if collection in TIMED_COLLECTIONS else 1)
    parts: dict[str, int] = {}
    part = 0
    while len(parts) < len(ids) and part <= MAX_ORDERED_PARTS:
        parts.update((id_, part) for space in spaces if (id_ := part_id(asset_id, collection, part, space)) in ids)
        part += 1
    return sorted(ids, key=lambda id_: parts.get(id_, part), reverse=True)


def _encode_failures(decoded: Decoded, encoded: Sequence[Encoded]) -> dict[str, str]:
    """What happened, by asset id, for each asset of which some item failed in an encoder."""
    reasons = {(batch.encoder, row): what for batch in encoded for row, what in batch.failed}
    if not reasons:
        return {}
    return {
        draft.event.asset.id: f"{encoder}: {reasons[encoder, row]}"
        for draft in decoded.pending
        for _, encoder, row in draft.vectors
        if (encoder, row) in reasons
    }


def shard_of(asset_id: str, shards: int) -> int:
    """Which of `shards` writers owns the asset."""
    return int(asset_id[:8], 16) % shards
