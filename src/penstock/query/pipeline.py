"""A question, step by step: the seven steps of the query plane, one file each.

    1 understand   a request → a question that can be answered; one that is spoken → its words (`voice.py`)
    2 route        → the channels to put it to
    3 encode       → its vectors, one an encoder
    4 search       → a ranking from each channel, all at once
    5 fuse         → one ranking; what was found of a recording close together in time is one hit (`moments.py`)
    6 rerank, 7 generate: they take the `SearchResult` of step 5 further

Encoding and searching overlap: a channel starts as soon as its own query is there, so BM25 waits for no encoder and a
dead encoder costs only the channels that need it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from penstock.config import QuerySettings
from penstock.encoders.profiles import Profile
from penstock.errors import PenstockError, QueryError, TransientError, UnavailableError
from penstock.observability import metrics
from penstock.query.embed import QueryEncoder
from penstock.query.executor import BoundedExecutor
from penstock.query.fusion.moments import MomentRules
from penstock.query.fusion.rrf import fuse
from penstock.query.retrieve import Rankings, SearchParams, search_channels
from penstock.query.route import ChannelQuery, SearchPlan, route
from penstock.query.types import Hit, SearchResult
from penstock.query.understand.speech import SpeechQueryTranscriber
from penstock.query.understand.validate import Question, SearchRequest, understand, with_transcript
from penstock.records import (
    TIMED_COLLECTIONS,
    Channel,
    Collection,
    Entry,
    Float32,
    ScoredEntry,
)
from penstock.store.base import Store

_log = logging.getLogger(__name__)

# Long enough for a backlog of searches of some 20 ms each to clear.
RETRY_AFTER_S = 1.0
# An index gains a channel when a collection is made or an alias is switched; a few seconds late is soon enough, and
# asking for each query would cost a round trip.
CHANNELS_TTL_S = 5.0
# Fifty entries that are all of one film are a moment or a few. Then recordings are searched for so many times more,
DEEPER = 4
# up to so many entries of each channel: to fuse 800 of three takes 50 ms, in which the event loop does nothing else.
DEEPEST = 1_000


class QueryPipeline:
    """Answers questions. Belongs to one event loop.

    Args:
        store: what is searched; called from several threads.
        encode: makes query vectors.
        profile: of the encoders, the same that filled the index.
        settings: limits, weights and defaults.
        listener: makes text of questions that are spoken; None: the profile has no speech model.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        store: Store,
        encode: QueryEncoder,
        profile: Profile,
        settings: QuerySettings,
        *,
        listener: SpeechQueryTranscriber | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._encode = encode
        self._profile = profile
        self._settings = settings
        self._clock = clock
        self._listener = listener
        self.threads = BoundedExecutor(
            threads=settings.search_threads,
            backlog=settings.search_queue_size,
            clock=clock,
            calls="searches of the store",
            retry_after_s=RETRY_AFTER_S,
        )
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
        transcript: str | None = None
        if question.spoken is not None:
            transcript = await self._hear(question.spoken)
            question = with_transcript(question, transcript)
            watch.lap("transcribe")
        deadline_s = self._clock() + question.deadline_ms / 1000
        offered = await self._channels.get(deadline_s=deadline_s)
        chosen = route(question, offered=offered, profile=self._profile)
        vectors = self._start_encoding(chosen, question.content, on_done=lambda: watch.lap("encode"))
        try:
            found, failed = await self._find(question, chosen, vectors, deadline_s, watch)
            hits = await self._with_progress(found, deadline_s)
        finally:
            _leave(vectors.values())
        took_ms = watch.took_ms()
        for step, step_ms in took_ms.items():
            metrics.QUERY_STEP.labels(step).observe(step_ms / 1000)
        return SearchResult(
            hits=hits,
            partial=bool(failed),
            missing={**chosen.missing, **failed},
            took_ms=took_ms,
            transcript=transcript,
        )

    async def _hear(self, sound: bytes) -> str:
        """What is said, in words. It takes seconds and not milliseconds, so the deadline begins after it."""
        if self._listener is None:
            raise QueryError(
                f"profile {self._profile.name} has no speech model, so it takes no questions by voice: ask in words",
                field="/audio",
            )
        return await self._listener.transcribe(sound)

    def _start_encoding(
        self, chosen: SearchPlan, content: str | bytes, *, on_done: Callable[[], None]
    ) -> dict[str, asyncio.Task[Float32]]:
        """A task for each encoder that has to make a vector, by its name. `on_done` is called as each ends."""
        tasks: dict[str, asyncio.Task[Float32]] = {}
        for encoder in {probe.encoder for probe in chosen.queries if probe.encoder is not None}:
            tasks[encoder] = asyncio.create_task(self._vector(encoder, content))
            tasks[encoder].add_done_callback(lambda _: on_done())
        return tasks

    async def _vector(self, encoder: str, content: str | bytes) -> Float32:
        """float32[dim], L2-normalised."""
        if isinstance(content, bytes):
            return await self._encode.encode_image(content)
        return await self._encode.encode_text(encoder, content)

    async def _find(
        self,
        question: Question,
        chosen: SearchPlan,
        vectors: Mapping[str, asyncio.Task[Float32]],
        deadline_s: float,
        watch: _Stopwatch,
    ) -> tuple[list[Hit], Mapping[Channel, str]]:
        """Steps 4 and 5: hits, and the channels that failed or were late.

        Where many entries become few moments, so that hits are wanting, recordings are searched again for more of them.
        """
        queries: dict[ChannelQuery, str | asyncio.Future[Float32]] = {
            probe: vectors[probe.encoder] if probe.encoder else str(question.content) for probe in chosen.queries
        }
        depth = max(question.limit, self._settings.candidates)
        terms = SearchParams(tenant=question.tenant, where=question.where, limit=depth, deadline_s=deadline_s)
        searched = await search_channels(self._store, self.threads, queries, terms)
        watch.lap("search")
        hits = self._fuse(chosen, searched, terms, depth, question.limit)
        while len(hits) < question.limit and terms.limit * DEEPER <= DEEPEST and _has_more(searched, terms):
            terms = replace(terms, limit=terms.limit * DEEPER)
            searched = await self._search_deeper(searched, queries, terms)
            watch.lap("search")
            hits = self._fuse(chosen, searched, terms, depth, question.limit)
        watch.lap("fuse")
        return hits, searched.missing

    async def _search_deeper(
        self, searched: Rankings, queries: Mapping[ChannelQuery, str | asyncio.Future[Float32]], terms: SearchParams
    ) -> Rankings:
        """Recordings again, for more entries. What fails now keeps what it found, and is named."""
        again = {probe: query for probe, query in queries.items() if probe.channel in _recorded(searched)}
        try:
            deeper = await search_channels(self._store, self.threads, again, terms)
        except TransientError as exc:
            deeper = Rankings({}, {probe.channel: str(exc) for probe in again})
        missing = {
            channel: f"was not searched a second time, for more: {why}" for channel, why in deeper.missing.items()
        }
        return Rankings({**searched.entries, **deeper.entries}, {**searched.missing, **missing})

    def _fuse(self, chosen: SearchPlan, searched: Rankings, terms: SearchParams, depth: int, limit: int) -> list[Hit]:
        return fuse(
            searched.entries,
            spaces={probe.channel: probe.space for probe in chosen.queries},
            weights=self._settings.weights,
            k=self._settings.rrf_k,
            depths={collection: terms.limit if collection in TIMED_COLLECTIONS else depth for collection in Collection},
            moments=MomentRules(self._settings.max_moment_gap_ms, self._settings.max_moment_ms),
            limit=limit,
        )

    async def _with_progress(self, hits: list[Hit], deadline_s: float) -> list[Hit]:
        """Says of recordings whether they are being indexed still. Where the store does not tell in time, nothing."""
        recorded = {hit.entry.asset.id for hit in hits if hit.entry.collection in TIMED_COLLECTIONS}
        if not recorded:
            return hits
        try:
            known = await self.threads.call(lambda _: self._store.checkpoints(sorted(recorded)), deadline_s=deadline_s)
        except (PenstockError, TimeoutError) as exc:
            _log.warning("the store does not say which recordings are being indexed still: %s", exc)
            return hits
        under_way = {(asset_id, one.version.partition, one.version.offset) for asset_id, one in known.items()}
        return [replace(hit, indexing=_event_of(hit.entry) in under_way) for hit in hits]

    def close(self) -> None:
        """Takes no more questions. The store and the encoder are their owner's to close."""
        self.threads.close()


def _event_of(entry: Entry) -> tuple[str, int, int]:
    return entry.asset.id, entry.origin.partition, entry.origin.offset


def _recorded(searched: Rankings) -> dict[Channel, Sequence[ScoredEntry]]:
    """What was found of recordings, by the channels that answered."""
    return {channel: found for channel, found in searched.entries.items() if channel.collection in TIMED_COLLECTIONS}


def _has_more(searched: Rankings, terms: SearchParams) -> bool:
    """Whether a recording's channel returned as much as it was asked for. One that failed when asked did not."""
    return any(len(found) >= terms.limit for found in _recorded(searched).values())


class _OfferedChannels:
    """What the store can search, known for a few seconds, then asked again behind the back of the queries."""

    def __init__(self, store: Store, threads: BoundedExecutor) -> None:
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
        """In order: hear (of a question by voice), encode, search, fuse, and the total. What did not happen took 0."""
        took: dict[str, float] = {}
        before_s = self.started_s
        for step in (*(("transcribe",) if "transcribe" in self._ends_s else ()), "encode", "search", "fuse"):
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
