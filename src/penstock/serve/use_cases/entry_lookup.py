"""Reads the entries of stored media in order of time, such as the words and the frames of a video."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection as Container
from collections.abc import Mapping, Sequence
from typing import Protocol

from penstock.assets import asset_uri
from penstock.errors import QueryError
from penstock.query.executor import BoundedExecutor
from penstock.records import SLOTS, Access, AssetRef, Collection, Entry, Position, part_id
from penstock.store.filters import Comparison, Filter

MAX_ENTRIES = 10_000  # of one collection: 28 hours of speech, in passages of at least 10 s

_PARTS_AT_ONCE = 250
_PROBES = 32

_SHA256 = re.compile(r"[0-9a-f]{64}")


class EntryStore(Protocol):
    """Reads entries by id and by condition, as `store.base.EntrySearch` does."""

    def entries(self, ids: Sequence[str], *, access: Access, timeout_s: float) -> Mapping[str, Entry]:
        """Returns those of these entries that exist and are allowed, by id."""

    def select(
        self, collection: Collection, where: Filter, *, access: Access, limit: int, timeout_s: float
    ) -> Sequence[Entry]:
        """Returns the first allowed entries by ascending id that satisfy a condition."""


class EntryLookup:
    """Reads entries for the routes that show them.

    Args:
        store: of the entries.
        executor: runs its calls, among those of the searches.
        timeout_s: maximum duration of a read, seconds.

    Every method raises UnavailableError if the store does not answer.
    """

    def __init__(self, store: EntryStore, executor: BoundedExecutor, *, timeout_s: float) -> None:
        self._store = store
        self._executor = executor
        self._timeout_s = timeout_s

    async def entry(self, entry_id: str, access: Access) -> Entry:
        """Returns an entry. Raises QueryError, 404, if there is none of this id that is allowed."""
        entries = await self.entries([entry_id], access)
        if entry_id not in entries:
            raise QueryError(f"there is no entry {entry_id!r}; it may have been deleted", status=404)
        return entries[entry_id]

    async def entries(self, ids: Sequence[str], access: Access) -> Mapping[str, Entry]:
        """Returns those of these entries that exist and are allowed, by id."""
        return await self._executor.run(
            lambda: self._store.entries(ids, access=access, timeout_s=self._timeout_s), timeout_s=self._timeout_s
        )

    async def select(
        self, collection: Collection, where: Filter, access: Access, *, limit: int = MAX_ENTRIES
    ) -> Sequence[Entry]:
        """Returns the first allowed entries of a collection that satisfy a condition."""
        return await self._executor.run(
            lambda: self._store.select(collection, where, access=access, limit=limit, timeout_s=self._timeout_s),
            timeout_s=self._timeout_s,
        )

    async def of_media(
        self, sha256: str, access: Access, collections: Container[Collection], entry_id: str | None
    ) -> list[Entry]:
        """Returns the entries of media in order of time, of one asset and one version.

        Several assets may have the same media. While one is indexed again the entries of both versions are stored.

        Args:
            sha256: of the media.
            access: the entries that may be read.
            collections: to read.
            entry_id: one of them, such as a hit: the others are then read by their ids. Without it the store compares
                the address of every entry of the tenant, which takes 0.1 s for 50,000.

        Raises:
            QueryError: 404, the name is not a hash.
        """
        _check_name(sha256)
        known = None if entry_id is None else (await self.entries([entry_id], access)).get(entry_id)
        if known is not None and known.uri == asset_uri(sha256):
            return await self._of_version(known, collections, access)
        where = Comparison("uri", "eq", asset_uri(sha256))
        selected = await asyncio.gather(*(self.select(collection, where, access) for collection in collections))
        return in_order_of_time(_of_one_version([entry for entries in selected for entry in entries]))

    async def of_asset(
        self, sha256: str, access: Access, collections: Container[Collection], entry_id: str
    ) -> list[Entry]:
        """Returns the entries of the asset and the version of one entry in order of time.

        Args:
            sha256: of the media of the asset.
            access: the entries that may be read.
            collections: to read.
            entry_id: the entry. Without one that has these media, and of others with the same media, there are none.

        Raises:
            QueryError: 404, the name is not a hash.
        """
        _check_name(sha256)
        known = (await self.entries([entry_id], access)).get(entry_id)
        if known is None or known.uri != asset_uri(sha256):
            return []
        entries = await self._of_version(known, collections, access)
        return [entry for entry in entries if set(entry.acl) == set(known.acl)]

    async def frame_at(self, timed: Entry, access: Access) -> Entry | None:
        """Returns the frame that is shown at the middle of speech or a sound; None for audio alone.

        Frames are numbered in order of time, so that few of them are read: those numbered 0, 1, 3, 7…, and then some
        between the last one before that time and the first one after it.
        """
        middle_ms = (timed.start_ms + timed.end_ms) // 2
        before: Entry | None = None
        low, high = -1, MAX_ENTRIES
        probes = [2**power - 1 for power in range(high.bit_length())]
        while probes:
            frames = await self._parts(timed, Collection.FRAME, probes, access)
            for number in probes:
                frame = frames.get(number)
                if frame is None or frame.start_ms > middle_ms:
                    high = number
                    break
                before, low = frame, number
            step = max(1, (high - low) // _PROBES)
            probes = list(range(low + step, high, step)) if low >= 0 else []
        return before if before is not None and middle_ms < before.end_ms else None

    async def _of_version(self, known: Entry, collections: Container[Collection], access: Access) -> list[Entry]:
        """Returns the entries of the asset and the version of an entry in order of time."""
        parts = await asyncio.gather(*(self._all_parts(known, collection, access) for collection in collections))
        return in_order_of_time([entry for entries in parts for entry in entries])

    async def _all_parts(self, known: Entry, collection: Collection, access: Access) -> list[Entry]:
        """Returns all entries of a collection of the asset and the version of an entry. Parts have no gaps."""
        entries: list[Entry] = []
        for start in range(0, MAX_ENTRIES, _PARTS_AT_ONCE):
            parts = await self._parts(known, collection, range(start, start + _PARTS_AT_ONCE), access)
            entries += parts.values()
            if len(parts) < _PARTS_AT_ONCE:
                break
        return entries

    async def _parts(
        self, known: Entry, collection: Collection, numbers: Sequence[int], access: Access
    ) -> dict[int, Entry]:
        """Returns those entries of the asset and the version of an entry that exist, by their numbers."""
        asset_id = known.asset.id
        slot = next(slot for slot in range(SLOTS) if part_id(asset_id, known.collection, known.part, slot) == known.id)
        ids = [part_id(asset_id, collection, number, slot) for number in numbers]
        entries = await self.entries(ids, access)
        return {entry.part: entry for entry in entries.values() if entry.origin == known.origin}


def _check_name(sha256: str) -> None:
    if not _SHA256.fullmatch(sha256):
        raise QueryError("media are named by 64 hexadecimal digits in lower case", status=404)


def in_order_of_time(entries: Sequence[Entry]) -> list[Entry]:
    """Returns entries by their start, those that start together by their end; those of a document by their page."""
    return sorted(entries, key=lambda entry: (entry.start_ms, entry.end_ms, entry.page, entry.collection, entry.part))


def _of_one_version(entries: Sequence[Entry]) -> list[Entry]:
    """Returns the entries of the asset and the event that reach furthest, of several the newest."""
    versions: dict[tuple[AssetRef, Position], list[Entry]] = {}
    for entry in entries:
        versions.setdefault((entry.asset, entry.origin), []).append(entry)

    def reach(version: list[Entry]) -> tuple[int, int, str]:
        newest = max(version, key=lambda entry: entry.indexed_at_ms)
        return max(entry.end_ms for entry in version), newest.indexed_at_ms, newest.asset.id

    return max(versions.values(), key=reach, default=[])
