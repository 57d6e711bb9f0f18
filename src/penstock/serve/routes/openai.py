"""`POST /v1/chat/completions` and `GET /v1/models`, for clients that speak to OpenAI's endpoints."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response

from penstock.auth import Permission
from penstock.errors import QueryError
from penstock.serve import problems
from penstock.serve.ask_events import encoded
from penstock.serve.authentication import permitted
from penstock.serve.chat_events import AnswerWriter, ChatEvents
from penstock.serve.chat_request import chat_access, chat_pointer, chat_request
from penstock.serve.dependencies import AskDependency, ChooseAccess, UnnamedTenant
from penstock.serve.event_stream import ClientGoneError, EventStream, until_gone, with_comments
from penstock.serve.limits.admission import admit
from penstock.serve.openapi import chat_stream
from penstock.serve.routes.ask import CLIENT_GONE
from penstock.serve.running_answer import EventsOf, RunningAnswer
from penstock.serve.schemas.openai import MODEL, ChatBody, ChatOut, ModelOut, ModelsOut
from penstock.serve.stream_access import StreamAccess
from penstock.serve.ui_events import HEADERS, UiEvents

PATH = "/v1/chat/completions"

router = APIRouter(tags=["openai"], route_class=permitted(Permission.ASK))

_RESPONSES: dict[int | str, dict[str, Any]] = {
    **problems.RESPONSES,
    200: chat_stream("The answer; with `stream`, its chunks"),
    404: problems.response("There is no such model"),
}
_Protocol = Annotated[
    Literal["openai", "ai-sdk"],
    Query(description="of a stream: OpenAI's chunks, or the UI message stream of the AI SDK, which is always a stream"),
]


@router.post(PATH, response_model=ChatOut, responses=_RESPONSES)
async def chat_completions(
    body: ChatBody,
    request: Request,
    *,
    choose_access: ChooseAccess,
    unnamed_tenant: UnnamedTenant,
    answers: AskDependency,
    protocol: _Protocol = "openai",
) -> Response:
    """Answers the last message of a conversation from the index, in the shape of OpenAI's chat completions."""
    access = chat_access(body, choose_access)
    await admit(access.tenant)  # before its images are decoded
    question = chat_request(body, access, max_image_bytes=answers.max_image_bytes)
    allowed = StreamAccess(request.scope, Permission.ASK, access)
    writer = AnswerWriter(
        PATH,
        base_url=str(request.base_url),
        created_s=int(time.time()),
        notice=answers.profile.notice,
        unnamed_tenant=unnamed_tenant,
    )
    try:
        if not body.stream and protocol == "openai":
            answer = await until_gone(request, answers.answer(question, allowed))
            return Response(writer.whole(answer).model_dump_json(by_alias=True), media_type="application/json")
        events_of, headers = _stream_of(body, writer, protocol)
        stream = await until_gone(
            request, answers.stream(question, events_of, allowed=allowed), discard=RunningAnswer.leave
        )
    except ClientGoneError:
        return Response(status_code=CLIENT_GONE)
    except QueryError as exc:
        raise QueryError(str(exc), status=exc.status, field=chat_pointer(exc.field, body)) from exc
    return EventStream(with_comments(encoded(stream.follow(), PATH)), ended=stream.leave, headers=headers)


@router.get("/v1/models", responses=problems.REFUSED)
async def models() -> ModelsOut:
    """Returns the models that a client may name."""
    return ModelsOut(data=[ModelOut()])


@router.get("/v1/models/{model}", responses={**problems.REFUSED, 404: problems.NOT_FOUND})
async def model(model: str) -> ModelOut:
    """Returns a model."""
    if model != MODEL:
        raise QueryError(f"there is no model {model[:64]!r}; there is {MODEL}", status=404)
    return ModelOut()


def _stream_of(body: ChatBody, writer: AnswerWriter, protocol: str) -> tuple[EventsOf, dict[str, str]]:
    if protocol == "ai-sdk":
        return UiEvents(writer), dict(HEADERS)
    options = body.stream_options
    return ChatEvents(writer, include_usage=options is not None and options.include_usage), {}
