"""Checks flagged assets again, by direct look-ups: what is still wrong then is a problem."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from penstock.audit.checks import StoredEntry, fits, outcome_of, problems_of
from penstock.audit.ledger import Ledger
from penstock.audit.ledger_rows import COLLECTIONS
from penstock.audit.report import AuditProblem, ProblemKind
from penstock.audit.scan import LOOKUP_ASSETS, key_of, look_up_entries, state_of
from penstock.broker.base import Partition, partition_of
from penstock.records import AssetRow, Collection, Outcome, Position, Version
from penstock.store.base import AssetState, EntryScan

_MAX_LOOKUPS = 3  # an asset whose row changed between each two of them is being written all the time


@dataclass
class _Snapshot:
    """An asset as the store holds it now. `steady`: its row was the same before and after its entries were read."""

    row: AssetRow | None = None
    name: str = ""
    entries: list[StoredEntry] = field(default_factory=list)
    steady: bool = True

    @property
    def state(self) -> AssetState | None:
        return None if self.row is None else state_of(self.row)


class Recheck:
    """The last step of an audit.

    Args:
        store: holds entries and asset rows.
        ledger: has the flagged assets, and the events.
        collections: the collections that may hold entries.
        follow: reads the topics on to their present ends.
        may_be_removed: whether an event with this origin may have been removed from its topic.

    Attributes:
        late_outcomes: settled events that have an outcome after all, by partition.
        being_written: assets that do not fit, for which an event in flight accounts.
    """

    def __init__(
        self,
        store: EntryScan,
        ledger: Ledger,
        collections: Sequence[Collection],
        *,
        follow: Callable[[], None],
        may_be_removed: Callable[[Position], bool],
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._collections = collections
        self._follow = follow
        self._may_be_removed = may_be_removed
        self.late_outcomes: Counter[tuple[Partition, Outcome]] = Counter()
        self.being_written = 0

    def problems(self, on_progress: Callable[[int], None]) -> Iterator[AuditProblem]:
        """Yields the problems of the flagged assets. Passes the number of checked assets to `on_progress`.

        In rounds of `LOOKUP_ASSETS`, so that a store that lost everything takes about as long as its scan would have:

        1. Look up the assets (row, entries, row; again if the row changed during that time).
        2. Read the topics on, so that every event that may be half written in 1 is known.
        3. Check each asset.
        """
        last, done = "", 0
        while asset_ids := self._ledger.flagged(last, LOOKUP_ASSETS):
            on_progress(done)
            last, done = asset_ids[-1], done + len(asset_ids)
            snapshots = self._look_up(asset_ids)  # 1
            self._follow()  # 2
            for asset_id in asset_ids:
                yield from self._check(asset_id, snapshots[asset_id])  # 3

    # --- looking up --------------------------------------------------------------------------------------------------

    def _look_up(self, asset_ids: Sequence[str]) -> dict[str, _Snapshot]:
        snapshots: dict[str, _Snapshot] = {}
        pending = list(asset_ids)
        for _ in range(_MAX_LOOKUPS):
            before = self._store.asset_rows(pending)
            latest = self._look_up_entries(pending)
            after = self._store.asset_rows(pending)
            for asset_id, snapshot in latest.items():
                snapshot.row = after.get(asset_id)
                snapshot.steady = before.get(asset_id) == snapshot.row
                snapshot.name = str(snapshot.row.asset) if snapshot.row else snapshot.name or asset_id
            snapshots |= latest
            pending = [asset_id for asset_id in pending if not latest[asset_id].steady]
            if not pending:
                break
        return snapshots

    def _look_up_entries(self, asset_ids: Sequence[str]) -> dict[str, _Snapshot]:
        snapshots = {asset_id: _Snapshot() for asset_id in asset_ids}
        for collection in self._collections:
            scanned = [id_ for asset_id in asset_ids for id_ in self._ledger.scanned_ids(asset_id, collection)]
            for entry in look_up_entries(self._store, collection, asset_ids, scanned):
                snapshot = snapshots.get(entry.asset.id)
                if snapshot is not None:
                    snapshot.name = str(entry.asset)
                    snapshot.entries.append(StoredEntry(collection, key_of(entry)))
        for snapshot in snapshots.values():
            snapshot.entries.sort(key=lambda entry: (COLLECTIONS.index(entry.collection), entry.key.part, entry.key.id))
        return snapshots

    # --- checking ----------------------------------------------------------------------------------------------------

    def _check(self, asset_id: str, snapshot: _Snapshot) -> Iterator[AuditProblem]:
        row = snapshot.state
        yield from self._missing(asset_id, snapshot.name, row)
        if row is not None:
            yield from self._contradiction(asset_id, snapshot.name, row)
        if not fits(asset_id, row, snapshot.entries):
            problems: list[AuditProblem] = []
            if snapshot.steady:
                history = _LedgerHistory(self._ledger, asset_id)
                problems = list(problems_of(asset_id, snapshot.name, row, snapshot.entries, history))
            self.being_written += not problems
            yield from problems

    def _missing(self, asset_id: str, name: str, row: AssetState | None) -> Iterator[AuditProblem]:
        """Yields the settled events of the asset that still have no outcome, and counts those that have one now."""
        for origin, version in self._ledger.missing(asset_id):
            newest, deleted, expired = (row.version, row.deleted, row.expired) if row else (None, False, False)
            outcome = outcome_of(version, newest, deleted=deleted, dead_letter=False, expired=expired)
            if outcome is not None:
                self.late_outcomes[partition_of(origin), outcome] += 1
                continue
            state = f"its asset row is of {row.origin}" if row else "its asset has no row"
            message = f"{origin} of {name} is committed, but {state}, and there is no dead letter of it"
            yield AuditProblem(ProblemKind.MISSING, message, origin, asset_id)

    def _contradiction(self, asset_id: str, name: str, row: AssetState) -> Iterator[AuditProblem]:
        """Yields the contradictions between the row and the record of its event."""
        event = self._ledger.event(asset_id, row.origin)
        if event is None:
            if not self._may_be_removed(row.origin):
                message = f"{name}: its asset row is of {row.origin}, where no event of it ever was"
                yield AuditProblem(ProblemKind.UNKNOWN_ORIGIN, message, row.origin, asset_id)
        elif event.version != row.version:
            message = (
                f"{name}: its asset row says that {row.origin} was of {row.timestamp_ms} ms, and it is of "
                f"{event.version.timestamp_ms} ms"
            )
            yield AuditProblem(ProblemKind.UNKNOWN_ORIGIN, message, row.origin, asset_id)
        elif not row.expired and event.tombstone != row.deleted:
            is_, says = ("a deletion", "indexed") if event.tombstone else ("no deletion", "deleted")
            message = f"{name}: {row.origin} is {is_}, but its asset row says {says}"
            yield AuditProblem(ProblemKind.WRONG_OUTCOME, message, row.origin, asset_id)


class _LedgerHistory:
    """The events of one asset in the ledger (`checks.EventHistory`)."""

    def __init__(self, ledger: Ledger, asset_id: str) -> None:
        self._ledger = ledger
        self._asset_id = asset_id

    def in_flight(self, origin: Position) -> Version | None:
        event = self._ledger.event(self._asset_id, origin)
        return event.version if event is not None and event.in_flight else None

    def settled(self, origin: Position) -> Version | None:
        event = self._ledger.event(self._asset_id, origin)
        return event.version if event is not None and event.settled else None

    def has_newer_in_flight(self, version: Version) -> bool:
        return any(newer.newer_than(version) for newer in self._ledger.in_flight(self._asset_id))
