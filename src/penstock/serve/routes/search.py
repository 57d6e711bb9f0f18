"""`POST /v1/search`."""

from __future__ import annotations

from fastapi import APIRouter, BackgroundTasks, Response

from penstock.auth import Permission
from penstock.serve import problems
from penstock.serve.authentication import permitted
from penstock.serve.dependencies import ChooseAccess, FeedbackHeaders, SearchDependency
from penstock.serve.limits.admission import admit
from penstock.serve.schemas.search_request import SearchBody
from penstock.serve.schemas.search_response import SearchOut, search_json
from penstock.serve.search_request import body_request

PATH = "/v1/search"

router = APIRouter(tags=["search"], route_class=permitted(Permission.SEARCH))


@router.post(PATH, response_model=SearchOut, responses=problems.RESPONSES)
async def search(
    body: SearchBody,
    choose_access: ChooseAccess,
    *,
    searches: SearchDependency,
    feedback: FeedbackHeaders,
    after_answer: BackgroundTasks,
) -> Response:
    """Searches all modalities for any mix of a text, an image, a spoken query and indexed entries."""
    access = choose_access(body.tenant)
    await admit(access.tenant)  # before its image and its audio are decoded
    result = await searches.search(body_request(body, access))
    after_answer.add_task(searches.link_found_events, result)
    body_json = search_json(result, profile=searches.profile.name, notice=searches.profile.notice)
    # Built from checked records: a second validation by the framework would cost more than the fusion.
    return Response(body_json, media_type="application/json", headers=dict(feedback))
