"""Reads the words of entries from the store: of all, slowly, or of new ones."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from penstock.query.understand.vocabulary import COUNTED_COLLECTIONS, WordCounts
from penstock.records import Access, Collection, Entry
from penstock.store.base import EntryText

READ_TIMEOUT_S = 10.0
_PAGE, _READ_IDS = 1_000, 500
# Counting 50 entries takes some milliseconds, after which three times as long is waited: a quarter of a core at most.
_CHUNK, _IDLE_FACTOR = 50, 3
# Those first whose titles count.
_COLLECTIONS = sorted(Collection, key=lambda collection: collection not in COUNTED_COLLECTIONS)


class TextStore(Protocol):
    """The reads of a store that vocabularies need; see `EntrySearch`."""

    def texts(
        self, collection: Collection, *, access: Access, after: str, limit: int, timeout_s: float
    ) -> Sequence[EntryText]:
        """Returns the words of the first allowed entries after an id."""

    def entries(self, ids: Sequence[str], *, access: Access, timeout_s: float) -> Mapping[str, Entry]:
        """Returns those of these entries that exist and are allowed, by id."""


def count_entries(
    store: TextStore, access: Access, *, max_entries: int, max_words: int, closed: threading.Event
) -> WordCounts | None:
    """Returns the counts of the allowed entries, up to a number; None if it is closed before.

    Raises:
        PenstockError: the store does not answer.
    """
    counts = WordCounts()
    for collection, chunk in _chunks(store, access, max_entries):
        started_s = time.thread_time()
        for entry in chunk:
            counts.add(collection, entry)
        if len(counts.words) > 2 * max_words:
            counts.keep_most_frequent(max_words, max_words)
        if closed.wait(_IDLE_FACTOR * (time.thread_time() - started_s)):
            return None
    return counts


def add_entries(
    counts: WordCounts, store: TextStore, access: Access, collections: Mapping[str, Collection]
) -> frozenset[str]:
    """Adds allowed entries to counts, and returns the ids of those that the store does not return yet.

    Args:
        counts: of its other entries.
        store: read in batches.
        access: the entries that count.
        collections: of the entries, by id.

    Raises:
        PenstockError: the store does not answer.
    """
    ids = list(collections)
    absent: set[str] = set()
    for start in range(0, len(ids), _READ_IDS):
        batch = ids[start : start + _READ_IDS]
        entries = store.entries(batch, access=access, timeout_s=READ_TIMEOUT_S)
        for id_, entry in entries.items():
            counts.add(collections[id_], EntryText(id_, entry.part, entry.title, entry.text))
        absent.update(id_ for id_ in batch if id_ not in entries)
    return frozenset(absent)


def _chunks(store: TextStore, access: Access, left: int) -> Iterator[tuple[Collection, Sequence[EntryText]]]:
    """Yields the allowed entries by collection and id, a few at a time, until none is left of their number."""
    for collection in _COLLECTIONS:
        after = ""
        while left > 0:
            limit = min(_PAGE, left)
            page = store.texts(collection, access=access, after=after, limit=limit, timeout_s=READ_TIMEOUT_S)
            yield from ((collection, page[start : start + _CHUNK]) for start in range(0, len(page), _CHUNK))
            left -= len(page)
            if len(page) < limit:
                break
            after = page[-1].id
