"""Follows the change feed in the query plane: a generation of the index for each tenant, and listeners of changes.

    ingest ──► penstock.changes ──► `ChangeFollower`, a thread of each replica ──► `IndexChanges` ──► listeners

Whatever was computed from the index at one generation of its tenant is outdated at another one. While no broker
answers there is no generation, and nothing may be kept. `IndexChanges` works without a follower, too, if another
caller knows of changes and calls `receive`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from penstock.broker.change_messages import parse_change_message
from penstock.broker.tail import TopicTail
from penstock.errors import PenstockError
from penstock.records import IndexChange

logger = logging.getLogger(__name__)

Listener: TypeAlias = Callable[[Sequence[IndexChange]], None]

_POLL_S = 0.5  # how long `close` waits for the thread; records are returned as they arrive


class IndexChanges:
    """Counts the changes of the index by tenant, and hands them to listeners. Safe to call from several threads.

    Args:
        available: whether changes are received from the start; else from the first call of `set_available` on.
        clock: monotonic seconds.
    """

    def __init__(self, *, available: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.Lock()
        self._available = available
        self._clock = clock
        self._gaps = 0
        self._by_tenant: Counter[str] = Counter()
        self._changed_s: dict[str, float] = {}
        self._gap_s = float("-inf")
        self._listeners: list[Listener] = []

    def generation(self, tenant: str) -> int | None:
        """Returns a number that grows with every change of a tenant's index; None while changes are not received."""
        with self._lock:
            return self._gaps + self._by_tenant[tenant] if self._available else None

    def changed_s_ago(self, tenant: str) -> float:
        """Returns the seconds since the tenant's generation grew last; infinite if it never did."""
        with self._lock:
            return self._clock() - max(self._gap_s, self._changed_s.get(tenant, float("-inf")))

    def subscribe(self, listener: Listener) -> None:
        """Adds a listener. It is called with the changes of one message, in order, on the thread that receives them.

        It has to be quick, and must not raise. After a gap (no broker answered) it is called with no changes at all:
        any tenant's index may have changed.
        """
        with self._lock:
            self._listeners.append(listener)

    def receive(self, changes: Sequence[IndexChange]) -> None:
        """Counts changes, and then calls the listeners."""
        with self._lock:
            for tenant in {change.tenant for change in changes}:
                self._by_tenant[tenant] += 1
                self._changed_s[tenant] = self._clock()
        self._notify(changes)

    def set_available(self, available: bool) -> None:
        """Notes whether changes are received now. What changed before they are is unknown: all generations grow."""
        with self._lock:
            appears = available and not self._available
            self._available = available
            if appears:
                self._gaps += 1
                self._gap_s = self._clock()
        if appears:
            self._notify(())

    def _notify(self, changes: Sequence[IndexChange]) -> None:
        with self._lock:
            listeners = tuple(self._listeners)
        for listener in listeners:
            try:
                listener(changes)
            except Exception:
                logger.exception("a listener of the change feed failed")


class ChangeFollower:
    """Follows the change feed on a thread of its own, until it is closed.

    While the feed cannot be followed, says so once in the log and tries again; the plane works without it.

    Args:
        changes: receives the changes.
        tail: of the topic of the feed, which the follower closes.
        index_version: changes of other versions of the index are left out; None: none are.
        retry_s: between two attempts to follow it, while no broker answers.
    """

    def __init__(
        self, changes: IndexChanges, tail: TopicTail, *, index_version: int | None = None, retry_s: float = 1.0
    ) -> None:
        self._changes = changes
        self._tail = tail
        self._index_version = index_version
        self._retry_s = retry_s
        self._closed = threading.Event()
        self._error = ""
        self._thread = threading.Thread(target=self._run, name="index-changes", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def close(self) -> None:
        """Ends the thread and the connection, within seconds. Idempotent."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join()
        self._tail.close()

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                self._follow()
            except Exception as exc:
                # Records of this poll may be lost: the generations grow once the feed is followed again.
                if not (isinstance(exc, PenstockError) or self._error):
                    logger.exception("following the changes of the index failed unexpectedly")
                self._report(str(exc) or type(exc).__name__)
                self._closed.wait(self._retry_s)

    def _follow(self) -> None:
        """Receives the changes of one poll."""
        records = self._tail.poll(_POLL_S).records
        self._report("")
        for record in records:
            if changes := changes_of(self._index_version, parse_change_message(record)):
                self._changes.receive(changes)

    def _report(self, error: str) -> None:
        """Logs once that the feed does not answer, and once that it does again."""
        if error and not self._error:
            logger.warning("no changes of the index are received, and no results are cached: %s", error)
        elif self._error and not error:
            logger.info("changes of the index are received again")
        self._error = error
        self._changes.set_available(not error)


def changes_of(index_version: int | None, changes: Iterable[IndexChange]) -> Sequence[IndexChange]:
    """Returns the changes of a version of the index, and those whose version is not known; None: all."""
    return [change for change in changes if index_version is None or change.index_version in (0, index_version)]
