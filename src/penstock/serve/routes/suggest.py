"""`GET /v1/suggest`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from penstock.query.suggest import MAX_SUGGESTIONS
from penstock.serve import problems
from penstock.serve.dependencies import SuggestDependency
from penstock.serve.schemas.suggest import SuggestOut, suggest_out

PATH = "/v1/suggest"

router = APIRouter(tags=["search"])


@router.get(PATH, responses=problems.RESPONSES)
async def suggest(
    service: SuggestDependency,
    q: Annotated[str, Query(description="what was typed so far")],
    tenant: Annotated[str | None, Query(description="the owner of the words; the default tenant if absent")] = None,
    limit: Annotated[int, Query(description=f"maximum number of suggestions, at most {MAX_SUGGESTIONS}")] = 10,
) -> SuggestOut:
    """Completes a text by the words and titles of the tenant's index."""
    return suggest_out(service.suggest(q, tenant=tenant, limit=limit))
