"""Writes batches to the store: fences, orders, upserts entries, deletes surplus, and reports a result for each event.

Nothing else changes entries and asset rows. A writer owns the assets whose id falls into its shard, in all collections,
so that order check, entries, surplus and asset row of one asset never interleave with another writer's. A single writer
that writes one batch at a time is therefore also the only writer of each collection, as Milvus Lite demands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from penstock.concurrency import KeyedLocks, MemoryBudget
from penstock.errors import Reason
from penstock.records import (
    SEGMENTED_MODALITIES,
    AssetRow,
    Assignment,
    Checkpoint,
    Continues,
    Decoded,
    Encoded,
    Event,
    Fenced,
    ImageTexts,
    MediaPosition,
    Outcome,
    PendingEntry,
    Rejected,
    Settled,
    WriteResult,
    Written,
)
from penstock.store.base import EntryWriter
from penstock.store.build_rows import build_asset_rows, build_entries, counts_by_asset, encode_failures
from penstock.store.content_hash import content_hash
from penstock.store.fencing import Fence
from penstock.store.image_words import with_words
from penstock.store.lease import LeaseGuard, Renewal
from penstock.store.lost_sounds import without_lost_sounds
from penstock.store.relabel import write_labels
from penstock.store.surplus import find_orphans, find_surplus
from penstock.store.write_plan import Resume, WritePlan, is_expiry, is_obsolete, must_wait, own_checkpoints, plan_write

# Entries that are being built into requests at a time: about 250 MB. A batch that has more is written alone.
MAX_CONCURRENT_ENTRIES = 16_384


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """One batch to write, with the right to do so.

    Attributes:
        lane: name of the lane, for the log.
        assignments: of every partition that events of the batch were delivered from.
        epoch: of the driver's lease, as the lane knows it.
    """

    lane: str
    assignments: tuple[Assignment, ...]
    epoch: int = 0


class Writer:
    """Writes batches, from as many threads as the store allows; events of one asset are written one after another.

    It accepts nothing until `start`; see `Fence`.

    Args:
        store: receives the entries and asset rows.
        wall_ms: milliseconds since the epoch, for `indexed_at`.
        shard, shards: this writer's assets are those for which `shard_of(id, shards) == shard`; it skips all others.
        locks: keep threads apart that would write the same asset.
        lease: of the driver. Give its `check` to the store too, which calls it before each request that changes rows.
        settings_hash: of the settings that determine entries, see `content_hash`.
    """

    def __init__(
        self,
        store: EntryWriter,
        *,
        wall_ms: Callable[[], int],
        shard: int = 0,
        shards: int = 1,
        locks: KeyedLocks | None = None,
        lease: LeaseGuard | None = None,
        settings_hash: str = "",
    ) -> None:
        self._store = store
        self._shard = shard
        self._shards = shards
        self._wall_ms = wall_ms
        self._lease = lease
        self._settings_hash = settings_hash
        self._fence = Fence(store, lease)
        self._locks = locks or KeyedLocks()
        # Reserved while assets are locked, and never the other way round.
        self._budget = MemoryBudget(MAX_CONCURRENT_ENTRIES)

    def is_started(self) -> bool:
        """Returns whether the writer knows the assignments and accepts writes."""
        return self._fence.is_started

    def start(self, assignments: Iterable[Assignment]) -> None:
        """Starts to accept writes under these assignments: those of all lanes that are in force.

        Raises:
            UnavailableError: the store does not answer; the writer is not started.
        """
        self._fence.start(assignments)

    def renew_lease(self, renewal: Renewal) -> None:
        """Takes a message of the driver about its lease; see `LeaseGuard.renew`."""
        if self._lease is not None:
            self._lease.renew(renewal)

    def write(self, request: WriteRequest, decoded: Decoded, *encoded: Encoded | ImageTexts) -> tuple[WriteResult, ...]:
        """Writes one batch; the order of the steps is the guarantee.

        1.  fence        nothing without the driver's lease; events of a partition with a newer assignment are dropped
        2.  reject       an asset with an item that could not be encoded is rejected as a whole
        3.  order        an event that is older than its asset row is superseded, the same one is already settled
        4.  entries      upserted, acknowledged
        4b. checkpoints  of long media with further segments, upserted, acknowledged
        5.  surplus      entries that this version of the asset did not write are deleted, acknowledged
        6.  asset rows   upserted last, acknowledged: now the event counts as settled

        For long media that take several segments (`Decoded.checkpoints`) one segment is written. Its entries have ids
        in the slot that the older version does not use. 4b is for all segments but the last, 5 and 6 for the last one.

        Args:
            request: names the lane and the assignments that permit the write.
            decoded: one event per asset; those of other shards are skipped.
            encoded: the embeddings, and the words of images, that `decoded.pending` refer to.

        Returns:
            the result of each event of this shard; earlier rejections are reported by shard 0.

        Raises:
            NotReadyError: this writer was restarted and does not know the assignments yet, or the driver's lease is not
                confirmed.
            UnavailableError: the store does not answer; nothing is lost by writing the whole batch again.
        """
        decoded, vectors = with_words(decoded, (*encoded, *decoded.given))
        events = self._own_events((*decoded.indexable, *decoded.tombstones))
        decoded = without_lost_sounds(decoded, vectors, {event.asset.id for event in events})
        with self._locks.hold(event.asset.id for event in events):
            fenced = self._fence.check(request.lane, request.assignments, request.epoch)  # 1
            failures = encode_failures(decoded, vectors)
            rejected = decoded.rejected if self._shard == 0 else ()
            results: list[WriteResult] = [
                Settled(rejection.position, Outcome.DEAD_LETTERED, rejection) for rejection in rejected
            ]
            live: list[Event] = []
            for event in events:
                if _partition(event) in fenced:
                    results.append(Fenced(event.position))
                elif failure := failures.get(event.asset.id):  # 2
                    rejection = Rejected(event.position, "encode", Reason.ENCODER_FAILED, f"{event.asset}: {failure}")
                    results.append(Settled(event.position, Outcome.DEAD_LETTERED, rejection))
                else:
                    live.append(event)
            return (*results, *self._plan_and_apply(live, decoded, vectors))

    def lookup(
        self, request: WriteRequest, events: Sequence[Event]
    ) -> tuple[tuple[WriteResult, ...], tuple[Checkpoint, ...]]:
        """Looks up events of timed media before anything is done for them.

        Returns:
            results of this shard's events that are settled already, are fenced, or have to wait for a newer version
            that is being written; and the checkpoints of the others that are partly written.

        Raises:
            NotReadyError, UnavailableError: as `write` does.
        """
        events = self._own_events(events)
        with self._locks.hold(event.asset.id for event in events):
            fenced = self._fence.check(request.lane, request.assignments, request.epoch)
            lost = [event for event in events if _partition(event) in fenced]
            kept = [event for event in events if _partition(event) not in fenced]
            settled, current, _ = self._order(kept)
            # A writer that died after it wrote an asset row has left the checkpoint behind.
            finished = [event for event in kept if event not in current]
            self._drop_obsolete_checkpoints(finished, self._checkpoints(finished))
            checkpoints, now_ms = self._checkpoints(current), self._wall_ms()
            waiting = [event for event in current if must_wait(event, checkpoints.get(event.asset.id), now_ms)]
            results: list[WriteResult] = [*settled, *(Fenced(event.position) for event in lost)]
            results += [Continues(event.position, MediaPosition()) for event in waiting]
            return tuple(results), own_checkpoints([event for event in current if event not in waiting], checkpoints)

    def relabel(self, request: WriteRequest, events: Sequence[Event]) -> tuple[WriteResult, ...]:
        """Writes the events whose entries are stored already but for their labels; no model runs for them.

        Args:
            request: names the lane and its assignments; fenced as in `write`.
            events: with claim checks to their media; those of other shards are skipped.

        Returns:
            results of those that are written here, settled already or fenced. The others have to be encoded.

        Raises:
            NotReadyError, UnavailableError: as `write` does.
        """
        events = self._own_events(events)
        with self._locks.hold(event.asset.id for event in events):
            fenced = self._fence.check(request.lane, request.assignments, request.epoch)
            results: list[WriteResult] = [Fenced(event.position) for event in events if _partition(event) in fenced]
            settled, current, rows = self._order([event for event in events if _partition(event) not in fenced])
            results += settled
            known = {result.position for result in settled}  # no step looks these up any more
            finished = [event for event in events if event.position in known]
            self._drop_obsolete_checkpoints(finished, self._checkpoints(finished))
            checkpoints = self._checkpoints(current)
            for event in current:
                row, hash_ = rows.get(event.asset.id), content_hash(event, self._settings_hash)
                if row is None or event.asset.id in checkpoints or not hash_ or hash_ != row.content_hash:
                    continue
                with self._budget.reserve(sum(row.counts.values())):
                    if written := write_labels(self._store, event, row, self._wall_ms()):
                        results.append(Settled(event.position, Outcome.INDEXED, written=written))
            return tuple(results)

    def retract(self, request: WriteRequest, events: Sequence[Event]) -> None:
        """Deletes what an interrupted write has left of events that were rejected later; see `orphaned_ids`.

        For example, a writer or lane died after some entries and before the asset row, and then the media disappeared.

        Args:
            request: names the lane and its assignments; fenced as in `write`.
            events: the rejected events; those of other shards are skipped.

        Raises:
            NotReadyError, UnavailableError: as `write` does.
        """
        events = self._own_events(events)
        with self._locks.hold(event.asset.id for event in events):
            fenced = self._fence.check(request.lane, request.assignments, request.epoch)
            kept = [event for event in events if _partition(event) not in fenced]
            if not kept:
                return
            self._store.catch_up()  # a dead writer may have sent the interrupted write, and it may have arrived late
            rows = self._store.asset_rows([event.asset.id for event in kept])
            checkpoints = self._checkpoints(kept)
            for collection, ids in find_orphans(self._store, kept, rows, checkpoints).items():
                self._store.delete(collection, ids)
            self._drop_obsolete_checkpoints(kept, checkpoints)

    def _own_events(self, events: Iterable[Event]) -> list[Event]:
        return [event for event in events if shard_of(event.asset.id, self._shards) == self._shard]

    # --- 3 order ----------------------------------------------------------------------------------------------------

    def _order(self, events: Sequence[Event]) -> tuple[list[Settled], list[Event], Mapping[str, AssetRow]]:
        """Separates events that their asset row overtakes or stands for from those to write; returns the rows too."""
        rows = self._store.asset_rows([event.asset.id for event in events]) if events else {}
        settled: list[Settled] = []
        current: list[Event] = []
        for event in events:
            row = rows.get(event.asset.id)
            if row is not None and row.version == event.version and not is_expiry(event, row):
                # Its write was acknowledged, but perhaps not announced: the batch was delivered again.
                written = Written(row.counts, row.indexed_at_ms, row.slot, acl=row.acl)
                settled.append(Settled(event.position, row.outcome, written=written))
            elif row is not None and row.version.newer_than(event.version):
                settled.append(Settled(event.position, Outcome.SUPERSEDED))
            else:
                current.append(event)
        return settled, current, rows

    def _checkpoints(self, events: Sequence[Event]) -> Mapping[str, Checkpoint]:
        """Returns the stored checkpoints of these assets by asset id, perhaps of other versions than the events'."""
        ids = [event.asset.id for event in events if event.modality in SEGMENTED_MODALITIES]
        return self._store.checkpoints(ids) if ids else {}

    def _drop_obsolete_checkpoints(self, events: Sequence[Event], checkpoints: Mapping[str, Checkpoint]) -> None:
        ids = {event.asset.id for event in events if is_obsolete(checkpoints.get(event.asset.id), event)}
        if ids:
            self._store.drop_checkpoints(sorted(ids))

    # --- 3 to 6 -----------------------------------------------------------------------------------------------------

    def _plan_and_apply(
        self, events: Sequence[Event], decoded: Decoded, encoded: Sequence[Encoded]
    ) -> list[WriteResult]:
        settled, current, rows = self._order(events)  # 3
        checkpoints, now_ms = self._checkpoints(current), self._wall_ms()
        segments = {checkpoint.asset.id: checkpoint for checkpoint in decoded.checkpoints}
        results: list[WriteResult] = [*settled]
        plans: dict[str, WritePlan] = {}
        for event in current:
            id_ = event.asset.id
            plan = plan_write(
                event, segments.get(id_), row=rows.get(id_), checkpoint=checkpoints.get(id_), now_ms=now_ms
            )
            if isinstance(plan, Resume):
                results.append(Continues(event.position, plan.position, plan.written))
            else:
                plans[id_] = plan
        if not plans:
            return results
        pending = [entry for entry in decoded.pending if entry.event.asset.id in plans]
        with self._budget.reserve(len(pending)):
            return results + self._apply(plans, pending, encoded)

    def _apply(
        self, plans: Mapping[str, WritePlan], pending: Sequence[PendingEntry], encoded: Sequence[Encoded]
    ) -> list[WriteResult]:
        """Carries out steps 4 to 6; a crash between any two is repaired when the batch is delivered again."""
        now_ms = self._wall_ms()
        entries = build_entries(pending, encoded, plans, now_ms)
        complete = [plan for plan in plans.values() if plan.is_complete]
        checkpoints = [plan.checkpoint for plan in plans.values() if plan.checkpoint and not plan.is_complete]
        surplus = find_surplus(self._store, complete, entries)  # read first: it must not see the entries of 4

        for collection, batch in entries.items():  # 4 entries
            self._store.upsert(collection, batch)
        if checkpoints:  # 4b checkpoints
            self._store.put_checkpoints(checkpoints)
        for collection, ids in surplus.items():  # 5 surplus
            self._store.delete(collection, ids)
        if complete:  # 6 asset rows
            self._store.put_asset_rows(build_asset_rows(complete, entries, self._wall_ms(), self._settings_hash))
        # A crash before this line leaves checkpoints that are obsolete; `lookup` drops them.
        if ended := [plan.event.asset.id for plan in complete if plan.ends_checkpoint]:
            self._store.drop_checkpoints(ended)
        counts = counts_by_asset(entries)
        return [plan.result(counts.get(id_, {}), now_ms) for id_, plan in plans.items()]


def shard_of(asset_id: str, shards: int) -> int:
    """Returns the number of the writer, out of `shards`, that owns the asset."""
    return int(asset_id[:8], 16) % shards


def _partition(event: Event) -> tuple[str, int]:
    return event.position.topic, event.position.partition
