"""Answers a search in steps, one file each.

    1 understand   a request → a checked query; a spoken one is transcribed, its words are corrected (`understand/`)
    2 load         → the vectors and the images of the entries that it names (`parts/`)
    3 route        → the channels to search, each for the parts of the query that are in its space
    4 embed        → a vector for each of them
    5 retrieve     → a ranking from each channel, concurrently
    6 fuse         → one ranking of all entries, those close together in time as one moment (`fusion/`)
    7 rerank       → the best hits in the order of a model that reads them, if it is on (`rerank`)
    8 diversify    → hits that resemble those before them further back, if the request says so (`diversify`)
    9 judge        → the relevance of each hit, and whether anything was found (`relevance`)
   10 page         → the hits that follow those of the pages before (`pages`)
   11 explain      → what scores and relevance consist of, if the request says so (`explain`)

Steps 5 to 11 are in `find`. Embedding and retrieval overlap: a channel starts as soon as its own query vector is
computed, so BM25 waits for no encoder, and a failed encoder costs only the channels that need it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager

from penstock.config import FirstPlaceRule, FusionMethod, QuerySettings
from penstock.encoders.profiles import Profile
from penstock.errors import QueryError
from penstock.query.adapters import AdapterSource, no_adapters
from penstock.query.addresses import Shows, show_all, with_shown_addresses
from penstock.query.channels import OfferedChannels
from penstock.query.clicks.guards import ClickRules
from penstock.query.clicks.recall import ClickMemory
from penstock.query.conditions import is_filtered
from penstock.query.diversify import Diversifier
from penstock.query.embed import QueryEncoder, start_embedding
from penstock.query.executor import BoundedExecutor
from penstock.query.find import HitFinder
from penstock.query.fusion.choose import FusionChooser
from penstock.query.fusion.statistics import ChannelStatistics
from penstock.query.index_shares import IndexShares
from penstock.query.links import link_found_events
from penstock.query.overload import ReplicaLoad, without_light_channels
from penstock.query.pages import Pages, adapted_digest, plane_digest
from penstock.query.parts.compose import LoadedParts, weights_of
from penstock.query.parts.images import EntryImageReader
from penstock.query.parts.load import NOTHING, PartLoader
from penstock.query.parts.reasons import add_reasons
from penstock.query.relevance import check_min_relevance, check_relevance_known
from penstock.query.rerank import PassageReader, Reranker, with_available_model
from penstock.query.retrieve import Retrieval, SearchParams, mark_indexing
from penstock.query.route import for_ranking, route
from penstock.query.routing.router import Router, without_excluded
from penstock.query.trace import Trace
from penstock.query.types import Hit, Kind, Query, SearchPlan, SearchRequest, SearchResult
from penstock.query.understand.language import detect_language, notice_of
from penstock.query.understand.speech import SpeechQueryTranscriber
from penstock.query.understand.understanding import Understanding, WordTools
from penstock.query.understand.validate import validate, with_transcript
from penstock.records import Channel, ClickedEntry, Collection, Field
from penstock.store.base import EntrySearch
from penstock.store.clicks import ClickTable

# Long enough for a backlog of searches of some 20 ms each to clear.
RETRY_AFTER_S = 1.0


class QueryPipeline:
    """Answers searches. Belongs to one event loop.

    Over the limit because every step is an attribute.

    Args:
        store: searched from several threads.
        encoder: makes query vectors.
        profile: of the encoders, the same that filled the index.
        settings: limits, weights and defaults.
        transcriber: transcribes spoken queries; None: the profile has no speech model.
        fusions: makes the fusion of each query; None: one without calibration that has seen no question.
        reader: its model can rerank the best hits; None: there is no such model.
        images: reads the images of indexed entries; None: regions of them cannot be searched for.
        router: weighs channels by the question; None: one without examples.
        words: what its words are corrected and widened by; None: nothing.
        clicks: the click memory, and the rules by which it counts; None: choices do not count.
        shows: whether readers get an address of a tenant's media; that of a hit is empty otherwise.
        index_version: that the store searches.
        adapters: returns the adapters of questions that are used now.
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
        images: EntryImageReader | None = None,
        router: Router | None = None,
        words: WordTools | None = None,
        clicks: tuple[ClickTable, ClickRules] | None = None,
        shows: Shows = show_all,
        index_version: int = 1,
        adapters: AdapterSource = no_adapters,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._encoder = encoder
        self._profile = profile
        self._settings = settings
        self._transcriber = transcriber
        self._fusions = fusions or FusionChooser(ChannelStatistics())
        self._reranker = None if reader is None else Reranker(reader, clock)
        self._clock = clock
        self._shows = shows
        self._adapters = adapters
        self.executor = BoundedExecutor(
            threads=settings.search_threads,
            queue_size=settings.search_queue_size,
            clock=clock,
            calls="searches of the store",
            retry_after_s=RETRY_AFTER_S,
        )
        self._understanding = Understanding(words or WordTools(), settings, clock)
        max_lag_s = settings.max_lag_ms / 1000
        self._replica_load = ReplicaLoad(lambda: self.executor.taken, max_lag_s=max_lag_s, clock=clock)
        diversifier = Diversifier(store, self.executor)
        self._finder = HitFinder(
            settings, self._fusions, self._reranker, diversifier, router or Router.of_settings(settings)
        )
        self._index_version = index_version
        digest = plane_digest(profile, self._fusions.calibration)
        self._pages = Pages(lambda: adapted_digest(digest, adapters().digest), settings.max_paged_hits, index_version)
        self._channels = OfferedChannels(store, self.executor)
        self._shares = IndexShares(store, self.executor)
        self._parts = PartLoader(store, self.executor, profile, images)
        self._memory = None if clicks is None else self._click_memory(*clicks)

    async def search(self, request: SearchRequest) -> SearchResult:
        """Answers one request. Channels that fail or are late are reported in `missing`, never raised.

        Over the limit because it lists the steps.

        Raises:
            QueryError: the request is invalid.
            OverloadedError: too many searches are running.
            UnavailableError: no channel answered in time.
        """
        trace = Trace(self._clock)
        shedding = await self._replica_load.measure()
        query = await self._understand(request, trace)  # 1
        start = await self._pages.open(request)
        check_min_relevance(query, self._fusions.calibration)
        query = with_available_model(query, self._reranker, trace)
        deadline_s = self._clock() + query.deadline_ms / 1000
        trace.set_deadline(deadline_s)
        query = await self._understanding.understand(query, trace, shedding)
        offered = await self._channels.get(deadline_s=deadline_s)
        shares = self._shares_for(query, frozenset(channel.collection for channel in offered))
        loaded = await self._load(query, offered, trace, deadline_s)  # 2
        routing = self._finder.router.route(query)
        plan = without_excluded(route(query, offered=offered, profile=self._profile, loaded=loaded), routing)  # 3
        plan = without_light_channels(plan, routing, shedding, trace)
        check_relevance_known(query, self._fusions.calibration, [planned.channel for planned in plan.queries])
        language = self._detect_language(query, plan, trace)
        add_reasons(trace, query, plan, loaded)
        weights, query = weights_of(query), for_ranking(query, plan)
        check_min_relevance(query, self._fusions.calibration)
        trace.add_unavailable(plan.missing)
        trace.end("route")
        trace.begin("encode")
        with start_embedding(  # 4
            self._encoder, plan.queries, on_done=lambda: trace.end("encode"), adapters=self._adapters()
        ) as vectors:
            # The same depth for every limit, see `query.stages`.
            params = SearchParams(query.access, self._settings.candidates, deadline_s, query.parts.excluded)
            retrieval = Retrieval(self._store, self.executor, plan.queries, vectors, params)
            with self._recalling(query, plan, trace, deadline_s) as recall:
                found_page = await self._finder.find(  # 5 to 11
                    retrieval, query, start, shares, trace, routing=routing, shedding=shedding, recall=recall
                )
            hits = await mark_indexing(found_page.judged.hits, self._store, self.executor, trace, deadline_s=deadline_s)
            hits = with_shown_addresses(hits, self._shows)
            trace.end("mark")
        return SearchResult(
            hits,
            trace.partial,
            trace.missing,
            trace.publish(),
            query.transcript,
            language=language,
            notices=tuple(trace.notices),
            nothing_found=found_page.judged.nothing_found,
            why=found_page.judged.why,
            because=tuple(trace.because),
            rerank=found_page.reranked,
            route=found_page.routing.shown(retrieval.rankings.by_channel),
            proposed_filter=routing.proposed_filter,
            shed=tuple(trace.shed),
            shortened=trace.shortened,
            next_cursor=found_page.page.next_cursor,
            changed=found_page.page.changed,
            weights=weights,
            image_source=loaded.image_source,
            understood=query.understood,
            index_version=self._index_version,
        )

    def _click_memory(self, clicks: ClickTable, rules: ClickRules) -> ClickMemory:
        return ClickMemory(
            clicks,
            self._store,
            self.executor,
            self._encoder,
            profile=self._profile,
            rules=rules,
            wall_ms=lambda: time.time_ns() // 1_000_000,
        )

    @contextmanager
    def _recalling(
        self, query: Query, plan: SearchPlan, trace: Trace, deadline_s: float
    ) -> Iterator[asyncio.Task[tuple[ClickedEntry, ...]] | None]:
        """Recalls what people chose while the channels are searched; None where it does not count."""
        calibration = self._fusions.calibration
        known = None if calibration is None else calibration.clicked
        if self._memory is None or known is None or query.text is None or not self._fusions.counts_clicks(query.fuse):
            yield None
            return
        collections = frozenset(planned.channel.collection for planned in plan.queries)
        recalling = self._memory.recall(query, collections, known.score_map, trace, deadline_s=deadline_s)
        recall = asyncio.create_task(recalling)
        try:
            yield recall
        finally:
            recall.cancel()

    def _detect_language(self, query: Query, plan: SearchPlan, trace: Trace) -> str | None:
        """Returns the language of the question, ISO 639-1, and adds a notice if the models do not know it."""
        detected = None if query.text is None else detect_language(query.text)
        lexical = any(planned.channel.field is Field.LEXICAL for planned in plan.queries)
        trace.add_notice(notice_of(detected, self._profile.languages, lexical=lexical))
        return None if detected is None else detected.code

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

    async def _load(self, query: Query, offered: Set[Channel], trace: Trace, deadline_s: float) -> LoadedParts:
        if not query.parts.entry_ids:
            return NOTHING
        with trace.step("load"):
            return await self._parts.load(query, offered, deadline_s=deadline_s)

    def _shares_for(self, query: Query, collections: Set[Collection]) -> Mapping[Kind, float] | None:
        """Returns the share of each kind in the index; None where it does not decide on first places.

        A condition chooses a part of the index, whose shares are not known.
        """
        by_index = query.fuse.method is FusionMethod.CALIBRATED and query.fuse.first_places is FirstPlaceRule.INDEX
        known = by_index and not is_filtered(query) and self._fusions.calibration is not None
        return self._shares.get(query.access, collections) if known else None

    async def link_found_events(self, hits: Sequence[Hit]) -> None:
        """Links the trace of a search to those of the events that it found; see `query.links`."""
        await link_found_events(hits, self._store, self.executor)

    def close(self) -> None:
        """Takes no more searches. The store and the encoder are closed by their owner."""
        self.executor.close()
        self._understanding.close()
