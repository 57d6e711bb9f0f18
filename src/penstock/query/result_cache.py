"""Keeps the answers to searches as long as the index of their tenant stays as it is.

An answer is found again by all of its request (`fingerprint`), the limit, the cursor, the index generation of the
tenant and the adapters of questions. So it is outdated as soon as this replica has received a change of the tenant's
index from the change feed, and in any case after a minute. What bounds the staleness of an answer is thus the time from
the acknowledgement of a write to the receipt of its change, 16 ms at the median (docs/changes.md); and the minute for
what is removed without one.

Not kept are partial answers, those of which a step was late or cut short, and those that were searched so soon after a
change that the store may not have shown it yet. While no changes are received nothing is kept and nothing is answered
from here. Equal requests that arrive while the first of them is searched share its answer.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

from penstock.observability import metrics
from penstock.query.adapters import AdapterSource, no_adapters
from penstock.query.changes import IndexChanges
from penstock.query.fingerprint import fingerprint, is_larger
from penstock.query.types import Hit, SearchRequest, SearchResult

NAME = "results"  # in the metrics of caches
TTL_S = 60.0
# A real Milvus answers a search of consistency Bounded without writes of the last 5 s, at worst (its gracefulTime).
BOUNDED_STALENESS_S = 5.0

# An entry of a hit, a member of a moment or the rest of an answer in memory and as JSON, without its texts.
_OBJECT_BYTES = 3_000
# Hashing this much takes the event loop a millisecond.
_MAX_BYTES_AT_ONCE = 2**20
# JSON with this many characters of another script takes the event loop 2 ms, and a thread cannot relieve it. Only a
# request that is refused, a long conversation or a condition of thousands of values has as many.
_MAX_CHARS = 100_000

Key: TypeAlias = tuple[bytes, int | None, str | None, bool, str]


class Searches(Protocol):
    """Answers searches, as `QueryPipeline` does."""

    async def search(self, request: SearchRequest) -> SearchResult:
        """Answers one request."""


class CachedHits(tuple[Hit, ...]):
    """The hits of an answer that is kept.

    Attributes:
        json: of the hits, kept with them by the layer that writes it; empty until then.
        links: what the links in `json` depend on besides the hits.
    """

    json: str = ""
    links: object = None


@dataclass(frozen=True, slots=True)
class CachedResult:
    """An answer, with the generation that it was searched at, the time at which it expires, and its size."""

    result: SearchResult
    generation: int
    expires_s: float
    size: int


class ResultCache:
    """Answers searches, from memory where the same answer would be found again. Belongs to one event loop.

    Args:
        searches: answers what is not cached.
        changes: of the index.
        max_bytes: that all answers together may take, estimated; 0: nothing is kept.
        visible_after_s: seconds after which a search shows an acknowledged write in any case.
        clock: seconds, monotonic.
        adapters: returns the adapters of questions that are used now.
    """

    def __init__(
        self,
        searches: Searches,
        changes: IndexChanges,
        *,
        max_bytes: int,
        visible_after_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        adapters: AdapterSource = no_adapters,
    ) -> None:
        self._adapters = adapters
        self._searches = searches
        self._changes = changes
        self._max_bytes = max_bytes
        self._visible_after_s = visible_after_s
        self._clock = clock
        self._cached: OrderedDict[Key, CachedResult] = OrderedDict()
        self._bytes = 0
        self._running: dict[tuple[Key, int, int | None], asyncio.Future[SearchResult]] = {}

    @property
    def bytes(self) -> int:
        """The estimated size of all answers that are kept."""
        return self._bytes

    async def search(self, request: SearchRequest) -> SearchResult:
        """Answers a request. Raises as the search does."""
        started_s = self._clock()
        generation = self._changes.generation(request.access.tenant) if self._max_bytes else None
        if generation is None:
            self._clear()
            return await self._searches.search(request)
        if is_larger(request, _MAX_CHARS):
            return await self._searches.search(request)
        key = await _key(request, self._adapters().digest)
        if (cached := self._look_up(key, generation)) is not None:
            metrics.CACHE_REQUESTS.labels(NAME, "hit").inc()
            return self._answered(cached.result, "cached", started_s)
        flight = (key, generation, request.deadline_ms)
        while (running := self._running.get(flight)) is not None:
            await asyncio.wait([running])
            if not running.cancelled():
                metrics.CACHE_REQUESTS.labels(NAME, "shared").inc()
                return self._answered(running.result(), "shared", started_s)
        metrics.CACHE_REQUESTS.labels(NAME, "miss").inc()
        running = self._running[flight] = asyncio.get_running_loop().create_future()
        try:
            result = await self._searches.search(request)
        except BaseException as exc:
            del self._running[flight]
            _fail(running, exc)
            raise
        del self._running[flight]
        result = self._keep(key, request.access.tenant, generation, started_s, result)
        running.set_result(result)
        return result

    def _look_up(self, key: Key, generation: int) -> CachedResult | None:
        cached = self._cached.get(key)
        if cached is None:
            return None
        if cached.generation != generation or self._clock() >= cached.expires_s:
            self._drop(key)
            return None
        self._cached.move_to_end(key)
        return cached

    def _keep(self, key: Key, tenant: str, generation: int, started_s: float, result: SearchResult) -> SearchResult:
        """Keeps an answer, if it may be kept, and returns it in the form in which it is."""
        changed_s = self._clock() - self._changes.changed_s_ago(tenant)
        swapped = key[-1] != self._adapters().digest
        if swapped or not _is_complete(result) or started_s < changed_s + self._visible_after_s:
            return result
        size = _size_of(result)
        if size > self._max_bytes:
            return result
        result = replace(result, hits=CachedHits(result.hits))
        self._drop(key)
        self._cached[key] = CachedResult(result, generation, started_s + TTL_S, size)
        self._bytes += size
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._cached)))
        metrics.CACHE_BYTES.labels(NAME).set(self._bytes)
        return result

    def _drop(self, key: Key) -> None:
        cached = self._cached.pop(key, None)
        if cached is not None:
            self._bytes -= cached.size

    def _clear(self) -> None:
        if self._cached:
            self._cached.clear()
            self._bytes = 0
            metrics.CACHE_BYTES.labels(NAME).set(0)

    def _answered(self, result: SearchResult, step: str, started_s: float) -> SearchResult:
        """Returns a result with the time of this answer in place of that of its search."""
        took_ms = round((self._clock() - started_s) * 1000, 3)
        metrics.QUERY_STEP.labels(step).observe(took_ms / 1000)
        return replace(result, took_ms={step: took_ms, "total": took_ms})


async def _key(request: SearchRequest, adapters: str) -> Key:
    """Returns what answers are found by. The deadline is no part of it: an answer that is complete fits any."""
    size = sum(len(data) for data in (request.image, request.audio) if data)
    of_request = fingerprint(request) if size <= _MAX_BYTES_AT_ONCE else await asyncio.to_thread(fingerprint, request)
    return of_request, request.limit, request.cursor, request.explain, adapters


def _is_complete(result: SearchResult) -> bool:
    reranked = result.rerank is None or result.rerank.done == result.rerank.of
    return reranked and not (result.partial or result.shed or result.shortened)


def _fail(running: asyncio.Future[SearchResult], exc: BaseException) -> None:
    """Hands an error on to the requests that wait; of a search that was cancelled, one of them starts again."""
    if isinstance(exc, Exception):
        running.set_exception(exc)
        running.exception()  # also if no request waits
    else:
        running.cancel()


def _size_of(result: SearchResult) -> int:
    """Returns an estimate of the bytes of a result in memory."""
    return _OBJECT_BYTES + sum(map(_size_of_hit, result.hits))


def _size_of_hit(hit: Hit) -> int:
    entries = [hit.entry, *(member.entry for member in hit.moment.members)] if hit.moment else [hit.entry]
    return sum(map(_size_of_hit, hit.others)) + sum(
        _OBJECT_BYTES + 4 * (len(entry.text) + len(entry.title) + len(entry.attributes_json) + len(entry.uri))
        for entry in entries
    )
