"""The only hand that changes entries and asset rows: fences, orders, upserts, removes surplus, and says what became of
each event.

A writer owns the assets whose id falls into its shard, in all collections, so that order check, entries, surplus and
asset row of one asset are never interleaved with another writer's. One writer is therefore also the one writer of each
collection that Milvus Lite demands.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from penstock.errors import NotReadyError, PermanentError, Reason
from penstock.records import (
    COLLECTIONS_OF,
    LONG,
    ONE_PART,
    SLICED,
    SPACES,
    AssetRow,
    Assignment,
    ClaimCheck,
    Collection,
    Decoded,
    Draft,
    Encoded,
    Entry,
    Event,
    Outcome,
    Progress,
    Rejected,
    Settled,
    entry_id,
    part_id,
)
from penstock.store.base import Store

logger = logging.getLogger(__name__)


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
    """Writes batches one at a time.

    It accepts nothing until `begin` told it which lane owns what: after a restart it would otherwise take the write of
    a lane that lost its partition for a rightful one. From then on it learns newer assignments from the writes.

    Args:
        store: where to.
        wall_ms: milliseconds since the epoch, for `indexed_at`.
        shard, shards: this writer's assets are those for which `shard_of(id, shards) == shard`; others are left alone.
    """

    def __init__(self, store: Store, *, wall_ms: Callable[[], int], shard: int = 0, shards: int = 1) -> None:
        self._store = store
        self._shard = shard
        self._shards = shards
        self._wall_ms = wall_ms
        self._lock = threading.Lock()
        self._generations: dict[tuple[str, int], int] | None = None

    def begun(self) -> bool:
        """Whether it knows the assignments and accepts writes."""
        return self._generations is not None

    def begin(self, assignments: Iterable[Assignment]) -> None:
        """Learns the assignments that are in force, from all lanes. Never lowers a generation it knows."""
        with self._lock:
            self._generations = self._generations or {}
            self._learn(assignments)

    def write(self, request: WriteRequest, decoded: Decoded, *encoded: Encoded) -> tuple[Settled, ...]:
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
            encoded: the vectors that `decoded.drafts` refer to.

        Returns:
            what became of the events of this shard; what was rejected before is told by shard 0.

        Raises:
            NotReadyError: this writer was restarted and does not know the assignments yet.
            UnavailableError: the store does not answer; nothing is lost by writing the whole batch again.
        """
        with self._lock:
            fenced = self._fence(request)
            failed = _encode_failures(decoded, encoded)
            told = decoded.rejected if self._shard == 0 else ()
            settled = [Settled(item.position, Outcome.DEAD_LETTERED, item) for item in told]
            live: list[Event] = []
            for event in (*decoded.indexable, *decoded.tombstones):
                if shard_of(event.asset.id, self._shards) != self._shard:
                    continue
                if (event.position.topic, event.position.partition) in fenced:
                    settled.append(Settled(event.position, None))
                elif event.asset.id in failed:
                    rejected = Rejected(
                        event.position, "encode", Reason.ENCODER_FAILED, f"{event.asset}: {failed[event.asset.id]}"
                    )
                    settled.append(Settled(event.position, Outcome.DEAD_LETTERED, rejected))
                else:
                    live.append(event)
            return (*settled, *self._write_live(live, decoded, encoded))

    def standing(
        self, request: WriteRequest, events: Sequence[Event]
    ) -> tuple[tuple[Settled, ...], tuple[Progress, ...]]:
        """What is known of events of this shard before anything is done for them: those that are settled already, or
        fenced, and how far those are that were left in the midst.

        Raises:
            NotReadyError, UnavailableError: as `write` does.
        """
        with self._lock:
            fenced = self._fence(request)
            mine = [event for event in events if shard_of(event.asset.id, self._shards) == self._shard]
            lost = [event for event in mine if (event.position.topic, event.position.partition) in fenced]
            settled, current, _ = self._order([event for event in mine if event not in lost])
            begun = self._begun(current)
            ours = [begun[event.asset.id] for event in current if event.asset.id in begun]
            versions = {event.version for event in current}
            known = tuple(one for one in ours if one.version in versions)
            return (*(Settled(event.position, None) for event in lost), *settled), known

    def retract(self, request: WriteRequest, events: Sequence[Event]) -> None:
        """Removes what a write that broke off has left of events that turned out to be rejected.

        Their writer or lane died after some entries and before the asset row, and then the media were gone, say. Only
        of assets that should have no entries at all: without a row, or deleted. Where an older version has a row, its
        entries are partly overwritten, and removing the rest would lose still more of it; but not by slices, which lie
        beside it and are removed.

        Args:
            request: who asks, by which right; fenced as `write` is.
            events: those that are rejected; of other shards they are passed over.

        Raises:
            NotReadyError, UnavailableError: as `write` does.
        """
        with self._lock:
            fenced = self._fence(request)
            mine = [
                event
                for event in events
                if shard_of(event.asset.id, self._shards) == self._shard
                and (event.position.topic, event.position.partition) not in fenced
            ]
            rows = self._store.asset_rows([event.asset.id for event in mine]) if mine else {}
            bare = [event for event in mine if _has_no_entries(rows.get(event.asset.id))]
            for collection, ids in self._surplus(bare, {}, {}).items():
                self._store.delete(collection, ids)
            versions = {event.asset.id: event.version for event in mine}
            begun = {id_: one for id_, one in self._begun(mine).items() if one.version == versions[id_]}
            if begun:
                self._remove_slices([one for id_, one in begun.items() if not _has_no_entries(rows.get(id_))])
                self._store.drop_progress(list(begun))

    def _remove_slices(self, begun: Sequence[Progress]) -> None:
        """What is written of versions that will not be finished. The older ones lie in the other space."""
        for collection in SLICED:
            asset_ids = [one.asset.id for one in begun if one.counts.get(collection)]
            found = self._store.entry_ids(collection, asset_ids) if asset_ids else {}
            stale = [
                id_
                for one in begun
                for part in reversed(range(len(found.get(one.asset.id, ()))))
                if (id_ := part_id(one.asset.id, collection, part, one.space)) in found[one.asset.id]
            ]
            if stale:
                self._store.delete(collection, stale)

    def _write_live(self, events: Sequence[Event], decoded: Decoded, encoded: Sequence[Encoded]) -> list[Settled]:
        settled, current, rows = self._order(events)
        if not current:
            return settled
        begun = self._begun(current)
        progress = _in_spaces(current, decoded.progress, rows, begun)
        asset_ids = {event.asset.id for event in current}
        drafts = [draft for draft in decoded.drafts if draft.event.asset.id in asset_ids]
        entries = self._entries(drafts, encoded, progress)
        unfinished = [
            event for event in current if event.asset.id in progress and not progress[event.asset.id].finished
        ]
        whole = [event for event in current if event not in unfinished]
        surplus = self._surplus(whole, entries, progress)
        for collection, written in entries.items():
            self._store.upsert(collection, written)
        if unfinished:
            self._store.put_progress([progress[event.asset.id] for event in unfinished])
        for collection, ids in surplus.items():
            self._store.delete(collection, ids)
        new_rows = self._rows(whole, entries, progress)
        if new_rows:
            self._store.put_asset_rows(new_rows)
        over = [event.asset.id for event in whole if event.asset.id in begun]
        if over:
            self._store.drop_progress(over)
        settled += [Settled(event.position, None, unfinished=progress[event.asset.id].place) for event in unfinished]
        return settled + [Settled(event.position, row.outcome) for event, row in zip(whole, new_rows, strict=True)]

    # --- 1 fence ----------------------------------------------------------------------------------------------------

    def _fence(self, request: WriteRequest) -> frozenset[tuple[str, int]]:
        """The partitions whose events must not be written; learns assignments that are newer than those known."""
        if self._generations is None:
            raise NotReadyError(
                "the writer was restarted and waits to be told which lane owns what; the batch is retried"
            )
        fenced = frozenset(
            (assignment.topic, assignment.partition)
            for assignment in request.assignments
            if assignment.generation < self._generations.get((assignment.topic, assignment.partition), -1)
        )
        for topic, partition in sorted(fenced):
            logger.warning(
                "refused a write of lane %s to %s[%d]: it lost that partition", request.lane, topic, partition
            )
        self._learn(request.assignments)
        return fenced

    def _learn(self, assignments: Iterable[Assignment]) -> None:
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

    # --- slices -----------------------------------------------------------------------------------------------------

    def _begun(self, events: Sequence[Event]) -> Mapping[str, Progress]:
        """What the store knows of assets that were left in the midst, by asset; perhaps of another version."""
        ids = [event.asset.id for event in events if event.modality in LONG]
        return self._store.progress(ids) if ids else {}

    # --- 4 entries --------------------------------------------------------------------------------------------------

    def _entries(
        self, drafts: Sequence[Draft], encoded: Sequence[Encoded], progress: Mapping[str, Progress]
    ) -> dict[Collection, list[Entry]]:
        vectors = {batch.encoder: batch.vectors for batch in encoded}
        indexed_at_ms = self._wall_ms()
        entries: dict[Collection, list[Entry]] = {}
        for draft in drafts:
            event = draft.event
            if draft.part and draft.collection in ONE_PART:
                raise PermanentError(f"{event.asset} has more than one entry in {draft.collection}, which holds one")
            sliced = progress.get(event.asset.id)
            entry = Entry(
                id=entry_id(event.asset, draft.collection, draft.part, sliced.space if sliced else 0),
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
        self,
        events: Sequence[Event],
        entries: Mapping[Collection, Sequence[Entry]],
        progress: Mapping[str, Progress],
    ) -> dict[Collection, list[str]]:
        """Entries of these assets that their new versions do not write, in every collection their topics can fill.

        Asked of the store, not reckoned from the asset row: a crash may have left entries that no row tells of. Where
        an asset has one entry at most, there is nothing to ask: it is written now, or it is deleted.
        """
        wanted: dict[Collection, list[str]] = {}
        for event in events:
            for collection in COLLECTIONS_OF[event.modality]:
                wanted.setdefault(collection, []).append(event.asset.id)
        surplus: dict[Collection, list[str]] = {}
        for collection, asset_ids in wanted.items():
            written = {entry.id for entry in entries.get(collection, ())}
            for asset_id in asset_ids:
                if sliced := progress.get(asset_id):  # its earlier slices too
                    count = sliced.counts.get(collection, 0)
                    written.update(part_id(asset_id, collection, part, sliced.space) for part in range(count))
            found = self._possible(collection, asset_ids)
            stale = [
                id_
                for asset_id, ids in found.items()
                for id_ in _last_part_first(asset_id, collection, ids)
                if id_ not in written
            ]
            if stale:
                surplus[collection] = stale
        return surplus

    def _possible(self, collection: Collection, asset_ids: Sequence[str]) -> Mapping[str, frozenset[str]]:
        """The entries that these assets have, or in a collection of one part: that they can have."""
        if collection in ONE_PART:
            return {asset_id: frozenset({part_id(asset_id, collection, 0)}) for asset_id in asset_ids}
        return self._store.entry_ids(collection, asset_ids)

    # --- 6 asset rows -----------------------------------------------------------------------------------------------

    def _rows(
        self,
        events: Sequence[Event],
        entries: Mapping[Collection, Sequence[Entry]],
        progress: Mapping[str, Progress],
    ) -> list[AssetRow]:
        written = Counter((entry.asset.id, entry.collection) for each in entries.values() for entry in each)
        now_ms = self._wall_ms()
        rows = []
        for event in events:
            sliced = progress.get(event.asset.id)
            counts = {
                collection: sliced.counts.get(collection, 0) if sliced else written[event.asset.id, collection]
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
                    space=sliced.space if sliced else 0,
                )
            )
        return rows


def _in_spaces(
    events: Sequence[Event],
    told: Sequence[Progress],
    rows: Mapping[str, AssetRow],
    begun: Mapping[str, Progress],
) -> dict[str, Progress]:
    """The progress of these events, by asset, with the space that their entries go to: the one in which their earlier
    slices are, else the one in which the older version is not.
    """
    versions = {event.asset.id: event.version for event in events}
    found: dict[str, Progress] = {}
    for one in told:
        asset_id = one.asset.id
        if asset_id not in versions:
            continue
        row, before = rows.get(asset_id), begun.get(asset_id)
        if before is not None and before.version == versions[asset_id]:
            space = before.space
        else:
            space = 1 - row.space if row is not None and row.counts else 0
        found[asset_id] = replace(one, space=space)
    return found


def _has_no_entries(row: AssetRow | None) -> bool:
    return row is None or row.outcome is Outcome.DELETED


def _last_part_first(asset_id: str, collection: Collection, ids: frozenset[str]) -> list[str]:
    """Ids in the order in which they are deleted: a delete that breaks off then leaves parts without gaps."""
    parts = {part_id(asset_id, collection, part, space): part for part in range(len(ids)) for space in range(SPACES)}
    return sorted(ids, key=lambda id_: parts.get(id_, len(ids)), reverse=True)


def _encode_failures(decoded: Decoded, encoded: Sequence[Encoded]) -> dict[str, str]:
    """What happened, by asset id, for each asset of which some item failed in an encoder."""
    reasons = {(batch.encoder, row): what for batch in encoded for row, what in batch.failed}
    if not reasons:
        return {}
    return {
        draft.event.asset.id: f"{encoder}: {reasons[encoder, row]}"
        for draft in decoded.drafts
        for _, encoder, row in draft.vectors
        if (encoder, row) in reasons
    }


def shard_of(asset_id: str, shards: int) -> int:
    """Which of `shards` writers owns the asset."""
    return int(asset_id[:8], 16) % shards
