"""Says what became of the parts of a query, where that is not what a reader of the request expects."""

from __future__ import annotations

from penstock.query.parts.compose import LoadedParts
from penstock.query.parts.images import THUMBNAIL
from penstock.query.trace import Trace
from penstock.query.types import Query, SearchPlan

FROM_THUMBNAIL = (
    "The region was cut from the thumbnail of the frame or page, which is less sharp than the video or the document."
)
NO_RELEVANCE = "The relevance of the hits is not known: it is estimated for queries in words alone."
NO_RERANKING = "Nothing is reranked: a reranking model reads words, and this query is not words alone."


def add_reasons(trace: Trace, query: Query, plan: SearchPlan, loaded: LoadedParts) -> None:
    """Adds the reasons of a routed query to its trace."""
    for sentence in plan.because:
        trace.add_reason(sentence)
    if loaded.image_source == THUMBNAIL:
        trace.add_reason(FROM_THUMBNAIL)
    if query.text is not None and not plan.in_words:
        trace.add_reason(NO_RELEVANCE)
    if query.rerank is not None and query.rerank.demanded and not plan.in_words:
        trace.add_reason(NO_RERANKING)
