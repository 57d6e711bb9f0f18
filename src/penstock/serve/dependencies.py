"""The dependencies of the routes: each use case of the query plane that the application serves.

They are coroutines because FastAPI runs plain functions in a thread, which would delay every request.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated

from fastapi import Depends, FastAPI, Query, Request

from penstock.auth import AccessOf, Permission, Principal, access_of
from penstock.observability import audit_log
from penstock.records import Access
from penstock.serve.authentication import principal_of
from penstock.serve.limits.admission import admit
from penstock.serve.plane import QueryPlane
from penstock.serve.use_cases.ask import AskService
from penstock.serve.use_cases.check import CheckService
from penstock.serve.use_cases.entry_lookup import EntryLookup
from penstock.serve.use_cases.events import EventService
from penstock.serve.use_cases.feedback import FeedbackService
from penstock.serve.use_cases.live import LiveFeed
from penstock.serve.use_cases.media import MediaService
from penstock.serve.use_cases.media_references import MediaReferences
from penstock.serve.use_cases.search import SearchService
from penstock.serve.use_cases.status import StatusService
from penstock.serve.use_cases.suggest import SuggestService
from penstock.serve.use_cases.thumbnails import ThumbnailService
from penstock.serve.use_cases.watches import WatchService


def provide(app: FastAPI, plane: QueryPlane) -> None:
    """Makes the use cases of a query plane available to the routes of an application."""
    app.state.query_plane = plane


def plane_of(app: FastAPI) -> QueryPlane:
    """Returns the query plane of an application."""
    plane: QueryPlane = app.state.query_plane
    return plane


def query_plane(request: Request) -> QueryPlane:
    """Returns the query plane of the application that received the request."""
    return plane_of(request.app)


async def principal(request: Request) -> Principal:
    """Returns the caller of the request."""
    return principal_of(request.scope)


async def tenant_access(request: Request) -> AccessOf:
    """Returns what chooses the tenant of a request whose body names it."""
    choose = partial(access_of, principal_of(request.scope), default_tenant=query_plane(request).settings.tenant)

    def chosen(tenant: str | None) -> Access:
        audit_log.note(tenant=tenant)  # also of one that is refused
        access = choose(tenant)
        audit_log.note(tenant=access.tenant)
        return access

    return chosen


async def access(
    choose: Annotated[AccessOf, Depends(tenant_access)],
    tenant: Annotated[
        str | None,
        Query(description="the owner; if absent, the caller's only one, or the default one if it reads all"),
    ] = None,
) -> Access:
    """Returns what a request may read whose query names the tenant, and counts it among those of the tenant."""
    chosen = choose(tenant or None)
    await admit(chosen.tenant)
    return chosen


async def search_service(request: Request) -> SearchService:
    """Returns the use case of searches."""
    return query_plane(request).searches


async def status_service(request: Request) -> StatusService:
    """Returns the use case of checks and status."""
    return query_plane(request).status


async def media_service(request: Request) -> MediaService:
    """Returns the use case of reading media."""
    return query_plane(request).media


async def media_references(request: Request) -> MediaReferences:
    """Returns what knows which media entries refer to."""
    return query_plane(request).media_references


async def entry_lookup(request: Request) -> EntryLookup:
    """Returns the reader of entries."""
    return query_plane(request).entries


async def event_service(request: Request) -> EventService:
    """Returns the use case of taking events."""
    return query_plane(request).events


async def thumbnail_service(request: Request) -> ThumbnailService:
    """Returns the use case of thumbnails."""
    return query_plane(request).thumbnails


async def live_feed(request: Request) -> LiveFeed:
    """Returns the use case of following the changes of the index."""
    return query_plane(request).live


async def unnamed_tenant(request: Request) -> str | None:
    """Returns the tenant whose media are found by addresses without a tenant; None: every address needs one.

    A principal of several tenants has to name one with each request, and one that follows an address of an answer does.
    """
    return query_plane(request).settings.tenant if principal_of(request.scope).tenants is None else None


async def suggest_service(request: Request) -> SuggestService:
    """Returns the use case of suggestions."""
    return query_plane(request).suggestions


async def watch_service(request: Request) -> WatchService:
    """Returns the use case of watches."""
    return query_plane(request).watches


async def ask_service(request: Request) -> AskService:
    """Returns the use case of questions."""
    return query_plane(request).answers


async def check_service(request: Request) -> CheckService:
    """Returns the use case of checking answers."""
    return query_plane(request).checks


async def feedback_use_case(request: Request) -> FeedbackService:
    """Returns the use case of feedback."""
    return query_plane(request).feedback


async def feedback_headers(
    service: Annotated[FeedbackService, Depends(feedback_use_case)], caller: Annotated[Principal, Depends(principal)]
) -> Mapping[str, str]:
    """Returns the headers of answers, which say whether `POST /v1/feedback` takes choices of this caller."""
    taken = service.is_taken and caller.may(Permission.FEEDBACK)
    return {"Penstock-Feedback": "taken"} if taken else {}


CallerOfRequest = Annotated[Principal, Depends(principal)]
ChooseAccess = Annotated[AccessOf, Depends(tenant_access)]
RequestAccess = Annotated[Access, Depends(access)]
SearchDependency = Annotated[SearchService, Depends(search_service)]
StatusDependency = Annotated[StatusService, Depends(status_service)]
MediaDependency = Annotated[MediaService, Depends(media_service)]
MediaReferencesDependency = Annotated[MediaReferences, Depends(media_references)]
EntryLookupDependency = Annotated[EntryLookup, Depends(entry_lookup)]
EventDependency = Annotated[EventService, Depends(event_service)]
ThumbnailDependency = Annotated[ThumbnailService, Depends(thumbnail_service)]
LiveDependency = Annotated[LiveFeed, Depends(live_feed)]
UnnamedTenant = Annotated[str | None, Depends(unnamed_tenant)]
SuggestDependency = Annotated[SuggestService, Depends(suggest_service)]
WatchDependency = Annotated[WatchService, Depends(watch_service)]
AskDependency = Annotated[AskService, Depends(ask_service)]
CheckDependency = Annotated[CheckService, Depends(check_service)]
FeedbackDependency = Annotated[FeedbackService, Depends(feedback_use_case)]
FeedbackHeaders = Annotated[Mapping[str, str], Depends(feedback_headers)]
