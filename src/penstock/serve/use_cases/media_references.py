"""Knows which media a caller's entries refer to, so that a hash alone opens nothing."""

from __future__ import annotations

import asyncio
import time

from cachetools import TTLCache

from penstock.assets import asset_uri
from penstock.records import Access, Collection
from penstock.serve.use_cases.entry_lookup import EntryLookup
from penstock.serve.use_cases.media import absent_media
from penstock.store.filters import Comparison

_CACHED = 10_000
_CACHED_S = 10.0  # a player without a signed link requests a range every second


class MediaReferences:
    """Finds out whether entries that may be read refer to media. Belongs to one event loop.

    Args:
        entries: reads the entries.
    """

    def __init__(self, entries: EntryLookup) -> None:
        self._entries = entries
        self._known: TTLCache[tuple[Access, str], None] = TTLCache(_CACHED, _CACHED_S, time.monotonic)

    async def check(self, sha256: str, access: Access) -> None:
        """Returns if an entry that may be read refers to media.

        Raises:
            QueryError: 404, none does: the same as for media that are in no store.
            UnavailableError: the store does not answer.
        """
        if (access, sha256) in self._known:
            return
        where = Comparison("uri", "eq", asset_uri(sha256))
        matches = await asyncio.gather(
            *(self._entries.select(collection, where, access, limit=1) for collection in Collection)
        )
        if not any(matches):
            raise absent_media(sha256)
        self._known[access, sha256] = None
