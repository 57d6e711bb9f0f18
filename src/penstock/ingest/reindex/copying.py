"""Fills a new version with the vectors that the old one has, through a transform; no media are read.

1. note     the offsets that the live group has committed. Every event below them has its outcome in the old version
2. copy     asset rows by ascending id, some thousand entries at a time: the entries of each, transformed, and then the
            rows. What a write of the old version's plane is changing at that moment is left out: its event lies above
            the offsets
3. surplus  entries of the page's assets that no row counts: those of a page that was copied before and has changed
4. begin    the new version's group begins at the noted offsets, and reads from there what came since

No other process writes to the new version in that time, as its plane starts after step 4. A copy that ended anywhere
continues with the page after the last one; events of assets that were copied later than noted are settled already.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from penstock.assets import AssetStore
from penstock.broker.base import Partition, PartitionLag
from penstock.encoders.transform import Transform
from penstock.errors import ConfigError
from penstock.ingest.reindex.filling import StoppedFillError
from penstock.records import AssetRow, Collection, Entry, Field, Float32, part_id
from penstock.store.base import EntryScan, EntryWriter
from penstock.versions import OFFSETS_NOTE, Progress, read_progress, write_progress

logger = logging.getLogger(__name__)

_PAGE = 200  # assets
# Entries that are held at a time, unless one asset has more: 8 MB of each vector of 1,024 dimensions. A long video has
# a thousand.
_MAX_ENTRIES = 2_000
_LOOKUP = 1_000  # entries of one request


class Copier:
    """Copies a version, from one thread.

    Args:
        old: the rows and entries of the version that is served.
        new: receives them; nothing else writes to it.
        collections: that the new version has.
        transform_of: what maps the vectors of a field; None: they stay.
        live_lag: reads the progress of the group that feeds the old version.
        begin_at: sets the offsets of the group that will feed the new version.
        notes: the asset store, which has the progress.
        pause: waits as long as the throttle demands after this many assets; returns whether the plane stops.
        wall_ms: milliseconds since the epoch.
        on_progress: called with each count.
    """

    def __init__(
        self,
        *,
        old: EntryScan,
        new: EntryWriter,
        collections: Sequence[Collection],
        transform_of: Callable[[Collection, Field], Transform | None],
        live_lag: Callable[[], Sequence[PartitionLag]],
        begin_at: Callable[[Mapping[Partition, int]], None],
        notes: AssetStore,
        pause: Callable[[int], bool],
        wall_ms: Callable[[], int],
        on_progress: Callable[[Progress], None] = lambda _: None,
    ) -> None:
        self._old = old
        self._new = new
        self._collections = collections
        self._transform_of = transform_of
        self._live_lag = live_lag
        self._begin_at = begin_at
        self._notes = notes
        self._pause = pause
        self._wall_ms = wall_ms
        self._on_progress = on_progress
        self._progress = read_progress(notes) or Progress(0, 0, 0, 0.0, wall_ms())

    def copy(self) -> None:
        """Copies what is left to copy, and lets the group begin. Has no effect once that was done.

        Raises:
            StoppedFillError: the plane stops; a repetition continues.
            UnavailableError: broker, store or asset store does not answer; a repetition continues.
            ConfigError: the group of the new version runs already.
        """
        offsets = read_offsets(self._notes)
        if offsets is None:
            offsets = _committed(self._live_lag())  # 1
            write_offsets(self._notes, offsets)
        elif not offsets:
            return
        for page in self._old.scan_asset_rows(batch=_PAGE):
            rows = [row for row in page if row.asset.id > self._progress.after]
            for some in _cut(rows):
                self._copy_page(some)  # 2 and 3
                self._advance(some)
        self._begin_at(offsets)  # 4
        self._progress = replace(self._progress, after="")
        write_progress(self._notes, self._progress)
        write_offsets(self._notes, {})
        logger.warning("the vectors of %d assets were copied; events since follow from the topics", self._progress.done)

    def _advance(self, rows: Sequence[AssetRow]) -> None:
        total = self._old.count_assets()
        done = min(self._progress.done + len(rows), total)
        self._progress = replace(
            self._progress, after=rows[-1].asset.id, done=done, total=total, updated_ms=self._wall_ms()
        )
        write_progress(self._notes, self._progress)
        self._on_progress(self._progress)
        if self._pause(len(rows)):
            raise StoppedFillError

    # --- 2 copy ------------------------------------------------------------------------------------------------------

    def _copy_page(self, rows: Sequence[AssetRow]) -> None:
        entries = self._read(rows)
        whole = [row for row in rows if _is_whole(row, entries.get(row.asset.id, ()))]
        kept = [entry for row in whole for entry in entries.get(row.asset.id, ())]
        by_collection: dict[Collection, list[Entry]] = {}
        for entry in kept:
            by_collection.setdefault(entry.collection, []).append(entry)
        for collection, some in by_collection.items():
            self._new.upsert(collection, self._transformed(collection, some))
        self._remove_surplus(whole, {entry.id for entry in kept})  # 3
        self._new.put_asset_rows(whole)

    def _read(self, rows: Iterable[AssetRow]) -> Mapping[str, Sequence[Entry]]:
        """Returns the entries that rows count, by asset."""
        ids: dict[Collection, list[str]] = {}
        for row in rows:
            for collection, count in row.counts.items():
                ids.setdefault(collection, []).extend(
                    part_id(row.asset.id, collection, part, row.slot) for part in range(count)
                )
        entries: dict[str, list[Entry]] = {}
        for collection, some in ids.items():
            for start in range(0, len(some), _LOOKUP):
                for entry in self._old.get(collection, some[start : start + _LOOKUP]):
                    entries.setdefault(entry.asset.id, []).append(entry)
        return entries

    def _transformed(self, collection: Collection, entries: Sequence[Entry]) -> Sequence[Entry]:
        vectors: list[dict[Field, Float32]] = [dict(entry.vectors) for entry in entries]
        for field in {field for entry in entries for field in entry.vectors}:
            transform = self._transform_of(collection, field)
            if transform is None:
                continue
            having = [number for number, entry in enumerate(entries) if field in entry.vectors]
            mapped = transform.apply(np.stack([vectors[number][field] for number in having]))
            for number, vector in zip(having, mapped, strict=True):
                vectors[number][field] = vector
        return [replace(entry, vectors=own) for entry, own in zip(entries, vectors, strict=True)]

    # --- 3 surplus ---------------------------------------------------------------------------------------------------

    def _remove_surplus(self, rows: Sequence[AssetRow], kept: set[str]) -> None:
        ids = [row.asset.id for row in rows]
        for collection in self._collections:
            present = self._new.entry_ids(collection, ids)
            if surplus := sorted({id_ for some in present.values() for id_ in some} - kept):
                self._new.delete(collection, surplus)


def _cut(rows: Iterable[AssetRow]) -> Iterator[Sequence[AssetRow]]:
    """Yields the rows in order, in parts of `_MAX_ENTRIES` entries at most, or of one row."""
    part: list[AssetRow] = []
    entries = 0
    for row in rows:
        count = sum(row.counts.values())
        if part and entries + count > _MAX_ENTRIES:
            yield part
            part, entries = [], 0
        part.append(row)
        entries += count
    if part:
        yield part


def _is_whole(row: AssetRow, entries: Sequence[Entry]) -> bool:
    """Returns whether the entries are those of a row: not of a newer version that is being written."""
    return sum(row.counts.values()) == len(entries) and all(entry.origin == row.origin for entry in entries)


def _committed(lags: Sequence[PartitionLag]) -> Mapping[Partition, int]:
    return {lag.partition: max(lag.log_start, lag.committed or 0) for lag in lags}


def read_offsets(notes: AssetStore) -> Mapping[Partition, int] | None:
    """Returns the noted offsets; None before they are noted, empty once the group has begun.

    Raises:
        ConfigError: the note is damaged.
    """
    data = notes.note(OFFSETS_NOTE)
    if data is None:
        return None
    try:
        return {Partition(topic, int(number)): int(offset) for topic, number, offset in json.loads(data)}
    except (ValueError, TypeError) as exc:
        raise ConfigError(f"the note {OFFSETS_NOTE} of the asset store {notes.url} cannot be read: {exc!r}") from exc


def write_offsets(notes: AssetStore, offsets: Mapping[Partition, int]) -> None:
    """Notes offsets, in place of those noted before. Raises `UnavailableError`."""
    rows = [[partition.topic, partition.partition, offset] for partition, offset in offsets.items()]
    notes.put_note(OFFSETS_NOTE, json.dumps(rows).encode())
