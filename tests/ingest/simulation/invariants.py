"""The guarantees that hold in every simulation, whatever fails: checked after each step, and at its end."""

from __future__ import annotations

from collections.abc import Mapping

from penstock.broker.base import Partition
from penstock.broker.deadletters import parse_dead_letter
from penstock.records import AssetRow, Collection, Position, Version, entry_id
from tests.ingest.simulation.doubles import parts_of
from tests.ingest.simulation.events import DLQ, GROUP, TOPICS, ProducedEvent, origin_of
from tests.ingest.simulation.simulation import Simulation
from tests.store.scans import all_asset_rows, all_entries


class Invariants:
    """Checks a simulation, and remembers what may not go back.

    Args:
        simulation: the simulation.
    """

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._newest_rows: dict[str, Version] = {}
        self._committed: dict[Partition, int] = {}

    def _dead_letters(self) -> set[Position]:
        """Returns the origins of all dead letters."""
        letters = [parse_dead_letter(record) for record in self._simulation.broker.records(DLQ)]
        return {letter.origin for letter in letters if letter is not None}

    def _row(self, event: ProducedEvent) -> AssetRow | None:
        return self._simulation.store.asset_rows([event.asset_id]).get(event.asset_id)

    def _is_rejected(self, event: ProducedEvent) -> bool:
        kind = (event.text or "").partition(":")[0]
        return (
            event.key is None
            or kind in ("poison", "crash", "refused")
            or (kind == "bad" and event.text not in self._simulation.media.repaired)
        )

    def check_committed(self) -> None:
        """Checks that no committed offset is past an event that is not settled, and that none ever goes back."""
        committed = self._simulation.broker.committed(GROUP)
        dead = self._dead_letters()
        for record in (record for topic in TOPICS for record in self._simulation.broker.records(topic)):
            at = record.position
            if at.offset < committed.get(Partition(at.topic, at.partition), 0):
                event = self._simulation.produced[origin_of(record)]
                assert event.position in dead or self._is_settled(event), f"{at} is committed and not settled"
        for partition, offset in committed.items():
            assert offset >= self._committed.get(partition, 0), f"{partition} was committed back to {offset}"
        self._committed = dict(committed)

    def check_rows(self) -> None:
        """Checks that no asset's row ever goes back to an older version."""
        for row in all_asset_rows(self._simulation.store):
            before = self._newest_rows.get(row.asset.id, row.version)
            assert row.version == before or row.version.newer_than(before), f"{row.asset} went back to {row.version}"
            self._newest_rows[row.asset.id] = row.version

    def check_outcomes(self) -> None:
        """Checks, once all is settled, that each event has its outcome and the store the newest version of each asset.

        An event that was spoiled may have been indexed before, or be a dead letter: what its asset's row says counts.
        """
        newest = self._newest()
        dead = self._dead_letters()
        for event in self._simulation.produced.values():
            if not self._is_rejected(event):
                spoiled = event.text in self._simulation.media.spoiled and event.position in dead
                assert self._is_settled(event) or spoiled, f"{event} was lost"
            elif event.position not in dead:
                assert event.key is not None, f"{event} is in no dead letter"
                assert event.asset_id in newest, f"{event} is in no dead letter"
                assert newest[event.asset_id].version.newer_than(event.version), f"{event} is in no dead letter"
        for position in dead:
            event = self._simulation.produced[position]
            assert (
                self._is_rejected(event)
                or event.text in self._simulation.media.repaired | self._simulation.media.spoiled
            )
        self._check_store(newest)

    def _check_store(self, newest: Mapping[str, ProducedEvent]) -> None:
        rows = {row.asset.id: row for row in all_asset_rows(self._simulation.store)}
        assert {asset: row.version for asset, row in rows.items()} == {
            asset: event.version for asset, event in newest.items()
        }
        torn = self._torn(newest)
        entries = all_entries(self._simulation.store, Collection.TEXT)
        assert {entry.id: entry.text for entry in entries if entry.asset.id not in torn} == {
            entry_id(rows[asset].asset, Collection.TEXT, part): event.text
            for asset, event in newest.items()
            for part in range(parts_of(event.text) if event.text else 0)
            if asset not in torn
        }
        for asset, row in rows.items():
            text = newest[asset].text
            assert row.counts == ({Collection.TEXT: parts_of(text)} if text else {})

    def _torn(self, newest: Mapping[str, ProducedEvent]) -> set[str]:
        """Returns the assets whose newest version a spoiled event may have partly overwritten.

        It was spoiled while it was written. Only the asset's next event is guaranteed to repair that.
        """
        torn = set()
        for event in self._simulation.produced.values():
            spoiled = event.key is not None and event.text in self._simulation.media.spoiled
            older = newest.get(event.asset_id) if spoiled else None
            if older is not None and older.text is not None and event.version.newer_than(older.version):
                torn.add(event.asset_id)
        return torn

    def _newest(self) -> dict[str, ProducedEvent]:
        """Returns the newest version of each asset that can be indexed or deleted."""
        newest: dict[str, ProducedEvent] = {}
        for event in self._simulation.produced.values():
            spoiled = event.text in self._simulation.media.spoiled and not self._settled_as(event)
            if not self._is_rejected(event) and not spoiled:
                known = newest.setdefault(event.asset_id, event)
                newest[event.asset_id] = event if event.version.newer_than(known.version) else known
        return newest

    def _is_settled(self, event: ProducedEvent) -> bool:
        """Returns whether the asset's row stands for the event, or for a newer one."""
        row = None if event.key is None else self._row(event)
        return row is not None and (row.version == event.version or row.version.newer_than(event.version))

    def _settled_as(self, event: ProducedEvent) -> bool:
        """Returns whether the asset's row stands for just this event."""
        row = None if event.key is None else self._row(event)
        return row is not None and row.version == event.version
