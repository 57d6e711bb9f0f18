"""Makes a backup while everything runs: a state from which Kafka leads to the present one.

1. offsets     The group's committed offsets are read first. What lies below them was settled before, so that
               everything that is read later has it, or something newer.
2. asset rows  All of them, and then
3. entries     all entries with their vectors. A writer writes rows last: a row that was read has its entries, unless a
               later event has changed them since.
4. letters     The dead letters, to an end read after 1.
5. media       What rows, entries and letters refer to, by hash; only what the place does not have yet.
6. left out    Assets that changed between 2 and 3 are looked up again, and named: their newest event is not below the
               offsets, and a restore leaves them to its replay.
7. manifest    Written last, with the hash of every part: before it there is no backup.
8. note        The asset store keeps the time, for the age of the last backup.

Checkpoints are not kept: after a restore, media that were being indexed in segments begin again. A crash or an error at
any step leaves a folder without a manifest, which the next backup with `keep` removes.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa

from penstock import __version__
from penstock.assets import AssetStore, sha256_of
from penstock.assets.backup_note import BackupNote, write_backup_note
from penstock.backup.coherence import Coherence
from penstock.backup.folder import BackupFolder
from penstock.backup.manifest import (
    ASSETS,
    LEFT_OUT,
    LETTERS,
    MEDIA,
    BackupCounts,
    Manifest,
    Part,
    PartitionOffset,
)
from penstock.backup.media import MediaCopier, MediaCopy, short
from penstock.backup.parts import PART_BYTES, PartWriter
from penstock.backup.tables import (
    LEFT_OUT_SCHEMA,
    MEDIA_SCHEMA,
    assets_table,
    entries_table,
    letters_table,
)
from penstock.broker.base import TopicReader
from penstock.broker.deadletters import parse_dead_letter
from penstock.records import Collection as EntryCollection
from penstock.records import Record
from penstock.store.base import EntryScan, IndexSpec

StageListener: TypeAlias = Callable[[str, int, int | None], None]  # stage, items done, total

_PAGE = 1_000  # rows read at a time
_LOOKUP_ASSETS = 500


@dataclass(frozen=True, slots=True)
class BackupSource:
    """An index to back up, with what belongs to it.

    Attributes:
        store: holds the index; it reads the version of `spec`.
        spec: the collections of the index.
        reader: reads the topics, and the progress of the group.
        assets: the asset store.
        topics: those that the group consumes.
        dead_letter_topic: the topic of the dead letters.
        group: the consumer group of the ingest plane.
        profile: the models that fill the index.
        aliases: the physical collection behind each alias.
    """

    store: EntryScan
    spec: IndexSpec
    reader: TopicReader
    assets: AssetStore
    topics: Collection[str]
    dead_letter_topic: str
    group: str
    profile: str
    aliases: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class BackupReport:
    """The result of a backup.

    Attributes:
        manifest: what the backup has.
        media: what was copied for it.
        seconds: the time of each step.
    """

    manifest: Manifest
    media: MediaCopy
    seconds: Mapping[str, float]


def make_backup(
    source: BackupSource,
    folder: BackupFolder,
    *,
    on_progress: StageListener = lambda _stage, _done, _total: None,
    work_dir: Path | None = None,
    wall_s: Callable[[], float] = time.time,
    clock: Callable[[], float] = time.monotonic,
    part_bytes: int = PART_BYTES,
    page: int = _PAGE,
) -> BackupReport:
    """Makes a backup, as the head of this file says.

    Args:
        source: what is backed up.
        folder: where to.
        on_progress: called every now and then, on the caller's thread.
        work_dir: the folder of the scratch file, about 150 bytes an entry; None: the system's temporary folder.
        wall_s: seconds since the epoch.
        clock: monotonic seconds.
        part_bytes: size of a part in memory.
        page: rows that are read at a time.

    Raises:
        UnavailableError: Kafka, the store, the asset store or the place does not answer.
    """
    folder.create()
    with tempfile.TemporaryDirectory(prefix="penstock-backup-", dir=work_dir) as scratch:
        coherence = Coherence(Path(scratch) / "read.sqlite")
        try:
            return _Making(
                source,
                folder,
                coherence,
                on_progress=on_progress,
                wall_s=wall_s,
                clock=clock,
                part_bytes=part_bytes,
                page=page,
            ).run()
        finally:
            coherence.close()


def backup_id(wall_s: float) -> str:
    """Returns the id of a backup that begins at this time, seconds since the epoch. Ids sort by time."""
    began = datetime.fromtimestamp(wall_s, UTC)
    return f"{began:%Y%m%dT%H%M%S}.{began.microsecond // 1000:03}Z"


class _Making:
    """One backup. The steps are those at the head of this file."""

    def __init__(
        self,
        source: BackupSource,
        folder: BackupFolder,
        coherence: Coherence,
        *,
        on_progress: StageListener,
        wall_s: Callable[[], float],
        clock: Callable[[], float],
        part_bytes: int,
        page: int,
    ) -> None:
        self._source = source
        self._folder = folder
        self._coherence = coherence
        self._on_progress = on_progress
        self._wall_s = wall_s
        self._clock = clock
        self._part_bytes = part_bytes
        self._page = page
        self._began_s = wall_s()
        self._id = backup_id(self._began_s)
        self._parts: dict[str, Sequence[Part]] = {}
        self._rows: dict[str, int] = {}
        self._referenced: set[bytes] = set()
        self._seconds: dict[str, float] = {}

    def run(self) -> BackupReport:
        """Runs all steps."""
        with self._timed("offsets"):
            offsets = [
                PartitionOffset(lag.partition.topic, lag.partition.partition, lag.committed, lag.log_end)
                for lag in self._source.reader.lag(self._source.topics)
            ]  # 1
        with self._timed("asset rows"):
            self._back_up(ASSETS, self._asset_tables())  # 2
        with self._timed("entries"):
            for collection in self._source.spec.vectors:
                self._back_up(collection.value, self._entry_tables(collection))  # 3
        with self._timed("dead letters"):
            self._back_up(LETTERS, self._letter_tables())  # 4
        with self._timed("media"):
            media = self._back_up_media()  # 5
        with self._timed("left out"):
            left_out, damaged = self._name_left_out()  # 6
        counts = self._counts(media, left_out, damaged)
        manifest = self._manifest(offsets, counts)
        self._folder.put_manifest(manifest)  # 7
        note = BackupNote(self._id, self._source.spec.version, round(self._began_s * 1000))
        write_backup_note(self._source.assets, note)  # 8
        return BackupReport(manifest, media, self._seconds)

    # --- 2 asset rows, 3 entries, 4 letters --------------------------------------------------------------------------

    def _asset_tables(self) -> Iterator[pa.Table]:
        total = self._source.store.count_assets()
        done = 0
        for page in self._source.store.scan_asset_rows(batch=self._page):
            self._coherence.add_rows(page)
            self._refer(row.uri for row in page)
            done += len(page)
            self._on_progress("asset rows", done, total)
            yield assets_table(page)

    def _entry_tables(self, collection: EntryCollection) -> Iterator[pa.Table]:
        dims = {field: vector.space.dim for field, vector in self._source.spec.vectors[collection].items()}
        total = self._source.store.count(collection)
        done = 0
        for page in self._source.store.scan_entries(collection, batch=self._page):
            self._coherence.add_entries(page)
            self._refer(uri for entry in page for uri in (entry.uri, entry.thumbnail))
            done += len(page)
            self._on_progress(f"entries in {collection}", done, total)
            yield entries_table(page, dims)

    def _letter_tables(self) -> Iterator[pa.Table]:
        topic = self._source.dead_letter_topic
        logs = self._source.reader.bounds([topic])
        total = sum(log.end - log.start for log in logs.values())
        done = 0
        for partition, log in logs.items():
            for records in _of_bytes(self._source.reader.read(partition, log.start, log.end), self._part_bytes):
                letters = [letter for record in records if (letter := parse_dead_letter(record)) is not None]
                self._refer(letter.offloaded_uri or "" for letter in letters)
                done += len(records)
                self._on_progress("dead letters", done, total)
                yield letters_table(records)

    def _refer(self, uris: Iterable[str]) -> None:
        self._referenced.update(short(sha256) for uri in uris if (sha256 := sha256_of(uri)) is not None)

    def _back_up(self, kind: str, tables: Iterable[pa.Table]) -> None:
        """Writes tables as the parts of a kind."""
        writer = PartWriter(self._folder, self._id, kind, part_bytes=self._part_bytes)
        for table in tables:
            writer.add(table)
        self._parts[kind] = writer.close()
        self._rows[kind] = writer.rows

    # --- 5 media -----------------------------------------------------------------------------------------------------

    def _back_up_media(self) -> MediaCopy:
        total = len(self._referenced)
        copier = MediaCopier(
            self._source.assets, self._folder.media, lambda done: self._on_progress("media", done, total)
        )
        copied = iter(copier.copy_referenced(self._referenced))

        def tables() -> Iterator[pa.Table]:
            while group := list(islice(copied, _PAGE)):
                yield pa.Table.from_pylist(
                    [{"sha256": stored.sha256, "size": stored.size} for stored in group], MEDIA_SCHEMA
                )

        self._back_up(MEDIA, tables())
        return copier.result

    # --- 6 left out --------------------------------------------------------------------------------------------------

    def _name_left_out(self) -> tuple[int, int]:
        """Writes the assets and entries that a restore leaves out; returns those assets, and the damaged ones."""
        self._coherence.complete()
        assets: list[str] = []
        damaged = 0
        unfit = self._coherence.unfit()
        while chunk := list(islice(unfit, _LOOKUP_ASSETS)):
            rows = self._source.store.asset_rows([asset.asset_id for asset in chunk])
            for asset in chunk:
                row = rows.get(asset.asset_id)
                same = row is not None and (row.version.partition, row.version.offset) == asset[1:3]
                if same and not asset.has_newer:
                    damaged += 1  # nothing has changed it, so nothing would write it again
                else:
                    assets.append(asset.asset_id)
        tables = [pa.Table.from_pylist([{"asset": id_, "entry": None} for id_ in assets], LEFT_OUT_SCHEMA)]
        strangers = [{"asset": None, "entry": id_} for id_ in self._coherence.strangers()]
        self._back_up(LEFT_OUT, [*tables, pa.Table.from_pylist(strangers, LEFT_OUT_SCHEMA)])
        return len(assets), damaged

    # --- 7 manifest --------------------------------------------------------------------------------------------------

    def _counts(self, media: MediaCopy, left_out: int, damaged: int) -> BackupCounts:
        return BackupCounts(
            assets=self._rows[ASSETS],
            entries={collection.value: self._rows[collection.value] for collection in self._source.spec.vectors},
            letters=self._rows[LETTERS],
            media=media.present,
            media_bytes=media.size,
            missing_media=media.missing_count,
            left_out=left_out,
            damaged=damaged,
        )

    def _manifest(self, offsets: Sequence[PartitionOffset], counts: BackupCounts) -> Manifest:
        source = self._source
        return Manifest(
            id=self._id,
            penstock=__version__,
            began_ms=round(self._began_s * 1000),
            ended_ms=round(self._wall_s() * 1000),
            profile=source.profile,
            spec=source.spec,
            aliases=source.aliases,
            group=source.group,
            dead_letter_topic=source.dead_letter_topic,
            offsets=offsets,
            counts=counts,
            parts=self._parts,
        )

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        began_s = self._clock()
        yield
        self._seconds[step] = self._clock() - began_s


def _of_bytes(records: Iterable[Record], max_bytes: int) -> Iterator[list[Record]]:
    """Yields records in lists of about this size."""
    group: list[Record] = []
    size = 0
    for record in records:
        group.append(record)
        size += record.accounted_bytes
        if size >= max_bytes:
            yield group
            group, size = [], 0
    if group:
        yield group
