"""A question, step by step: the seven steps of the query plane, one file each.

    1 understand   a request → a question that can be answered
    2 route        → the channels to put it to
    3 encode       → its vectors, one an encoder
    4 search       → a ranking from each channel, all at once
    5 fuse         → one ranking
    6 rerank, 7 generate: they take the `SearchResult` of step 5 further

Encoding and searching overlap: a channel starts as soon as its own query is there, so BM25 waits for no encoder and a
dead encoder costs only the channels that need it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping

from penstock import metrics
from penstock.config import QuerySettings
from penstock.encoders.profiles import Profile
from penstock.errors import PenstockError, UnavailableError
from penstock.query.encode import QueryEncoder
from penstock.query.fuse import fuse
from penstock.query.route import Probe, Route, route
from penstock.query.search import Searched, StoreThreads, Terms, search_channels
from penstock.query.understand import Question, SearchRequest, understand
from penstock.records import Channel, Float32, Hit, SearchResult
from penstock.store.base import Store

_log = logging.getLogger(__name__)

# An index gains a channel when a collection is made or an alias is switched; a few seconds late is soon enough, and
# asking for each query would cost a round trip.
CHANNELS_TTL_S = 5.0


class QueryPipeline:
    """Answers questions. Belongs to one event loop.

    Args:
        store: what is searched; called from several threads.
        encode: makes query vectors.
        profile: of the encoders, the same that filled the index.
        settings: limits, weights and defaults.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        store: Store,
        encode: QueryEncoder,
        profile: Profile,
        settings: QuerySettings,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._encode = encode
        self._profile = profile
        self._settings = settings
        self._clock = clock
        self.threads = StoreThreads(threads=settings.search_threads, backlog=settings.search_backlog, clock=clock)
        self._channels = _OfferedChannels(store, self.threads)

    async def search(self, request: SearchRequest) -> SearchResult:
        """The best entries for a request.

        Raises:
            QueryError: the request is wrong in itself.
            OverloadedError: too many searches are under way.
            UnavailableError: nothing that was asked did answer in time.
        """
        watch = _Stopwatch(self._clock)
        question = understand(request, self._settings)
        deadline_s = watch.started_s + question.deadline_ms / 1000
        offered = await self._channels.get(deadline_s=deadline_s)
        chosen = route(question, offered=offered, profile=self._profile)
        vectors = self._start_encoding(chosen, question.content, on_done=lambda: watch.lap("encode"))
        try:
            searched = await self._search(question, chosen, vectors, deadline_s)
        finally:
            _leave(vectors.values())
        watch.lap("search")
        hits = self._fuse(chosen, searched, question)
        watch.lap("fuse")
        took_ms = watch.took_ms()
        for step, step_ms in took_ms.items():
            metrics.QUERY_STEP.labels(step).observe(step_ms / 1000)
        return SearchResult(
            hits=hits,
            partial=bool(searched.missing),
            missing={**chosen.missing, **searched.missing},
            took_ms=took_ms,
        )

    def _start_encoding(
        self, chosen: Route, content: str | bytes, *, on_done: Callable[[], None]
    ) -> dict[str, asyncio.Task[Float32]]:
        """A task for each encoder that has to make a vector, by its name. `on_done` is called as each ends."""
        tasks: dict[str, asyncio.Task[Float32]] = {}
        for encoder in {probe.encoder for probe in chosen.probes if probe.encoder is not None}:
            tasks[encoder] = asyncio.create_task(self._vector(encoder, content))
            tasks[encoder].add_done_callback(lambda _: on_done())
        return tasks

    async def _vector(self, encoder: str, content: str | bytes) -> Float32:
        """float32[dim], L2-normalised."""
        if isinstance(content, bytes):
            return await self._encode.encode_image(content)
        return await self._encode.encode_text(encoder, content)

    async def _search(
        self, question: Question, chosen: Route, vectors: Mapping[str, asyncio.Task[Float32]], deadline_s: float
    ) -> Searched:
        queries: dict[Probe, str | asyncio.Future[Float32]] = {
            probe: vectors[probe.encoder] if probe.encoder else str(question.content) for probe in chosen.probes
        }
        terms = Terms(
            tenant=question.tenant,
            where=question.where,
            limit=self._depth(question),
            deadline_s=deadline_s,
        )
        return await search_channels(self._store, self.threads, queries, terms)

    def _depth(self, question: Question) -> int:
        """Entries asked of each channel."""
        return max(question.limit, self._settings.candidates)

    def _fuse(self, chosen: Route, searched: Searched, question: Question) -> list[Hit]:
        return fuse(
            searched.found,
            spaces={probe.channel: probe.space for probe in chosen.probes},
            weights=self._settings.weights,
            k=self._settings.rrf_k,
            depth=self._depth(question),
            limit=question.limit,
        )

    def close(self) -> None:
        """Takes no more questions. The store and the encoder are their owner's to close."""
        self.threads.close()


class _OfferedChannels:
    """What the store can search, known for a few seconds, then asked again behind the back of the queries."""

    def __init__(self, store: Store, threads: StoreThreads) -> None:
        self._store = store
        self._threads = threads
        self._known: frozenset[Channel] | None = None
        self._expires_s = 0.0
        self._refresh: asyncio.Task[None] | None = None

    async def get(self, *, deadline_s: float) -> frozenset[Channel]:
        """Raises UnavailableError if the store never told and does not tell now."""
        if self._known is None:
            try:
                await self._ask(deadline_s)
            except TimeoutError as exc:
                raise UnavailableError("the store did not say within the deadline what it can search") from exc
        elif self._threads.clock() >= self._expires_s and (self._refresh is None or self._refresh.done()):
            self._refresh = asyncio.create_task(self._ask_again())
        return self._known or frozenset()

    async def _ask(self, deadline_s: float) -> None:
        self._known = await self._threads.call(lambda _: self._store.channels(), deadline_s=deadline_s)
        self._expires_s = self._threads.clock() + CHANNELS_TTL_S

    async def _ask_again(self) -> None:
        try:
            await self._ask(self._threads.clock() + CHANNELS_TTL_S)
        except (PenstockError, TimeoutError) as exc:
            _log.warning("the store does not say which channels it has (%s); going on with those known", exc)


class _Stopwatch:
    """Milliseconds by step: a lap lasts from the end of the one before; taken again, it is extended."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.started_s = clock()
        self._ends_s: dict[str, float] = {}

    def lap(self, step: str) -> None:
        self._ends_s[step] = self._clock()

    def took_ms(self) -> dict[str, float]:
        """In order: encode, search, fuse, and the total. A step that did not happen took nothing."""
        took: dict[str, float] = {}
        before_s = self.started_s
        for step in ("encode", "search", "fuse"):
            end_s = max(before_s, self._ends_s.get(step, before_s))
            took[step] = round((end_s - before_s) * 1000, 3)
            before_s = end_s
        took["total"] = round((before_s - self.started_s) * 1000, 3)
        return took


def _leave(tasks: Iterable[asyncio.Task[Float32]]) -> None:
    """Drops vectors that nobody waits for any more, and marks the failures of the others as seen."""
    for task in tasks:
        if not task.done():
            task.cancel()
        elif not task.cancelled():
            task.exception()
