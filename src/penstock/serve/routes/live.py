"""`GET /v1/live`: the changes of a tenant's index as server-sent events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, suppress
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from penstock.auth import Permission
from penstock.errors import PenstockError
from penstock.records import Access, Entry
from penstock.serve import problems
from penstock.serve.authentication import permitted
from penstock.serve.dependencies import EntryLookupDependency, LiveDependency, RequestAccess
from penstock.serve.event_stream import gone
from penstock.serve.schemas.live import FeedOut, MissedOut, first_new_entry, indexed_out
from penstock.serve.stream_access import StreamAccess
from penstock.serve.use_cases.entry_lookup import EntryLookup
from penstock.serve.use_cases.live import MAX_BACKLOG, LiveClient, LiveFeed, LiveNews, change_id

HEARTBEAT_S = 10.0  # proxies close connections that are silent for 30 to 60 s
# Clients reconnect after it, to any replica, which spreads them over replicas that were added later.
_MAX_STREAM_S = 600.0
_RECONNECT_MS = 1_000
# Ray Serve takes every event as it comes, and keeps what its client has not read: some 3,000 changes, after which the
# client has to connect again. So 100 clients that read nothing hold 200 MiB.
_MAX_STREAM_BYTES = 2 * 1024 * 1024
_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no", "X-Content-Type-Options": "nosniff"}
_EVENTS: problems.OpenApiResponse = {
    "description": "Events `indexed`, `missed` and `feed`; a comment every 10 s, if nothing else was sent",
    "content": {"text/event-stream": {"schema": {"type": "string"}}},
}

router = APIRouter(tags=["live"], route_class=permitted(Permission.SEARCH))


@router.get("/v1/live", response_class=Response, responses={**problems.RESPONSES, 200: _EVENTS})
async def live(
    request: Request,
    feed: LiveDependency,
    entries: EntryLookupDependency,
    access: RequestAccess,
    *,
    backlog: Annotated[int, Query(ge=0, le=MAX_BACKLOG, description="earlier changes to begin with")] = 20,
    last_event_id: Annotated[str | None, Header(description="`id` of the last event: continue behind it")] = None,
) -> Response:
    """Sends each change of the tenant's index once it is stored, until the client closes the connection."""
    client = feed.join(access, backlog=backlog, last_id=last_event_id)
    return _LiveResponse(feed, client, entries, StreamAccess(request.scope, Permission.SEARCH, access))


class _LiveResponse(StreamingResponse):
    """Sends the events of a client, which leaves the feed however the connection ends."""

    def __init__(self, feed: LiveFeed, client: LiveClient, entries: EntryLookup, allowed: StreamAccess) -> None:
        super().__init__(self._bounded(feed, entries, allowed), media_type="text/event-stream", headers=_HEADERS)
        self._feed = feed
        self._client = client
        self._is_full = False

    async def _bounded(self, feed: LiveFeed, entries: EntryLookup, allowed: StreamAccess) -> AsyncIterator[bytes]:
        """Yields the events up to the limit of bytes."""
        size = 0
        async with aclosing(_events(feed, self._client, entries, allowed)) as events:
            async for event in events:
                encoded = event.encode()
                yield encoded
                size += len(encoded)
                if size >= _MAX_STREAM_BYTES:
                    self._is_full = True
                    return

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
            if self._is_full:  # it keeps its place until it has read all
                with suppress(TimeoutError):
                    await asyncio.wait_for(gone(receive), _MAX_STREAM_S)
        finally:
            self._feed.leave(self._client)


async def _events(
    feed: LiveFeed, client: LiveClient, entries: EntryLookup, allowed: StreamAccess
) -> AsyncGenerator[str, None]:
    """Yields the events of a client while it may read them, in the format of server-sent events (WHATWG HTML)."""
    available: bool | None = None
    end_s = time.monotonic() + _MAX_STREAM_S
    quiet_since_s = time.monotonic()
    yield f"retry: {_RECONNECT_MS}\n\n"
    while time.monotonic() < end_s:
        if available != (available := feed.is_available(client.access.tenant)):
            yield _event("feed", FeedOut(available=available))
        wait_s = quiet_since_s + HEARTBEAT_S - time.monotonic()
        news = await client.receive(timeout_s=max(0.0, min(wait_s, allowed.due_s)))
        if not await allowed.holds():  # before the news are sent
            return
        events = await _news(news, client.access, entries)
        if events or time.monotonic() - quiet_since_s >= HEARTBEAT_S:
            quiet_since_s = time.monotonic()
            yield events or ": no changes\n\n"


async def _news(news: LiveNews, access: Access, entries: EntryLookup) -> str:
    sent = _event("missed", MissedOut(changes=None)) if news.gap else ""
    if news.dropped:
        sent += _event("missed", MissedOut(changes=news.dropped))
    known = await _first_entries(news, access, entries)
    for change in news.changes:
        entry = known.get(first_new_entry(change) or "")
        sent += _event("indexed", indexed_out(change, entry), change_id(change))
    return sent


async def _first_entries(news: LiveNews, access: Access, entries: EntryLookup) -> Mapping[str, Entry]:
    """Returns the first new entry of each change, as far as the store has them; the changes are news without them."""
    ids = [entry_id for change in news.changes if (entry_id := first_new_entry(change)) is not None]
    if not ids:
        return {}
    try:
        return await entries.entries(ids, access)
    except PenstockError:
        return {}


def _event(name: str, data: BaseModel, event_id: str | None = None) -> str:
    named = "" if event_id is None else f"id: {event_id}\n"
    return f"{named}event: {name}\ndata: {data.model_dump_json()}\n\n"
