"""Prepares a watch: its query vectors, and what the whole index answers to it, which its relevance depends on.

The relevance of an entry depends on the question as a whole (`query.relevance`): how far its best entries are above the
others, how many rivals there are. So a watch is searched in the whole index from time to time, by the steps of the
pipeline, and new entries are judged as further entries of that search.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from penstock.analysis import query_terms
from penstock.config import QuerySettings
from penstock.encoders.profiles import Profile
from penstock.errors import PenstockError
from penstock.query.adapters import AdapterSource, no_adapters
from penstock.query.channels import OfferedChannels
from penstock.query.conditions import is_filtered
from penstock.query.embed import QueryEncoder, start_embedding
from penstock.query.executor import BoundedExecutor
from penstock.query.fusion.choose import FusionChooser
from penstock.query.relevance import check_min_relevance, check_relevance_known, relevance_of_entries
from penstock.query.retrieve import Retrieval, SearchParams
from penstock.query.route import for_ranking, route
from penstock.query.types import Query, Rankings, SearchRequest
from penstock.query.understand.validate import validate
from penstock.records import Channel, Field, Float32, Watch
from penstock.store.base import EntrySearch

logger = logging.getLogger(__name__)

# A search of the whole index takes some 15 ms of CPU time: for 1,000 watches 5 % of a core.
FRESH_S = 300.0
# Where the index holds fewer entries than are judged, it may soon be another one.
FRESH_WHILE_SMALL_S = 10.0
_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class WatchContext:
    """A watch that is ready to be compared with entries.

    Attributes:
        watch: the watch.
        query: its checked query.
        vectors: of the query, by dense channel, float32[dim], L2-normalised.
        lexical: the channels that compare its words.
        rankings: of the whole index.
        cutoffs: the least score of each dense channel at which an entry is worth judging.
        terms: of its text.
        expires_s: when it is to be prepared again.
        missing: the channels that did not answer, with the reason; their entries are not in the rankings.
    """

    watch: Watch
    query: Query
    vectors: Mapping[Channel, Float32]
    lexical: tuple[Channel, ...]
    rankings: Rankings
    cutoffs: Mapping[Channel, float]
    terms: frozenset[str]
    expires_s: float
    missing: Mapping[Channel, str] = field(default_factory=dict)


class WatchPreparer:
    """Prepares watches. Belongs to one event loop, that of the pipeline whose parts it shares.

    Args:
        store, encoder, profile, settings, fusions, executor, adapters: of the pipeline.
    """

    def __init__(
        self,
        store: EntrySearch,
        encoder: QueryEncoder,
        profile: Profile,
        settings: QuerySettings,
        *,
        fusions: FusionChooser,
        executor: BoundedExecutor,
        adapters: AdapterSource = no_adapters,
    ) -> None:
        self._adapters = adapters
        self._store = store
        self._encoder = encoder
        self._profile = profile
        self._settings = settings
        self._fusions = fusions
        self._executor = executor
        self._channels = OfferedChannels(store, executor)

    async def prepare(self, watch: Watch, request: SearchRequest) -> WatchContext:
        """Searches for a watch as the pipeline does, up to the rankings.

        Raises:
            QueryError: the search is invalid, or its relevance is not known.
            TransientError: too many searches run, or no channel answers.
        """
        calibration = self._fusions.calibration
        query = validate(request, self._settings)
        check_min_relevance(query, calibration)
        deadline_s = self._executor.clock() + _TIMEOUT_S
        offered = await self._channels.get(deadline_s=deadline_s)
        plan = route(query, offered=offered, profile=self._profile)
        query = for_ranking(query, plan)
        check_min_relevance(query, calibration)
        check_relevance_known(query, calibration, [planned.channel for planned in plan.queries])
        params = SearchParams(query.access, self._settings.candidates, deadline_s)
        adapters = self._adapters()
        with start_embedding(self._encoder, plan.queries, on_done=lambda: None, adapters=adapters) as embeddings:
            rankings = await Retrieval(self._store, self._executor, plan.queries, embeddings, params).search()
            vectors = {
                planned.channel: await asyncio.shield(embeddings[planned.search_for])
                for planned in plan.queries
                if not isinstance(planned.search_for, str) and planned.channel in rankings.by_channel
            }
        relevances = relevance_of_entries(rankings, query.text, calibration)
        size = max((len(ranking) for ranking in rankings.by_channel.values()), default=0)
        small = size < self._settings.candidates
        soon_another = small and (not is_filtered(query) or await self._is_small(query, deadline_s))
        return WatchContext(
            watch=watch,
            query=query,
            vectors=vectors,
            lexical=tuple(channel for channel in rankings.by_channel if channel.field is Field.LEXICAL),
            rankings=rankings,
            cutoffs={
                channel: _cutoff(rankings, channel, relevances, watch.min_relevance, small=small) for channel in vectors
            },
            terms=frozenset(query_terms(query.text or "")),
            expires_s=self._executor.clock() + (FRESH_WHILE_SMALL_S if soon_another else FRESH_S),
            missing=rankings.missing,
        )

    async def _is_small(self, query: Query, deadline_s: float) -> bool:
        """Returns whether the tenant has fewer assets than are judged, whatever the filter of the query leaves."""
        offered = {channel.collection for channel in await self._channels.get(deadline_s=deadline_s)}
        searched = offered.intersection(query.collections)
        try:
            assets = await self._executor.call(
                lambda _: sum(self._store.assets_in(collection, query.access) for collection in searched),
                deadline_s=deadline_s,
            )
        except (PenstockError, TimeoutError) as exc:
            logger.info("the assets of tenant %s cannot be counted, a watch expires soon: %s", query.access.tenant, exc)
            return True
        return assets < self._settings.candidates


def _cutoff(
    rankings: Rankings, channel: Channel, relevances: Mapping[str, float], min_relevance: float, *, small: bool
) -> float:
    """Returns the score from which an entry may reach the relevance.

    That of the worst entry that has half of it; without one, that of the best entry, which has too little. Relevance
    grows with the scores of a collection's channels, so that an entry below it could only gain by its words.
    """
    if small:
        return float("-inf")
    scores = [(scored.score, relevances.get(scored.entry.id, 0.0)) for scored in rankings.by_channel[channel]]
    near = [score for score, relevance in scores if relevance >= min_relevance / 2]
    return min(near) if near else max((score for score, _ in scores), default=float("-inf"))
