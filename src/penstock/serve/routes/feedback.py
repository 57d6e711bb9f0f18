"""`POST /v1/feedback`."""

from __future__ import annotations

from fastapi import APIRouter

from penstock.auth import Permission
from penstock.serve import problems
from penstock.serve.authentication import permitted
from penstock.serve.dependencies import CallerOfRequest, ChooseAccess, FeedbackDependency
from penstock.serve.limits.admission import admit
from penstock.serve.schemas.feedback import FeedbackBody, FeedbackOut, feedback_out
from penstock.serve.use_cases.feedback import FeedbackRequest

PATH = "/v1/feedback"

router = APIRouter(tags=["feedback"], route_class=permitted(Permission.FEEDBACK))


@router.post(PATH, status_code=202, responses={**problems.RESPONSES, 404: problems.NOT_FOUND})
async def give(
    body: FeedbackBody, choose_access: ChooseAccess, caller: CallerOfRequest, service: FeedbackDependency
) -> FeedbackOut:
    """Takes what a person chose among the hits of a question, and answers once Kafka has acknowledged it."""
    access = choose_access(body.tenant or None)
    await admit(access.tenant)
    request = FeedbackRequest(
        question=body.question,
        entry_id=body.entry,
        action=body.action,
        rank=body.rank,
        shown=tuple(body.shown),
        query_id=body.query_id,
        client_id=body.client_id,
    )
    vote, position = await service.give(request, access=access, subject=caller.subject)
    return feedback_out(vote, position)
