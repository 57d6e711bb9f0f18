"""Two versions of an index, each fed by a lane of its own group, over one broker, and what fills the second one."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from penstock.assets import sha256_of
from penstock.audit.audit import audit
from penstock.audit.report import AuditReport
from penstock.audit.scan import AuditScope
from penstock.broker.base import Message, Partition, PartitionLag
from penstock.broker.memory.reader import MemoryReader
from penstock.ingest.lane.lane import Lane
from penstock.ingest.reindex.filling import Filler
from penstock.ingest.reindex.refills import RefillTargets
from penstock.records import AssetRow, ClaimCheck, Collection, Entry, Event, Inline, Modality
from penstock.store.memory import MemoryStore
from penstock.versions import Reindex, write_reindex
from tests.ingest.builders import TOPIC
from tests.ingest.doubles import SPEC
from tests.ingest.lane.harness import eventually, parse
from tests.ingest.test_purge import DLQ, ErasablePlant, StoringMedia
from tests.replays import KEYS
from tests.store.scans import all_asset_rows, all_entries

NEW_GROUP = "penstock.v2"


class RefillMedia(StoringMedia):
    """Fetches what refills name from the asset store, as the real worker does, and notes what it does.

    The decoder rejects assets of the keys in `spoils`.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.fetched: list[str] = []
        self.decoded: list[str] = []
        self.spoils: set[str] = set()

    def fetch(self, events: Sequence[Event]) -> tuple[Event, ...]:
        self.fetched += [event.asset.key for event in events]
        return tuple(map(self._filled, events))

    def fetch_and_decode(self, events: Sequence[Event], roles: Sequence[str]) -> Any:
        self.decoded += [event.asset.key for event in events]
        return super().fetch_and_decode(events, roles)

    def _filled(self, event: Event) -> Event:
        sha256 = sha256_of(event.payload.uri) if isinstance(event.payload, ClaimCheck) else None
        if sha256 is None or not event.refills:
            return event
        data = b"bad" if event.asset.key in self.spoils else self._assets.read(sha256)
        return replace(event, payload=Inline(data))


class TwinPlant(ErasablePlant):
    """The old version is that of the plant; the new one is beside it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.media = RefillMedia(self.assets)  # type: ignore[assignment]
        self.new_media = RefillMedia(self.assets)
        self.new = MemoryStore()
        self.new.ensure(replace(SPEC, version=2))
        self.new_reader = MemoryReader(self.broker, NEW_GROUP)
        write_reindex(self.assets, Reindex(1, 2, "null", NEW_GROUP, 1))

    def started_new(self) -> Lane:
        """Returns a lane that feeds the new version, not running yet."""
        old, self.store = self.store, self.new
        try:
            consumer = self.broker.consumer(NEW_GROUP, [TOPIC], drain_timeout_s=5.0)
            return self.lane("new", media=self.new_media, consumer=consumer)
        finally:
            self.store = old

    def filler(self, *, sleep: Callable[[float], bool] | None = None, old: Any = None) -> Filler:
        return Filler(
            old=old or self.store,
            new=self.new,
            targets=RefillTargets({TOPIC: Modality.TEXT}.get, lambda _: None, lambda _: False, self.assets.exists),
            producer=self.broker.producer(),
            sign=KEYS.signed,
            lag=self.new_lag,
            notes=self.assets,
            sleep=sleep or _briefly,
            clock=time.monotonic,
            wall_ms=lambda: 7,
        )

    def new_lag(self) -> Sequence[PartitionLag]:
        committed = self.broker.committed(NEW_GROUP)
        return [
            PartitionLag(partition, committed.get(partition), *self.broker.log_range(partition))
            for partition in self.broker.partitions(TOPIC)
        ]

    def settled_new(self) -> None:
        eventually(lambda: all(lag.lag == 0 for lag in self.new_lag()), "the new version has everything")

    def retain(self) -> None:
        """Removes every record that the topic has, as retention does."""
        for partition in self.broker.partitions(TOPIC):
            self.broker.expire(partition, self.broker.log_range(partition)[1])

    def append(self, key: str, value: bytes | None, *, partition: int | None = None, **headers: str) -> None:
        envelope = {"ce_specversion": "1.0", "ce_id": "1", "ce_source": "test", "ce_type": "t", **headers}
        written = tuple((name, text.encode()) for name, text in envelope.items())
        self.broker.append(Message(TOPIC, key.encode(), value, written, partition=partition))

    def audit_new(self) -> AuditReport:
        def parsed(record: Any) -> Any:
            return parse(record, Modality.TEXT)

        return audit(self.new_reader, self.new, AuditScope({TOPIC: Modality.TEXT}, DLQ, parsed, KEYS))

    def rows_new(self) -> dict[str, AssetRow]:
        return {row.asset.key: row for row in all_asset_rows(self.new)}

    def rows_old(self) -> dict[str, AssetRow]:
        return {row.asset.key: row for row in all_asset_rows(self.store)}

    def entries_new(self) -> dict[str, list[Entry]]:
        entries: dict[str, list[Entry]] = {}
        for entry in all_entries(self.new, Collection.TEXT):
            entries.setdefault(entry.asset.key, []).append(entry)
        return entries

    def log_end(self) -> int:
        """Returns the records that the topic has had, of all partitions."""
        return sum(self.broker.log_range(Partition(TOPIC, number))[1] for number in range(2))


def _briefly(seconds: float) -> bool:
    time.sleep(min(seconds, 0.005))
    return False
