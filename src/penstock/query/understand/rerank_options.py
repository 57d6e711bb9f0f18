"""Checks how a request wants its best hits reranked, a part of step 1."""

from __future__ import annotations

from penstock.config import QuerySettings
from penstock.errors import QueryError
from penstock.query.options import RerankOptions, RerankRequest

AUTO, OFF = "auto", "off"
# A model reads a thousand passages for seconds: more than any deadline by default.
MAX_TOP = 1_000
MAX_BUDGET_MS = 60_000


def rerank_options(request: RerankRequest | None, settings: QuerySettings) -> RerankOptions | None:
    """Checks the `rerank` of a request and fills in the settings; None if nothing is to be reranked.

    A request that has options but no model wants one. Whether the query plane has the model is checked by the step.

    Raises:
        QueryError: with a pointer to the option at fault.
    """
    requested = request or RerankRequest()
    if requested.model == "":
        raise QueryError("the model is empty: send auto, off or a name", field="/rerank/model")
    for name, value, most in (("budget_ms", requested.budget_ms, MAX_BUDGET_MS), ("top", requested.top, MAX_TOP)):
        if value is not None and not 1 <= value <= most:
            raise QueryError(f"{name} is {value}; it can be 1 to {most:,}", field=f"/rerank/{name}")
    model = requested.model or (settings.rerank if request is None else AUTO)
    if model == OFF:
        return None
    return RerankOptions(
        model=None if model == AUTO else model,
        budget_ms=settings.rerank_ms if requested.budget_ms is None else requested.budget_ms,
        top=settings.rerank_top if requested.top is None else requested.top,
        demanded=request is not None,
    )
