"""`POST /v1/ask`, whole or as a stream, and `/v1/ask/{answer_id}`, where a client continues a stream that broke off."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response

from penstock.auth import Permission, Principal
from penstock.errors import QueryError
from penstock.records import Access
from penstock.serve import problems
from penstock.serve.answer_logs import AnswerOwner
from penstock.serve.ask_events import AskEvents, encoded
from penstock.serve.ask_request import ask_request
from penstock.serve.authentication import permitted
from penstock.serve.dependencies import (
    AskDependency,
    CallerOfRequest,
    ChooseAccess,
    FeedbackHeaders,
    RequestAccess,
    UnnamedTenant,
)
from penstock.serve.event_stream import (
    ClientGoneError,
    EventStream,
    until_gone,
    with_comments,
)
from penstock.serve.limits.admission import admit
from penstock.serve.openapi import event_stream
from penstock.serve.running_answer import RunningAnswer
from penstock.serve.schemas.answer import AnswerOut, answer_out
from penstock.serve.schemas.ask_request import AskBody
from penstock.serve.stream_access import StreamAccess

PATH = "/v1/ask"
RESUME_PATH = PATH + "/{answer_id}"
CLIENT_GONE = 499  # the status that nginx logs for a request whose client closed the connection

router = APIRouter(tags=["ask"], route_class=permitted(Permission.ASK))

_LAST_EVENT = "Last-Event-ID"
_MAX_DIGITS = 9
_RESUMED: dict[int | str, dict[str, Any]] = {
    **problems.RESPONSES,
    200: event_stream("The events that the client does not have"),
    204: {"description": "The client has all events"},
    404: problems.NOT_FOUND,
}
_LastEvent = Annotated[
    str | None, Header(alias=_LAST_EVENT, description="the id of the last event that the client has; all if absent")
]


@router.post(
    PATH,
    response_model=AnswerOut,
    responses={
        **problems.RESPONSES,
        200: event_stream("The answer; with `stream`, its events"),
        404: problems.response("The request has Last-Event-ID, which belongs to /v1/ask/{answer_id}"),
    },
)
async def ask(
    body: AskBody,
    request: Request,
    *,
    caller: CallerOfRequest,
    choose_access: ChooseAccess,
    unnamed_tenant: UnnamedTenant,
    answers: AskDependency,
    feedback: FeedbackHeaders,
    last_event_id: _LastEvent = None,
) -> Response:
    """Answers a question from the index: each sentence cites its sources and is checked against them."""
    if last_event_id is not None:
        raise QueryError(
            "a stream is continued at /v1/ask/{answer_id}, with the answer_id of its first event", status=404
        )
    access = choose_access(body.tenant)
    await admit(access.tenant)  # before its images are decoded
    question = ask_request(body, access, max_image_bytes=answers.max_image_bytes)
    notice = answers.profile.notice
    owner, allowed = _owner(access, caller), StreamAccess(request.scope, Permission.ASK, access)
    try:
        if not body.stream:
            answer = await until_gone(request, answers.answer(question, allowed))
            out = answer_out(answer, notice=notice, unnamed_tenant=unnamed_tenant)
            body_json = out.model_dump_json(by_alias=True)
            return Response(body_json, media_type="application/json", headers=dict(feedback))
        events_of = AskEvents(PATH, notice=notice, unnamed_tenant=unnamed_tenant)
        stream = await until_gone(
            request,
            answers.stream(question, events_of, resumable=body.resumable, owner=owner, allowed=allowed),
            discard=RunningAnswer.leave,
        )
    except ClientGoneError:
        return Response(status_code=CLIENT_GONE)
    return EventStream(with_comments(encoded(stream.follow(), PATH)), ended=stream.leave, headers=feedback)


@router.post(RESUME_PATH, status_code=200, response_class=Response, responses=_RESUMED)
@router.get(RESUME_PATH, status_code=200, response_class=Response, responses=_RESUMED)
async def resume(
    answer_id: str,
    request: Request,
    caller: CallerOfRequest,
    access: RequestAccess,
    answers: AskDependency,
    *,
    last_event_id: _LastEvent = None,
) -> Response:
    """Continues the stream of an answer after the last event that the client has, for a minute after its end.

    Answers 204 if the client has all events, after which browsers do not connect again.
    """
    allowed = StreamAccess(request.scope, Permission.ASK, access)
    events = await answers.resume(answer_id, _owner(access, caller), after=_number(last_event_id), allowed=allowed)
    if events is None:
        return Response(status_code=204)
    return EventStream(with_comments(encoded(events, request.url.path)))


@router.delete(RESUME_PATH, status_code=204, responses={**problems.RESPONSES, 404: problems.NOT_FOUND})
async def cancel(answer_id: str, caller: CallerOfRequest, access: RequestAccess, answers: AskDependency) -> Response:
    """Stops an answer that is being generated, such as one whose client has gone."""
    await answers.cancel(answer_id, _owner(access, caller))
    return Response(status_code=204)


def _owner(access: Access, caller: Principal) -> AnswerOwner:
    return AnswerOwner(access.tenant, caller.subject, access.labels)


def _number(last_event_id: str | None) -> int:
    """Returns the number of the last event that the client has; 0: it has none."""
    if last_event_id is None or not last_event_id.strip():
        return 0
    number = last_event_id.strip()
    if not (number.isascii() and number.isdigit() and len(number) <= _MAX_DIGITS):
        raise QueryError(f"{_LAST_EVENT} is {number[:20]!r}; it is the id of an event, a number from 1")
    return int(number)
