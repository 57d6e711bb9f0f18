"""Answers searches and counts them."""

from __future__ import annotations

from dataclasses import dataclass

from penstock.encoders.profiles import Profile
from penstock.errors import PenstockError
from penstock.observability import audit_log
from penstock.query.pipeline import QueryPipeline
from penstock.query.result_cache import ResultCache
from penstock.query.types import SearchRequest, SearchResult
from penstock.serve.limits.admission import admit, kinds_of


@dataclass(slots=True)
class SearchCounts:
    """The number of searches of this replica since it started, of failed ones and of partial results."""

    searches: int = 0
    failed: int = 0
    partial: int = 0


class SearchService:
    """The use case behind `POST /v1/search`.

    Args:
        pipeline: links the answers to what they found.
        cache: answers the searches.
        profile: of its encoders; its notice goes into every answer.

    Attributes:
        counts: of the searches.
        profile: as given.
    """

    def __init__(self, pipeline: QueryPipeline, cache: ResultCache, *, profile: Profile) -> None:
        self._pipeline = pipeline
        self._cache = cache
        self.profile = profile
        self.counts = SearchCounts()

    async def search(self, request: SearchRequest) -> SearchResult:
        """Answers a request and counts it.

        Raises as `QueryPipeline.search` does, and OverloadedError beyond the limits of the caller or its tenant.
        """
        self.counts.searches += 1
        audit_log.note(tenant=request.access.tenant, text=request.text)
        await admit(request.access.tenant, *kinds_of(request))
        try:
            result = await self._cache.search(request)
        except PenstockError:
            self.counts.failed += 1
            raise
        self.counts.partial += result.partial
        audit_log.note(hits=len(result.hits))
        return result

    async def link_found_events(self, result: SearchResult) -> None:
        """Completes the trace of an answered request. See `QueryPipeline.link_found_events`."""
        await self._pipeline.link_found_events(result.hits)
