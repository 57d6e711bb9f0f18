"""Keeps the vocabularies of what searches may read, counted and refreshed by a thread of its own.

A vocabulary has the words of the entries of one `Access`: a tenant, and the labels of the caller. It is counted from
the store when that is first seen, up to a number of entries. What the change feed
announces is added within seconds. The words of deleted and replaced entries go with the next count, after 15 minutes at
the earliest. Each has an object of its own, and no search waits for one: until it is counted, and without
entries, it is empty.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from penstock.errors import PenstockError
from penstock.observability import metrics
from penstock.query.understand.vocabulary import EMPTY, Vocabulary
from penstock.query.understand.word_reader import TextStore, add_entries, count_entries
from penstock.records import Access, Collection, IndexChange

logger = logging.getLogger(__name__)

# The index is read at a bounded consistency, and may not show a change immediately.
REFRESH_S = 5.0
RECOUNT_S = 900.0
RETRY_S = 5.0
# A refreshed vocabulary is a new one, 0.5 s of work for 100,000 words: it is made at most a twentieth of the time.
_REST_FACTOR, _MAX_REST_S = 20, 30.0
MAX_KEPT = 1_000
MAX_QUEUED = 100  # vocabularies that wait for a count; a later search queues others
MAX_PENDING = 20_000  # announced entries; if there are more, all are counted
_MAX_LOOKUPS = 4  # of an entry that the store does not return yet


@dataclass(frozen=True, slots=True)
class VocabularyLimits:
    """The bounds of what is kept.

    Attributes:
        words: of one vocabulary; the rarest are forgotten. As many titles are kept.
        all_words: of all of them; those that searched longest ago are forgotten.
        entries: read for one.
    """

    words: int = 200_000
    all_words: int = 400_000
    entries: int = 200_000


@dataclass(slots=True)
class _Pending:
    """An announced entry, and how often it was looked up."""

    collection: Collection
    lookups: int = 0


@dataclass(slots=True)
class _Kept:
    vocabulary: Vocabulary = EMPTY
    counted_s: float | None = None
    changed: bool = False
    pending: dict[str, _Pending] = field(default_factory=dict)
    refresh_at_s: float | None = None


@dataclass(frozen=True, slots=True)
class _Task:
    access: Access
    counts_all: bool


class Vocabularies:
    """The vocabularies by access. Safe to call from several threads; no call waits for the store.

    Args:
        store: read by the thread that `start` begins.
        limits: bounds of entries and words; None: the defaults.
        clock: seconds, monotonic.
        refresh_s: seconds from a change to the refreshed vocabulary, at least.
        recount_s: seconds after which a vocabulary with changes is counted again; any, where there is no feed.
    """

    def __init__(
        self,
        store: TextStore,
        limits: VocabularyLimits | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        refresh_s: float = REFRESH_S,
        recount_s: float = RECOUNT_S,
    ) -> None:
        self._store = store
        self._limits = limits or VocabularyLimits()
        self._clock = clock
        self._refresh_s = refresh_s
        self._recount_s = recount_s
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closed = threading.Event()
        self._kept: OrderedDict[Access, _Kept] = OrderedDict()
        self._queue: OrderedDict[Access, None] = OrderedDict()
        self._follows_changes = False
        self._rests_until_s = float("-inf")
        self._thread = threading.Thread(target=self._run, name="vocabularies", daemon=True)

    def start(self, accesses: Iterable[Access] = ()) -> None:
        """Starts the thread, which counts these vocabularies first."""
        for access in accesses:
            self.get(access)
        self._thread.start()

    def close(self) -> None:
        """Ends the thread after the entries that it reads. Idempotent."""
        self._closed.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def get(self, access: Access) -> Vocabulary:
        """Returns the vocabulary of the entries that may be read, as it was counted last; an empty one before that."""
        with self._lock:
            kept = self._kept.get(access)
            if kept is None:
                self._queue_count(access)
                return EMPTY
            self._kept.move_to_end(access)
            outdated = kept.changed or not self._follows_changes
            if outdated and kept.counted_s is not None and self._clock() - kept.counted_s >= self._recount_s:
                self._queue_count(access)
            return kept.vocabulary

    def changed(self, changes: Sequence[IndexChange]) -> None:
        """Notes changes of the index, as a listener of `IndexChanges`; no changes: any tenant's may have changed."""
        with self._lock:
            self._follows_changes = True
            for access in () if changes else self._kept:
                self._queue_count(access)
            changed = {change.tenant for change in changes}
            for access, kept in self._kept.items():  # the others are counted when they are first seen
                if access.tenant in changed:
                    self._note(access, kept, [change for change in changes if change.tenant == access.tenant])
        self._wake.set()

    # --- changes, with the lock held ---

    def _note(self, access: Access, kept: _Kept, changes: Iterable[IndexChange]) -> None:
        kept.changed = True
        for change in changes:
            for collection, ids in change.new_entry_ids().items():
                kept.pending.update((id_, _Pending(collection)) for id_ in ids[:MAX_PENDING])
        if len(kept.pending) > MAX_PENDING:
            kept.pending.clear()
            self._queue_count(access)
        elif kept.pending and kept.refresh_at_s is None:
            kept.refresh_at_s = self._clock() + self._refresh_s

    def _queue_count(self, access: Access) -> None:
        if len(self._queue) < MAX_QUEUED:
            self._queue[access] = None
            self._wake.set()

    def _forget_oldest(self) -> None:
        """Forgets those used longest ago until the others are within the limits; empty ones, of any name, first."""
        words = sum(len(kept.vocabulary) for kept in self._kept.values())
        while len(self._kept) > MAX_KEPT or (words > self._limits.all_words and len(self._kept) > 1):
            empty = (access for access, kept in self._kept.items() if len(self._kept) > MAX_KEPT)
            oldest = next(
                (access for access in empty if not len(self._kept[access].vocabulary)), next(iter(self._kept))
            )
            words -= len(self._kept.pop(oldest).vocabulary)

    # --- the thread ---

    def _run(self) -> None:
        while not self._closed.is_set():
            task, wait_s = self._next_task()
            if task is None:
                self._wake.wait(wait_s)
                self._wake.clear()
                continue
            try:
                (self._count if task.counts_all else self._refresh)(task.access)
            except PenstockError as exc:
                logger.warning("the words of the index are not up to date: %s", exc)
                self._fail(task)
            except Exception:
                logger.exception("counting the words of the index failed unexpectedly")
                self._fail(task)

    def _next_task(self) -> tuple[_Task | None, float | None]:
        """Returns what to do now; or None, and the seconds until there is something to do."""
        now_s = self._clock()
        with self._lock:
            if self._queue:
                access, _ = self._queue.popitem(last=False)
                return _Task(access, counts_all=True), None
            due = [(kept.refresh_at_s, access) for access, kept in self._kept.items() if kept.refresh_at_s is not None]
        if not due:
            return None, None
        due_s, access = min(due, key=lambda task: task[0])
        due_s = max(due_s, self._rests_until_s)
        return (_Task(access, counts_all=False), None) if due_s <= now_s else (None, due_s - now_s)

    def _count(self, access: Access) -> None:
        """Counts all entries that may be read. What is announced during that time is added afterwards."""
        with self._lock:
            kept = self._kept.setdefault(access, _Kept())
            kept.changed, kept.refresh_at_s = False, None
            kept.pending.clear()
        limits = self._limits
        counts = count_entries(
            self._store, access, max_entries=limits.entries, max_words=limits.words, closed=self._closed
        )
        if counts is None:
            return
        if counts.keep_most_frequent(limits.words, limits.words) or counts.entries >= limits.entries:
            logger.info(
                "the vocabulary of a tenant is at its limit: of %d entries %d words", counts.entries, limits.words
            )
        self._keep(kept, Vocabulary(counts))
        kept.counted_s = self._clock()
        metrics.UNDERSTANDING.labels("vocabulary", "counted").inc()

    def _refresh(self, access: Access) -> None:
        """Adds the announced entries to a vocabulary."""
        started_s = self._clock()
        with self._lock:
            kept = self._kept.get(access)
            if kept is None:
                return
            pending, kept.pending, kept.refresh_at_s = kept.pending, {}, None
        counts = kept.vocabulary.counts()
        try:
            absent = add_entries(counts, self._store, access, {id_: new.collection for id_, new in pending.items()})
        except PenstockError:
            self._look_up_again(kept, pending)
            raise
        counts.keep_most_frequent(self._limits.words, self._limits.words)
        self._keep(kept, Vocabulary(counts))
        self._look_up_again(kept, {id_: pending[id_] for id_ in absent})
        metrics.UNDERSTANDING.labels("vocabulary", "refreshed").inc()
        ended_s = self._clock()
        self._rests_until_s = ended_s + min(_REST_FACTOR * (ended_s - started_s), _MAX_REST_S)

    def _keep(self, kept: _Kept, vocabulary: Vocabulary) -> None:
        with self._lock:
            kept.vocabulary = vocabulary
            self._forget_oldest()

    def _look_up_again(self, kept: _Kept, pending: dict[str, _Pending]) -> None:
        again = {
            id_: _Pending(new.collection, new.lookups + 1) for id_, new in pending.items() if new.lookups < _MAX_LOOKUPS
        }
        with self._lock:
            kept.pending = again | kept.pending
            if kept.pending and kept.refresh_at_s is None:
                kept.refresh_at_s = self._clock() + self._refresh_s

    def _fail(self, task: _Task) -> None:
        """Waits before the next task. A vocabulary without a count is forgotten, and its next search queues it."""
        metrics.UNDERSTANDING.labels("vocabulary", "failed").inc()
        if task.counts_all:
            with self._lock:
                kept = self._kept.get(task.access)
                if kept is not None and kept.counted_s is None:
                    del self._kept[task.access]
                elif kept is not None:
                    kept.changed = True
        self._closed.wait(RETRY_S)
