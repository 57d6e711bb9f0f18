"""`GET /v1/suggest`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from penstock.auth import Permission
from penstock.query.suggest import MAX_SUGGESTIONS
from penstock.serve import problems
from penstock.serve.authentication import permitted
from penstock.serve.dependencies import RequestAccess, SuggestDependency
from penstock.serve.schemas.suggest import SuggestOut, suggest_out

PATH = "/v1/suggest"

router = APIRouter(tags=["search"], route_class=permitted(Permission.SEARCH))


@router.get(PATH, responses=problems.RESPONSES)
async def suggest(
    service: SuggestDependency,
    access: RequestAccess,
    *,
    q: Annotated[str, Query(description="what was typed so far")],
    limit: Annotated[int, Query(description=f"maximum number of suggestions, at most {MAX_SUGGESTIONS}")] = 10,
) -> SuggestOut:
    """Completes a text by the words and titles of the tenant's index."""
    return suggest_out(service.suggest(q, access=access, limit=limit))
