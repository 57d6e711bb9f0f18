"""Steps 5 to 11 of a search, from the channel queries to the hits of a page; see `query.pipeline`."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, replace

from penstock.config import QuerySettings
from penstock.query.conditions import is_filtered
from penstock.query.diversify import Diversifier
from penstock.query.explain import HitOrders, explain_hits, ids_of
from penstock.query.fusion.base import MomentRules
from penstock.query.fusion.choose import FusionChooser
from penstock.query.options import RerankReport
from penstock.query.overload import SheddableStep, Shedding
from penstock.query.pages import Page, PageStart
from penstock.query.relevance import JudgedHits, judge, with_relevance
from penstock.query.rerank import Reranker, rerank_hits
from penstock.query.retrieve import Retrieval
from penstock.query.routing.router import Router, Routing
from penstock.query.stages import HitStages
from penstock.query.trace import Trace
from penstock.query.types import Kind, Query
from penstock.records import ClickedEntry

NO_TIME_FOR_MORE = "The search for more entries was left out, as the deadline leaves less time than the first one took."


@dataclass(frozen=True, slots=True)
class FoundPage:
    """The hits of a page.

    Attributes:
        judged: the hits, with their relevance.
        page: where the next one begins.
        reranked: what the reranking model read; None: it was not called.
        routing: the weights of channels and sources, and why.
    """

    judged: JudgedHits
    page: Page
    reranked: RerankReport | None
    routing: Routing


@dataclass(frozen=True, slots=True)
class HitFinder:
    """Finds the hits of queries. Belongs to one event loop.

    Attributes:
        settings: limits and defaults.
        fusions: makes the fusion of each query.
        reranker: reorders the best hits; None: they keep the order of the fusion.
        diversifier: moves hits back that resemble those before them.
        router: weighs channels by the vector of the question.
    """

    settings: QuerySettings
    fusions: FusionChooser
    reranker: Reranker | None
    diversifier: Diversifier
    router: Router

    async def find(
        self,
        retrieval: Retrieval,
        query: Query,
        start: PageStart,
        shares: Mapping[Kind, float] | None,
        trace: Trace,
        *,
        routing: Routing,
        shedding: Shedding,
        recall: Awaitable[tuple[ClickedEntry, ...]] | None = None,
    ) -> FoundPage:
        """Returns the page of hits that begins at `start`.

        Over the limit because it lists the steps.

        Args:
            retrieval: of the query, which has not searched yet.
            query: to be answered.
            start: of the page.
            shares: of each kind in the index; None: they do not decide on the first place.
            trace: takes times, notices, reasons and what is missing.
            routing: the weights before the vector of the question was known.
            shedding: the steps that are left out for the load.
            recall: returns what people chose for close questions; None: it does not count.
        """
        settings, moments = self.settings, MomentRules(self.settings.max_moment_gap_ms, self.settings.max_moment_ms)
        rankings = await retrieval.search()  # 5
        trace.end("search")
        # A condition, as every canary has one, returns scores of a part of the index.
        if not is_filtered(query) and start.is_first:
            self.fusions.statistics.observe(rankings, settings.candidates)
        routing = self.router.refine(routing, query, retrieval.question_vector(query.text))
        trace.add_reasons(routing.because)
        if recall is not None:
            rankings = replace(rankings, clicked=await recall)
        options, unapplied = self.fusions.applicable(routing.applied_to(query.fuse), rankings)
        trace.add_notice(unapplied)
        rerank = None if query.rerank is None or shedding.sheds(SheddableStep.RERANK, trace) else query.rerank
        query = replace(query, fuse=options, rerank=rerank)
        reread = 0 if query.rerank is None else query.rerank.top
        moved = 0 if query.hits.diversify is None else settings.diversify_top
        end = start.end(query.limit)
        # A model that reads the hits decides on the first place.
        stages = HitStages(self.fusions, moments, query, start.cursor.pins, None if reread else shares)
        staged = stages.first(rankings, max(end + 1, reread, moved))  # 6; one more says that a page follows
        if len(staged.hits) < end and retrieval.has_more(end) and not _sheds_deeper(retrieval, shedding, trace):
            staged = await stages.deepen(staged, retrieval, end, trace)
        trace.end("fuse")
        first = staged.hits[: staged.first]
        hits, report = await rerank_hits(first, query, self.reranker, trace, share=settings.rerank_share)  # 7
        reranked = None if report is None else ids_of(hits)
        if moved:  # 8
            hits = with_relevance(hits, staged.relevances, floor=settings.relevance_floor)
            hits = await self.diversifier.diversify(hits, query, rankings.spaces, trace, top=moved)
        hits = [*hits, *staged.hits[staged.first :]]
        judged = judge(hits[:end], staged.relevances, query, floor=settings.relevance_floor)  # 9
        page = start.page(hits, group_by=query.hits.group_by, limit=query.limit, more=retrieval.has_more(end + 1))  # 10
        trace.add_notice(page.notice)
        shown = [hit for hit in judged.hits if hit.entry.id in page.ids]
        trace.end("judge")
        if query.hits.explain:  # 11
            with trace.step("explain"):
                orders = HitOrders(ids_of(staged.hits), reranked, ids_of(hits))
                shown = explain_hits(shown, staged, stages, orders, self.fusions.calibration)
        trace.add_failed(retrieval.missing)
        if retrieval.shortened:
            trace.add_shortened()
        return FoundPage(replace(judged, hits=shown), page, report, routing)


def _sheds_deeper(retrieval: Retrieval, shedding: Shedding, trace: Trace) -> bool:
    """Returns whether the search for more entries is left out: for the load, or as the first one took too long."""
    if shedding.sheds(SheddableStep.DEEPER, trace):
        return True
    is_late = trace.left_s() < retrieval.slowest_s
    if is_late:
        trace.add_shortened(NO_TIME_FOR_MORE)
    return is_late
