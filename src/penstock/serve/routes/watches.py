"""`/v1/watches`: standing queries."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from penstock.errors import QueryError
from penstock.query.types import SearchRequest
from penstock.records import Watch
from penstock.serve import problems
from penstock.serve.dependencies import WatchDependency
from penstock.serve.routes.search import search_request
from penstock.serve.schemas.search_request import SearchBody
from penstock.serve.schemas.watches import WatchBody, WatchesOut, WatchOut, watch_out

router = APIRouter(tags=["watches"], prefix="/v1/watches")

Tenant = Annotated[str | None, Query(description="the owner of the watches; the default tenant if absent")]


@router.post("", status_code=201, responses=problems.RESPONSES)
async def create(body: WatchBody, watches: WatchDependency) -> WatchOut:
    """Keeps a search whose matches are written to a Kafka topic, seconds after they were indexed."""
    request = search_request(body, default_tenant=watches.default_tenant)
    return watch_out(await watches.create(body.name, body.search_json(), request))


@router.get("", responses=problems.RESPONSES)
async def list_(watches: WatchDependency, tenant: Tenant = None) -> WatchesOut:
    """Returns the watches of a tenant."""
    own = await watches.list(tenant or watches.default_tenant)
    return WatchesOut(watches=[watch_out(watch) for watch in own], matches_topic=watches.matches_topic)


@router.delete("/{watch_id}", status_code=204, responses=problems.RESPONSES)
async def delete(watch_id: str, watches: WatchDependency, tenant: Tenant = None) -> Response:
    """Deletes a watch of a tenant."""
    await watches.delete(tenant or watches.default_tenant, watch_id)
    return Response(status_code=204)


def request_of(watch: Watch) -> SearchRequest:
    """Returns the request of a watch, whose search is kept as JSON.

    Raises:
        QueryError: this version does not take it.
    """
    try:
        body = SearchBody.model_validate(watch.search)
    except ValueError as exc:
        raise QueryError(f"the search of the watch is invalid: {exc}") from exc
    return search_request(body, default_tenant=watch.tenant)
