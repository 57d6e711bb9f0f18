"""Hands the changes of the index to clients that follow them, as they are announced.

    `IndexChanges` ──► `LiveFeed` ──► `LiveClient`, with a bounded queue, of each client

A client that reads too slowly loses the oldest changes of its queue, and learns how many.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cachetools import LRUCache

from penstock.errors import OverloadedError, UnavailableError
from penstock.query.changes import IndexChanges
from penstock.records import Access, IndexChange

MAX_BACKLOG = 50
_MAX_TENANTS = 1_000  # with a backlog: 50,000 changes take some 50 MB
_MAX_QUEUED = 200  # a page shows 20 rows; more is what a client missed
_RETRY_AFTER_S = 10.0


@dataclass(frozen=True, slots=True)
class LiveNews:
    """The changes since the last look of a client.

    Attributes:
        changes: in the order of their announcement.
        dropped: changes before them that the client was too slow for.
        gap: whether changes may be missing, because no broker answered or the client's last one is not known any more.
    """

    changes: Sequence[IndexChange] = ()
    dropped: int = 0
    gap: bool = False


class LiveClient:
    """The changes that one client has not read yet. Made by `LiveFeed.join`; leave it by `LiveFeed.leave`.

    `put` and `note_gap` may be called on any thread, `receive` on the event loop that made the client.
    """

    def __init__(self, access: Access, backlog: Iterable[IndexChange], *, gap: bool) -> None:
        self.access = access
        self._queue = deque(backlog, maxlen=_MAX_QUEUED)
        self._dropped = 0
        self._gap = gap
        self._lock = threading.Lock()
        self._loop = asyncio.get_running_loop()
        self._arrived = asyncio.Event()
        if self._queue or gap:
            self._arrived.set()

    def put(self, changes: Iterable[IndexChange]) -> None:
        """Queues changes, if need be in place of the oldest ones."""
        with self._lock:
            for change in changes:
                self._dropped += len(self._queue) == _MAX_QUEUED
                self._queue.append(change)
        self._wake()

    def note_gap(self) -> None:
        """Notes that changes may have been lost here."""
        with self._lock:
            self._gap = True
        self._wake()

    async def receive(self, *, timeout_s: float) -> LiveNews:
        """Returns what came since the last call, as soon as there is anything; nothing after the timeout."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._arrived.wait()
        except TimeoutError:
            return LiveNews()
        self._arrived.clear()
        with self._lock:
            news = LiveNews(tuple(self._queue), self._dropped, self._gap)
            self._queue.clear()
            self._dropped, self._gap = 0, False
        return news

    def _wake(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._arrived.set)
        except RuntimeError:  # the loop is closed, and with it the client
            return


class LiveFeed:
    """The use case behind `GET /v1/live`. Safe to call from several threads, except as stated.

    Args:
        changes: of the index.
        is_followed: whether anything follows the change feed of this plane.
        max_clients: that may follow concurrently.
    """

    def __init__(self, changes: IndexChanges, *, is_followed: bool, max_clients: int) -> None:
        self._changes = changes
        self._is_followed = is_followed
        self._max_clients = max_clients
        self._lock = threading.Lock()
        self._clients: set[LiveClient] = set()
        self._backlogs: LRUCache[str, deque[IndexChange]] = LRUCache(_MAX_TENANTS)
        changes.subscribe(self._receive)

    def is_available(self, tenant: str) -> bool:
        """Returns whether changes are received now."""
        return self._changes.generation(tenant) is not None

    def join(self, access: Access, *, backlog: int, last_id: str | None) -> LiveClient:
        """Returns a client, on the event loop that will read it. `leave` has to follow.

        Args:
            access: of which tenant and labels it follows the changes.
            backlog: earlier changes of this replica that it begins with, at most `MAX_BACKLOG`.
            last_id: `change_id` of the last change that it knows: it begins behind that one, with all later ones.

        Raises:
            UnavailableError: nothing follows the change feed.
            OverloadedError: there are too many clients.
        """
        if not self._is_followed:
            raise UnavailableError(
                "this query plane does not follow changes of the index: set kafka.bootstrap_servers and "
                "kafka.changes_topic"
            )
        with self._lock:
            if len(self._clients) >= self._max_clients:
                raise OverloadedError(
                    f"{self._max_clients} clients follow this replica, the limit (query.max_live_clients)",
                    retry_after_s=_RETRY_AFTER_S,
                )
            known = list(self._backlogs.get(access.tenant, ()))
            ids = [change_id(change) for change in known]
            if last_id is None:
                readable = _readable(known, access)
                client = LiveClient(access, readable[len(readable) - min(backlog, len(readable)) :], gap=False)
            elif last_id in ids:
                client = LiveClient(access, _readable(known[ids.index(last_id) + 1 :], access), gap=False)
            else:
                client = LiveClient(access, _readable(known, access), gap=True)
            self._clients.add(client)
        return client

    def leave(self, client: LiveClient) -> None:
        """Forgets a client. Idempotent."""
        with self._lock:
            self._clients.discard(client)

    def _receive(self, changes: Sequence[IndexChange]) -> None:
        """Listens to `IndexChanges`, which calls it with no changes after a gap."""
        with self._lock:
            clients = tuple(self._clients)
            new = [change for change in changes if self._keep(change)]
        for client in clients:
            own = _readable(new, client.access)
            if own:
                client.put(own)
            elif not changes:
                client.note_gap()

    def _keep(self, change: IndexChange) -> bool:
        """Adds a change to the backlog of its tenant; returns False if it is announced again."""
        backlog = self._backlogs.get(change.tenant)
        if backlog is None:
            backlog = self._backlogs[change.tenant] = deque(maxlen=MAX_BACKLOG)
        if change in backlog:
            return False
        backlog.append(change)
        return True


def change_id(change: IndexChange) -> str:
    """Returns a name of a change that is the same on every replica."""
    origin = change.origin
    return f"{origin.topic}/{origin.partition}/{origin.offset}/{change.indexed_at_ms}"


def _readable(changes: Iterable[IndexChange], access: Access) -> list[IndexChange]:
    """Returns the changes of assets that a caller may read."""
    return [change for change in changes if change.tenant == access.tenant and access.allows(change.acl)]
