"""The dependencies of the routes: each use case of the query plane that the application serves.

They are coroutines because FastAPI runs plain functions in a thread, which would delay every request.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, FastAPI, Request

from penstock.serve.plane import QueryPlane
from penstock.serve.use_cases.media import MediaService
from penstock.serve.use_cases.search import SearchService
from penstock.serve.use_cases.status import StatusService
from penstock.serve.use_cases.suggest import SuggestService
from penstock.serve.use_cases.watches import WatchService


def provide(app: FastAPI, plane: QueryPlane) -> None:
    """Makes the use cases of a query plane available to the routes of an application."""
    app.state.query_plane = plane


def query_plane(request: Request) -> QueryPlane:
    """Returns the query plane of the application that received the request."""
    plane: QueryPlane = request.app.state.query_plane
    return plane


async def search_service(request: Request) -> SearchService:
    """Returns the use case of searches."""
    return query_plane(request).searches


async def status_service(request: Request) -> StatusService:
    """Returns the use case of checks and status."""
    return query_plane(request).status


async def media_service(request: Request) -> MediaService:
    """Returns the use case of reading media."""
    return query_plane(request).media


async def suggest_service(request: Request) -> SuggestService:
    """Returns the use case of suggestions."""
    return query_plane(request).suggestions


async def watch_service(request: Request) -> WatchService:
    """Returns the use case of watches."""
    return query_plane(request).watches


SearchDependency = Annotated[SearchService, Depends(search_service)]
StatusDependency = Annotated[StatusService, Depends(status_service)]
MediaDependency = Annotated[MediaService, Depends(media_service)]
SuggestDependency = Annotated[SuggestService, Depends(suggest_service)]
WatchDependency = Annotated[WatchService, Depends(watch_service)]
