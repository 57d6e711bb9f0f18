"""`/v1/events`: events by HTTP, which go to Kafka as all others do."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Request

from penstock.auth import Permission
from penstock.serve import problems
from penstock.serve.authentication import permitted
from penstock.serve.dependencies import CallerOfRequest, ChooseAccess, EventDependency, query_plane
from penstock.serve.event_counts import count_failures
from penstock.serve.event_request import read_events, refuse_other_sites
from penstock.serve.limits.admission import Kind, admit
from penstock.serve.middleware.body_limit import body_limit
from penstock.serve.schemas.events import AcceptedEventOut, AcceptedEventsOut, EventLimitsOut, request_body_schema

router = APIRouter(tags=["events"], prefix="/v1/events", route_class=permitted(Permission.EVENTS))

_IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        description="a request of the same key is answered as the first one, and not produced again",
    ),
]


@router.post(
    "",
    status_code=202,
    openapi_extra={"requestBody": dict(request_body_schema())},
    responses={**problems.RESPONSES, 415: problems.response("The body is neither JSON nor a form")},
)
async def send(
    request: Request,
    caller: CallerOfRequest,
    choose_access: ChooseAccess,
    events: EventDependency,
    idempotency_key: _IdempotencyKey = None,
) -> AcceptedEventsOut:
    """Produces events to Kafka, of JSON or of a form with files; answers once the broker has them."""
    with count_failures() as received:
        refuse_other_sites(request, caller)
        events.check_accepts()
        body = await read_events(request, max_events=events.max_events)
        received.events = len(body.events)
        tenant = choose_access(body.tenant).tenant
        await admit(tenant, Kind.EVENTS)
        accepted = await events.send(caller, tenant, body.events, idempotency_key=idempotency_key)
    return AcceptedEventsOut(
        tenant=tenant,
        events=[
            AcceptedEventOut(
                key=event.key,
                topic=event.position.topic,
                partition=event.position.partition,
                offset=event.position.offset,
            )
            for event in accepted
        ],
    )


@router.get("", responses=problems.REFUSED)
async def limits(request: Request, events: EventDependency) -> EventLimitsOut:
    """Returns the limits of requests with events; 403 to callers that may not send any."""
    events.check_accepts()
    settings = query_plane(request).settings
    return EventLimitsOut(
        max_events=events.max_events,
        max_event_bytes=events.max_event_bytes,
        max_body_bytes=body_limit(settings.query),
        modalities=list(settings.ingest.modalities),
    )
