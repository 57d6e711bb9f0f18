"""Restores a backup into an empty index, of whatever backend, and lets the group replay what came after it.

1. verify      Every part is read and compared with the manifest, before anything is changed.
2. refuse      An index that is not empty or would not be served, a group with members, and topics that do not hold
               the offsets.
3. note        The asset store keeps that a restore is in progress: the same one may be run again after a crash.
4. offsets     The group's offsets are set first: an ingest plane that starts too early leaves out nothing.
5. media       Those that the asset store lacks.
6. letters     Those that the dead-letter topic never had, each once. One that was removed from it stays removed.
7. entries     Without those that changed during the backup, and after them the
   asset rows  as a writer does.
8. check       No ingest plane has run in the meantime; the note is removed.

The ingest plane then settles every event from the offsets on. Versions decide, as after a crash: what the index has is
not written twice, and what it lacks is written.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

from penstock.assets import AssetStore, StoredMedia
from penstock.backup.folder import BackupFolder
from penstock.backup.letters import LetterRestorer
from penstock.backup.manifest import ASSETS, LEFT_OUT, LETTERS, MEDIA, Manifest
from penstock.backup.media import MediaCopier, MediaCopy
from penstock.backup.parts import read_tables
from penstock.backup.tables import assets_of, entries_of, letters_of, pieces
from penstock.broker.base import LogRange, LostRange, Partition, Producer, TopicReader
from penstock.broker.group_offsets import GroupOffsets, active
from penstock.config import StoreSettings
from penstock.errors import PermanentError, UsageError
from penstock.records import TEXT_COLLECTIONS
from penstock.records import Collection as EntryCollection
from penstock.store.aliases import VersionedStore
from penstock.store.base import IndexSpec, Store
from penstock.versions.switching import served_version

StageListener: TypeAlias = Callable[[str, int, int | None], None]  # stage, items done, total

_NOTE = "restore.json"
_ROWS = 1_000


class IndexNotEmptyError(UsageError):
    """A backup is to be restored into an index that has rows, or beside the served one."""


class ForeignTopicsError(UsageError):
    """The topics are not those of the backup: they end before its offsets, or do not exist."""


@dataclass(frozen=True, slots=True)
class RestoreKafka:
    """The broker of a restore.

    Attributes:
        reader: reads bounds of topics and the progress of the group.
        offsets: of the group.
        producer: writes dead letters.
        topics: those that the group consumes.
        group: its name.
        dead_letter_topic: the topic of the dead letters.
        create_topics: creates the dead-letter topic if it is missing.
    """

    reader: TopicReader
    offsets: GroupOffsets
    producer: Producer
    topics: Collection[str]
    group: str
    dead_letter_topic: str
    create_topics: Callable[[], object]


class RestorableStore(Store, VersionedStore, Protocol):
    """A store that can be filled from a backup, and that says which version of the index it serves."""


@dataclass(frozen=True, slots=True)
class RestoreTarget:
    """The index to fill.

    Attributes:
        store: empty, or without the collections.
        settings: of the store: version and shards of the collections.
        assets: the asset store.
        kafka: None: only the index is restored, and nothing is replayed into it.
    """

    store: RestorableStore
    settings: StoreSettings
    assets: AssetStore
    kafka: RestoreKafka | None


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """The result of a restore.

    Over the limit because it is one JSON document.

    Attributes:
        manifest: of the backup.
        continued: whether an interrupted restore was continued.
        assets: asset rows that were written.
        entries: entries that were written.
        left_out: assets that changed during the backup and come back by the replay.
        media: what was copied to the asset store.
        letters: dead letters that were written, which the topic had lost.
        to_replay: offsets between those of the backup and the ends of the topics.
        lost: offsets that retention has removed since the backup, and that no replay can bring back.
        seconds: the time of each step.
    """

    manifest: Manifest
    continued: bool
    assets: int
    entries: int
    left_out: int
    media: MediaCopy
    letters: int
    to_replay: int
    lost: Sequence[LostRange]
    seconds: Mapping[str, float]


def restore(
    folder: BackupFolder,
    manifest: Manifest,
    target: RestoreTarget,
    *,
    on_progress: StageListener = lambda _stage, _done, _total: None,
    clock: Callable[[], float] = time.monotonic,
) -> RestoreReport:
    """Restores a backup, as the head of this file says.

    Raises:
        DamagedBackupError: a part is missing or not what the manifest says; nothing was changed.
        IndexNotEmptyError, ActiveGroupError, ForeignTopicsError: as step 2 says; nothing was changed.
        UnavailableError: a service does not answer; run the same restore again.
        PermanentError: an ingest plane ran during the restore.
    """
    return _Restoring(folder, manifest, target, on_progress, clock).run()


def verify(folder: BackupFolder, manifest: Manifest, on_progress: StageListener) -> None:
    """Compares every part with the manifest.

    Raises:
        DamagedBackupError: one is missing or has another hash; names it.
    """
    parts = manifest.every_part
    for number, part in enumerate(parts, 1):
        folder.read_part(manifest.id, part)
        on_progress("verifying parts", number, len(parts))


def restored_spec(manifest: Manifest, settings: StoreSettings) -> IndexSpec:
    """Returns the specification of the collections that a restore creates.

    A backend without lexical search records no such field; another one computes it from the texts.
    """
    spec = manifest.spec
    lexical = spec.lexical or TEXT_COLLECTIONS & spec.vectors.keys()
    return replace(spec, version=settings.version, num_shards=settings.num_shards, lexical=frozenset(lexical))


class _Restoring:
    """One restore. The steps are those at the head of this file."""

    def __init__(
        self,
        folder: BackupFolder,
        manifest: Manifest,
        target: RestoreTarget,
        on_progress: StageListener,
        clock: Callable[[], float],
    ) -> None:
        self._folder = folder
        self._manifest = manifest
        self._target = target
        self._on_progress = on_progress
        self._clock = clock
        self._seconds: dict[str, float] = {}

    def run(self) -> RestoreReport:
        """Runs all steps."""
        kafka = self._target.kafka
        with self._timed("verify"):
            verify(self._folder, self._manifest, self._on_progress)  # 1
        logs = {} if kafka is None else self._refuse_foreign_topics(kafka)  # 2
        offsets = self._offsets(logs)
        continued = self._refuse_index()
        self._target.assets.put_note(_NOTE, json.dumps({"backup": self._manifest.id}).encode())  # 3
        if kafka is not None:
            kafka.offsets.set(offsets)  # 4
        with self._timed("media"):
            media = self._restore_media()  # 5
        with self._timed("dead letters"):
            letters = 0 if kafka is None else self._restore_letters(kafka)  # 6
        assets_left_out, entries_left_out = self._left_out()
        with self._timed("entries"):
            entries = self._restore_entries(assets_left_out, entries_left_out)  # 7
        with self._timed("asset rows"):
            assets = self._restore_rows(assets_left_out)
        if kafka is not None:
            self._check_group(kafka, offsets)  # 8
        self._target.assets.drop_note(_NOTE)
        return RestoreReport(
            self._manifest,
            continued=continued,
            assets=assets,
            entries=entries,
            left_out=len(assets_left_out),
            media=media,
            letters=letters,
            to_replay=sum(log.end - max(offsets[partition], log.start) for partition, log in logs.items()),
            lost=[
                LostRange(partition, offsets[partition], log.start)
                for partition, log in logs.items()
                if offsets[partition] < log.start
            ],
            seconds=self._seconds,
        )

    # --- 2 refuse ----------------------------------------------------------------------------------------------------

    def _refuse_foreign_topics(self, kafka: RestoreKafka) -> Mapping[Partition, LogRange]:
        """Returns the present logs of the topics that the group consumes."""
        if kafka.offsets.members():
            raise active(kafka.group)
        recorded = {offset.key: offset.offset for offset in self._manifest.offsets if offset.offset}
        logs = kafka.reader.bounds({*kafka.topics, *(partition.topic for partition in recorded)})
        for partition, offset in recorded.items():
            log = logs.get(partition)
            if log is None or log.end < offset:
                state = "does not exist" if log is None else f"ends at {log.end}"
                raise ForeignTopicsError(
                    f"{partition} {state}, and the backup was made at its offset {offset}: these are other topics, or "
                    "they were created again, and new events in them would count as older than what the index has. "
                    "Check kafka.bootstrap_servers; --without-kafka restores an index that is only searched"
                )
        return logs

    def _offsets(self, logs: Mapping[Partition, LogRange]) -> Mapping[Partition, int]:
        """Returns where the group continues: at the start of a log of which the backup knows nothing."""
        recorded = {offset.key: offset.offset for offset in self._manifest.offsets if offset.offset is not None}
        return {partition: recorded.get(partition, log.start) for partition, log in logs.items()}

    def _refuse_index(self) -> bool:
        """Creates missing collections, and returns whether this restore was started before.

        Only a re-index lets another version be served, so that one restored beside the served one would never be.
        """
        note = self._target.assets.note(_NOTE)
        backup = None if note is None else json.loads(note).get("backup")
        spec, store = restored_spec(self._manifest, self._target.settings), self._target.store
        served = served_version(store)
        if served not in (None, spec.version):
            raise IndexNotEmptyError(
                f"version {served} of the index is served here, and a restored version {spec.version} never would be: "
                f"set store.version to {served} if that one is empty, or store.database to another one, or remove its "
                "aliases and collections"
            )
        store.ensure(spec)
        rows = store.count_assets() + sum(store.count(collection) for collection in spec.vectors)
        if rows and backup != self._manifest.id:
            raise IndexNotEmptyError(
                f"the index of version {spec.version} has {rows:,} rows already: set store.database to another one, or "
                "remove its aliases and collections"
            )
        return bool(rows)

    # --- 5 media, 6 letters ------------------------------------------------------------------------------------------

    def _restore_media(self) -> MediaCopy:
        total = self._manifest.counts.media
        copier = MediaCopier(
            self._folder.media, self._target.assets, lambda done: self._on_progress("media", done, total)
        )
        recorded = (
            StoredMedia(row["sha256"], row["size"], 0.0)
            for table in read_tables(self._folder, self._manifest, MEDIA)
            for row in table.to_pylist()
        )
        for _ in copier.copy(recorded):
            pass
        return copier.result

    def _restore_letters(self, kafka: RestoreKafka) -> int:
        """Writes the dead letters that their topic has lost."""
        if not self._manifest.counts.letters:
            return 0
        kafka.create_topics()
        restorer = LetterRestorer(kafka.reader, kafka.producer, kafka.dead_letter_topic)
        written = done = 0
        for table in read_tables(self._folder, self._manifest, LETTERS):
            for piece in pieces(table, _ROWS):
                letters = letters_of(piece)
                written += restorer.write(letters)
                done += len(letters)
                self._on_progress("dead letters", done, self._manifest.counts.letters)
        return written

    # --- 7 entries and asset rows ------------------------------------------------------------------------------------

    def _left_out(self) -> tuple[frozenset[str], frozenset[str]]:
        """Returns the ids of the assets, and of the entries, that changed during the backup."""
        rows = [row for table in read_tables(self._folder, self._manifest, LEFT_OUT) for row in table.to_pylist()]
        assets = frozenset(row["asset"] for row in rows if row["asset"])
        return assets, frozenset(row["entry"] for row in rows if row["entry"])

    def _restore_entries(self, without_assets: frozenset[str], without: frozenset[str]) -> int:
        written = 0
        for collection in self._manifest.spec.vectors:
            written += self._restore_collection(collection, without_assets, without)
        return written

    def _restore_collection(
        self, collection: EntryCollection, without_assets: frozenset[str], without: frozenset[str]
    ) -> int:
        fields = tuple(self._manifest.spec.vectors[collection])
        total = self._manifest.counts.entries[collection.value]
        written = done = 0
        for table in read_tables(self._folder, self._manifest, collection.value):
            for piece in pieces(table, _ROWS):
                read = entries_of(collection, piece, fields)
                kept = [entry for entry in read if entry.id not in without and entry.asset.id not in without_assets]
                self._target.store.upsert(collection, kept)
                written += len(kept)
                done += len(read)
                self._on_progress(f"entries in {collection}", done, total)
        return written

    def _restore_rows(self, without: frozenset[str]) -> int:
        written = 0
        for table in read_tables(self._folder, self._manifest, ASSETS):
            for piece in pieces(table, _ROWS):
                kept = [row for row in assets_of(piece) if row.asset.id not in without]
                self._target.store.put_asset_rows(kept)
                written += len(kept)
                self._on_progress("asset rows", written, self._manifest.counts.assets)
        return written

    # --- 8 check -----------------------------------------------------------------------------------------------------

    def _check_group(self, kafka: RestoreKafka, offsets: Mapping[Partition, int]) -> None:
        present = {lag.partition: lag.committed for lag in kafka.reader.lag({partition.topic for partition in offsets})}
        moved = [partition for partition, offset in offsets.items() if present.get(partition) != offset]
        if moved or kafka.offsets.members():
            raise PermanentError(
                "an ingest plane ran during the restore, and older rows may have replaced those that it wrote: stop "
                "it, drop the collections, and restore again"
            )

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        began_s = self._clock()
        yield
        self._seconds[step] = self._clock() - began_s
