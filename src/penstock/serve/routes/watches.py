"""`/v1/watches`: standing queries."""

from __future__ import annotations

from fastapi import APIRouter, Response

from penstock.auth import Permission
from penstock.errors import QueryError
from penstock.query.types import SearchRequest
from penstock.records import Watch
from penstock.serve import problems
from penstock.serve.authentication import permitted
from penstock.serve.dependencies import ChooseAccess, RequestAccess, WatchDependency
from penstock.serve.limits.admission import admit, kinds_of
from penstock.serve.schemas.search_request import SearchBody
from penstock.serve.schemas.watches import WatchBody, WatchesOut, WatchOut, watch_out
from penstock.serve.search_request import body_request

router = APIRouter(tags=["watches"], prefix="/v1/watches", route_class=permitted(Permission.SEARCH))


@router.post(
    "",
    status_code=201,
    responses={**problems.RESPONSES, 409: problems.response("The tenant has as many watches as it may have")},
)
async def create(body: WatchBody, choose_access: ChooseAccess, watches: WatchDependency) -> WatchOut:
    """Keeps a search whose matches are written to a Kafka topic, seconds after they were indexed."""
    access = choose_access(body.tenant)
    await admit(access.tenant)  # before its image and its audio are decoded
    request = body_request(body, access)
    await admit(access.tenant, *kinds_of(request))
    return watch_out(await watches.create(body.name, body.search_json(), request))


@router.get("", responses=problems.RESPONSES)
async def list_(watches: WatchDependency, access: RequestAccess) -> WatchesOut:
    """Returns the watches of a tenant."""
    own = await watches.list(access)
    return WatchesOut(watches=[watch_out(watch) for watch in own], matches_topic=watches.matches_topic)


@router.delete("/{watch_id}", status_code=204, responses={**problems.RESPONSES, 404: problems.NOT_FOUND})
async def delete(watch_id: str, watches: WatchDependency, access: RequestAccess) -> Response:
    """Deletes a watch of a tenant."""
    await watches.delete(access, watch_id)
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
    return body_request(body, watch.access)
