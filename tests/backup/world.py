"""A simulated ingest plane with an asset store, whose index is backed up, lost and restored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from penstock.assets import AssetStore
from penstock.backup import (
    BackupFolder,
    BackupReport,
    BackupSource,
    Manifest,
    RestoreReport,
    RestoreTarget,
    make_backup,
    restore,
)
from penstock.backup.restoring import RestoreKafka
from penstock.broker.memory.offsets import MemoryGroupOffsets
from penstock.config import StoreSettings
from penstock.records import Collection
from penstock.store.memory import MemoryStore
from tests.audit.simulated_plane import DEAD, GROUP, TOPICS, SimulatedPlane
from tests.store.builders import spec
from tests.store.scans import all_asset_rows, all_entries

Index = tuple[dict[Collection, list[object]], list[object]]


class World(SimulatedPlane):
    """One plane with its asset store and a place for backups."""

    def __init__(self, folder: Path, partitions: int = 2) -> None:
        super().__init__(partitions)
        self.assets = AssetStore((folder / "assets").as_uri())
        self.backups = BackupFolder((folder / "backups").as_uri())
        self.now_s = 1_900_000_000.0

    def back_up(
        self,
        *,
        page: int = 1_000,
        part_bytes: int = 1 << 20,
        during: Callable[[str], None] = lambda _: None,
    ) -> BackupReport:
        """Backs up; `during` is called with each stage, between two pages."""
        self.now_s += 60.0
        source = BackupSource(
            store=self.store,
            spec=spec(),
            reader=self.reader(),
            assets=self.assets,
            topics=TOPICS,
            dead_letter_topic=DEAD,
            group=GROUP,
            profile="null:8",
            aliases={"text": "text__clip_a__v1"},
        )
        return make_backup(
            source,
            self.backups,
            on_progress=lambda stage, _done, _total: during(stage),
            wall_s=lambda: self.now_s,
            page=page,
            part_bytes=part_bytes,
        )

    def lose_index(self) -> None:
        """Puts an empty store in the place of the index."""
        self.store = MemoryStore()

    def target(self, *, with_kafka: bool = True, version: int = 1) -> RestoreTarget:
        kafka = RestoreKafka(
            reader=self.reader(),
            offsets=MemoryGroupOffsets(self.broker, GROUP),
            producer=self.broker.producer(),
            topics=TOPICS,
            group=GROUP,
            dead_letter_topic=DEAD,
            create_topics=lambda: self.broker.create_topic(DEAD, 2),
        )
        settings = StoreSettings(version=version)
        return RestoreTarget(self.store, settings, self.assets, kafka if with_kafka else None)

    def restore(self, manifest: Manifest | None = None, *, with_kafka: bool = True, version: int = 1) -> RestoreReport:
        target = self.target(with_kafka=with_kafka, version=version)
        return restore(self.backups, manifest or self.backups.manifest(), target)

    def index(self) -> Index:
        """Returns all entries, without their times of writing, and all asset rows."""
        entries: dict[Collection, list[object]] = {
            collection: [
                (entry.id, entry.asset, entry.part, entry.origin, entry.text, tuple(map(bytes, entry.vectors.values())))
                for entry in all_entries(self.store, collection)
            ]
            for collection in (Collection.TEXT, Collection.IMAGE)
        }
        rows: list[object] = [
            (row.asset, row.version, row.outcome, dict(row.counts)) for row in all_asset_rows(self.store)
        ]
        return entries, rows
