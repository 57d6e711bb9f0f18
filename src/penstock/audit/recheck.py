"""Looks once more, directly, at what did not fit: what is still wrong then is a problem."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from penstock.audit.checks import Held, fits, outcome_of, problems_of
from penstock.audit.ledger import COLLECTIONS, Ledger, partition_of
from penstock.audit.report import AuditProblem, ProblemKind
from penstock.audit.scan import LOOKED_UP, entries_of, part_of, standing
from penstock.broker.base import Partition
from penstock.records import AssetRow, Collection, Outcome, Position, Version
from penstock.store.base import AssetState, EntryScan

_ROUNDS = 3
"""An asset whose row changes between two looks, so many times in a row, is being written all the while."""


@dataclass
class _Looked:
    """An asset as it stands now. `steady`: its row was the same before and after its entries were read."""

    row: AssetRow | None = None
    name: str = ""
    entries: list[Held] = field(default_factory=list)
    steady: bool = True

    @property
    def standing(self) -> AssetState | None:
        return None if self.row is None else standing(self.row)


class Recheck:
    """The last step of an audit.

    Args:
        store: holds entries and asset rows.
        ledger: says what is doubted, and what the topics told.
        collections: where entries can be.
        follow: reads the topics on to where they end now.
        may_be_gone: whether the topic may have had an event at this position that it does not hold any more.

    Attributes:
        found: settled events that have an outcome after all, by partition.
        being_written: assets that do not fit, for which an event in flight accounts.
    """

    def __init__(
        self,
        store: EntryScan,
        ledger: Ledger,
        collections: Sequence[Collection],
        *,
        follow: Callable[[], None],
        may_be_gone: Callable[[Position], bool],
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._collections = collections
        self._follow = follow
        self._may_be_gone = may_be_gone
        self.found: Counter[tuple[Partition, Outcome]] = Counter()
        self.being_written = 0

    def problems(self, tell: Callable[[int], None]) -> Iterator[AuditProblem]:
        """What is wrong with the doubted assets, `tell` being told how many were looked at.

        All of them are looked up, in rounds of `LOOKED_UP`: a store that lost everything takes about as long as its
        scan would have. The topics are followed after each round, so that every event that may be half written in it is
        known.
        """
        last, done = "", 0
        while asset_ids := self._ledger.flagged(last, LOOKED_UP):
            tell(done)
            last, done = asset_ids[-1], done + len(asset_ids)
            looked = self._look(asset_ids)
            self._follow()
            for asset_id in asset_ids:
                yield from self._judge(asset_id, looked[asset_id])

    # ---- looking ----

    def _look(self, asset_ids: Sequence[str]) -> dict[str, _Looked]:
        looked: dict[str, _Looked] = {}
        wanted = list(asset_ids)
        for _ in range(_ROUNDS):
            before = self._store.asset_rows(wanted)
            found = self._entries(wanted)
            after = self._store.asset_rows(wanted)
            for asset_id in wanted:
                one = found[asset_id]
                one.row = after.get(asset_id)
                one.steady = before.get(asset_id) == one.row
                one.name = str(one.row.asset) if one.row else one.name or asset_id
            looked |= found
            wanted = [asset_id for asset_id in wanted if not found[asset_id].steady]
            if not wanted:
                break
        return looked

    def _entries(self, asset_ids: Sequence[str]) -> dict[str, _Looked]:
        looked = {asset_id: _Looked() for asset_id in asset_ids}
        for collection in self._collections:
            seen = [id_ for asset_id in asset_ids for id_ in self._ledger.seen_ids(asset_id, collection)]
            for entry in entries_of(self._store, collection, asset_ids, seen):
                one = looked.get(entry.asset.id)
                if one is not None:
                    one.name = str(entry.asset)
                    one.entries.append((collection, part_of(entry)))
        for one in looked.values():
            one.entries.sort(key=lambda held: (COLLECTIONS.index(held[0]), held[1].part, held[1].id))
        return looked

    # ---- judging ----

    def _judge(self, asset_id: str, looked: _Looked) -> Iterator[AuditProblem]:
        row = looked.standing
        yield from self._missing(asset_id, looked.name, row)
        if row is not None:
            yield from self._contradiction(asset_id, looked.name, row)
        if not fits(asset_id, row, looked.entries):
            events = _AssetEvents(self._ledger, asset_id)
            wrong = list(problems_of(asset_id, looked.name, row, looked.entries, events)) if looked.steady else []
            self.being_written += not wrong
            yield from wrong

    def _missing(self, asset_id: str, name: str, row: AssetState | None) -> Iterator[AuditProblem]:
        for origin, version in self._ledger.missed(asset_id):
            newest, deleted = (row.version, row.deleted) if row else (None, False)
            outcome = outcome_of(version, newest, deleted=deleted, dead_letter=False)
            if outcome is not None:
                self.found[partition_of(origin), outcome] += 1
                continue
            stands = f"its asset row is of {row.origin}" if row else "its asset has no row"
            line = f"{origin} of {name} is committed, but {stands}, and there is no dead letter of it"
            yield AuditProblem(ProblemKind.MISSING, line, origin, asset_id)

    def _contradiction(self, asset_id: str, name: str, row: AssetState) -> Iterator[AuditProblem]:
        """What the topic says against the row."""
        event = self._ledger.event(asset_id, row.origin)
        if event is None:
            if not self._may_be_gone(row.origin):
                line = f"{name}: its asset row is of {row.origin}, where no event of it ever was"
                yield AuditProblem(ProblemKind.UNKNOWN_ORIGIN, line, row.origin, asset_id)
        elif event.version != row.version:
            line = (
                f"{name}: its asset row says that {row.origin} was of {row.timestamp_ms} ms, and it is of "
                f"{event.version.timestamp_ms} ms"
            )
            yield AuditProblem(ProblemKind.UNKNOWN_ORIGIN, line, row.origin, asset_id)
        elif event.tombstone != row.deleted:
            is_, says = ("a deletion", "indexed") if event.tombstone else ("no deletion", "deleted")
            line = f"{name}: {row.origin} is {is_}, but its asset row says {says}"
            yield AuditProblem(ProblemKind.WRONG_OUTCOME, line, row.origin, asset_id)


class _AssetEvents:
    """`judge.Events` from the ledger."""

    def __init__(self, ledger: Ledger, asset_id: str) -> None:
        self._ledger = ledger
        self._asset_id = asset_id

    def pending(self, origin: Position) -> Version | None:
        event = self._ledger.event(self._asset_id, origin)
        return event.version if event is not None and event.flying else None

    def settled(self, origin: Position) -> Version | None:
        event = self._ledger.event(self._asset_id, origin)
        return event.version if event is not None and event.settled else None

    def newer_pending(self, version: Version) -> bool:
        return any(each.newer_than(version) for each in self._ledger.in_flight(self._asset_id))
