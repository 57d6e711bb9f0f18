"""Answers a search in steps, one file each.

    1 understand   a request → a checked query; a spoken one is transcribed (`understand/`)
    2 route        → the channels to search
    3 embed        → a vector for each encoder
    4 retrieve     → a ranking from each channel, concurrently
    5 fuse         → one ranking of all entries, those close together in time as one moment (`fusion/`)
    6 rerank       → the best hits in the order of a model that reads them, if it is on (`rerank`)
    7 judge        → the relevance of each hit, and whether anything was found (`relevance`)

Embedding and retrieval overlap: a channel starts as soon as its own query vector is computed, so BM25 waits for no
encoder, and a failed encoder costs only the channels that need it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from penstock.config import QuerySettings
from penstock.encoders.profiles import Profile
from penstock.errors import QueryError
from penstock.query.channels import OfferedChannels
from penstock.query.embed import QueryEncoder, start_embedding
from penstock.query.executor import BoundedExecutor
from penstock.query.fusion.base import MomentRules
from penstock.query.fusion.choose import FusionChooser
from penstock.query.fusion.moments import compose_hit
from penstock.query.fusion.statistics import ChannelStatistics
from penstock.query.relevance import JudgedHits, check_min_relevance, check_relevance_known, judge
from penstock.query.rerank import PassageReader, rerank
from penstock.query.retrieve import Retrieval, SearchParams, mark_indexing
from penstock.query.route import route
from penstock.query.trace import Trace
from penstock.query.types import Hit, Query, Rankings, SearchRequest, SearchResult
from penstock.query.understand.language import detect_language, notice_of
from penstock.query.understand.speech import SpeechQueryTranscriber
from penstock.query.understand.validate import validate, with_transcript
from penstock.records import Field
from penstock.store.base import EntrySearch

# Long enough for a backlog of searches of some 20 ms each to clear.
RETRY_AFTER_S = 1.0


class QueryPipeline:
    """Answers searches. Belongs to one event loop.

    Args:
        store: searched from several threads.
        encoder: makes query vectors.
        profile: of the encoders, the same that filled the index.
        settings: limits, weights and defaults.
        transcriber: transcribes spoken queries; None: the profile has no speech model.
        fusions: makes the fusion of each query; None: one without calibration that has seen no question.
        reader: reranks the best hits; None: they keep the order of the fusion.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        store: EntrySearch,
        encoder: QueryEncoder,
        profile: Profile,
        settings: QuerySettings,
        *,
        transcriber: SpeechQueryTranscriber | None = None,
        fusions: FusionChooser | None = None,
        reader: PassageReader | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._encoder = encoder
        self._profile = profile
        self._settings = settings
        self._transcriber = transcriber
        self._fusions = fusions or FusionChooser(ChannelStatistics())
        self._reader = reader
        self._moments = MomentRules(settings.max_moment_gap_ms, settings.max_moment_ms)
        self._clock = clock
        self.executor = BoundedExecutor(
            threads=settings.search_threads,
            queue_size=settings.search_queue_size,
            clock=clock,
            calls="searches of the store",
            retry_after_s=RETRY_AFTER_S,
        )
        self._channels = OfferedChannels(store, self.executor)

    async def search(self, request: SearchRequest) -> SearchResult:
        """Answers one request. Channels that fail or are late are reported in `missing`, never raised.

        Raises:
            QueryError: the request is invalid.
            OverloadedError: too many searches are running.
            UnavailableError: no channel answered in time.
        """
        trace = Trace(self._clock)
        query = await self._understand(request, trace)  # 1
        check_min_relevance(query, self._fusions.calibration)
        deadline_s = self._clock() + query.deadline_ms / 1000
        offered = await self._channels.get(deadline_s=deadline_s)
        plan = route(query, offered=offered, profile=self._profile)  # 2
        check_relevance_known(query, self._fusions.calibration, [planned.channel for planned in plan.queries])
        detected = None if query.text is None else detect_language(query.text)
        lexical = any(planned.channel.field is Field.LEXICAL for planned in plan.queries)
        notice = notice_of(detected, self._profile.languages, lexical=lexical)
        trace.add_unavailable(plan.missing)
        trace.begin("encode")
        with start_embedding(self._encoder, plan.queries, on_done=lambda: trace.end("encode")) as vectors:  # 3
            params = SearchParams(query.tenant, query.where, self._depth(query), deadline_s)
            retrieval = Retrieval(self._store, self.executor, plan.queries, vectors, params)
            judged = await self._find(retrieval, query, trace, deadline_s)
            hits = await mark_indexing(judged.hits, self._store, self.executor, deadline_s=deadline_s)
        return SearchResult(
            hits,
            trace.partial,
            trace.missing,
            trace.publish(),
            query.transcript,
            language=None if detected is None else detected.code,
            notices=() if notice is None else (notice,),
            nothing_found=judged.nothing_found,
            why=judged.why,
        )

    async def _understand(self, request: SearchRequest, trace: Trace) -> Query:
        """Checks the request, and transcribes it if it is spoken. That takes seconds: the deadline begins after it."""
        query = validate(request, self._settings)
        if query.audio is None:
            return query
        if self._transcriber is None:
            raise QueryError(
                f"profile {self._profile.name} has no speech model and takes no spoken queries; send text",
                field="/audio",
            )
        query = with_transcript(query, await self._transcriber.transcribe(query.audio))
        trace.end("transcribe")
        return query

    async def _find(self, retrieval: Retrieval, query: Query, trace: Trace, deadline_s: float) -> JudgedHits:
        """Returns the best hits, with their relevance.

        Where many entries become few moments, timed media are searched again for more entries until the limit is met.
        """
        rankings = await retrieval.search()  # 4
        trace.end("search")
        if query.where is None:  # a condition, as every canary has one, returns scores of a part of the index
            self._fusions.statistics.observe(rankings, self._settings.candidates)
        hits = self._rank(rankings, query)
        while len(hits) < query.limit and retrieval.has_more():
            rankings = await retrieval.search_deeper()
            trace.end("search")
            hits = self._rank(rankings, query)
        trace.end("fuse")
        if self._reader is not None and query.text is not None:  # 6
            remaining_s = deadline_s - self._clock()
            top = self._settings.rerank_top
            hits = await rerank(hits, query.text, self._reader, top=top, timeout_s=remaining_s)
            trace.end("rerank")
        floor = self._settings.relevance_floor
        judged = judge(hits, rankings, query, self._fusions.calibration, floor=floor)  # 7
        trace.end("judge")
        trace.add_failed(rankings.missing)
        return judged

    def _rank(self, rankings: Rankings, query: Query) -> list[Hit]:
        fusion = self._fusions.choose(query.fuse, rankings)  # 5
        ranked = fusion.rank(rankings, self._moments, query.limit)
        return [compose_hit(candidate, score, rankings) for score, candidate in ranked]

    def _depth(self, query: Query) -> int:
        return max(query.limit, self._settings.candidates)

    def close(self) -> None:
        """Takes no more searches. The store and the encoder are closed by their owner."""
        self.executor.close()
