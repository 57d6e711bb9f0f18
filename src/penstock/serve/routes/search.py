"""The HTTP routes, over a `QueryService`: search, state, media. `/openapi.json` describes them, `/docs` shows that."""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline

from penstock import __version__
from penstock.errors import QueryError
from penstock.query.types import SearchRequest
from penstock.serve import problems
from penstock.serve.middleware.body_limit import BodyLimit, body_limit
from penstock.serve.middleware.metrics import SearchMetrics
from penstock.serve.routes.media_response import media_response
from penstock.serve.schemas import (
    CacheOut,
    HealthOut,
    ReadinessOut,
    SearchBody,
    SearchOut,
    StatusOut,
    search_out,
)
from penstock.serve.service import OK, QueryService
from penstock.store.filters import parse_filter

SEARCH = "/v1/search"


def create_app(service: QueryService) -> FastAPI:
    """The ASGI application over a service, which it closes when it shuts down."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = FastAPIOffline(  # FastAPI, with the scripts of /docs from the package instead of somebody's servers
        title="Penstock",
        summary="Search across text and pictures, seconds after they were produced.",
        version=__version__,
        lifespan=lifespan,
        redoc_url=None,
    )
    app.add_middleware(BodyLimit, max_bytes=body_limit(service.settings.query))
    app.add_middleware(SearchMetrics, path=SEARCH, clock=service.clock)
    problems.install(app)
    _add_search(app, service)
    _add_state(app, service)
    _add_media(app, service)
    return app


def _add_search(app: FastAPI, service: QueryService) -> None:
    @app.post(SEARCH, response_model=SearchOut, responses=problems.RESPONSES, tags=["search"])
    async def search(body: SearchBody) -> Response:
        """Finds entries by words, written or spoken, or by a picture, across modalities."""
        result = await service.search(_request(body, default_tenant=service.settings.tenant))
        answer = search_out(result, profile=service.settings.profile, notice=service.profile.notice)
        # Made of checked records: a second check by the framework would cost more than the fusion.
        return Response(answer.model_dump_json(), media_type="application/json")


def _add_state(app: FastAPI, service: QueryService) -> None:
    @app.get("/healthz", tags=["state"])
    async def healthz() -> HealthOut:
        """The process lives."""
        return HealthOut()

    @app.get("/readyz", response_model=ReadinessOut, responses={503: {"model": ReadinessOut}}, tags=["state"])
    async def readyz() -> Response:
        """Whether searches can be answered now."""
        checks = dict(await service.checks())
        ready = all(said == OK for said in checks.values())
        return JSONResponse(ReadinessOut(ready=ready, checks=checks).model_dump(), status_code=200 if ready else 503)

    @app.get("/v1/status", tags=["state"])
    async def status() -> StatusOut:
        """What `penstock status` shows of the query plane."""
        found = await service.status()
        return StatusOut(
            version=__version__,
            profile=service.settings.profile,
            notice=service.profile.notice,
            uptime_s=round(found.uptime_s, 3),
            ready=all(said == OK for said in found.checks.values()),
            checks=dict(found.checks),
            store=found.product,
            channels=[str(channel) for channel in found.channels],
            entries={str(collection): count for collection, count in found.entries.items()},
            assets=found.assets,
            searches=found.counters.searches,
            searches_failed=found.counters.failed,
            searches_partial=found.counters.partial,
            store_calls=found.store_calls,
            vector_cache=CacheOut(hits=found.cache_hits, misses=found.cache_misses),
        )


def _add_media(app: FastAPI, service: QueryService) -> None:
    @app.get("/v1/media/{sha256}", response_class=Response, responses=problems.RESPONSES, tags=["media"])
    async def media(sha256: str, request: Request) -> Response:
        """The media that a hit's `media_url` names."""
        return media_response(sha256, await service.read_media(sha256), request.headers.get("if-none-match"))


def _request(body: SearchBody, *, default_tenant: str) -> SearchRequest:
    """Raises QueryError for base64 that is none, and for a filter that cannot be answered."""
    return SearchRequest(
        text=body.text,
        image=None if body.image is None else _decode_base64(body.image, "image"),
        audio=None if body.audio is None else _decode_base64(body.audio, "audio"),
        modalities=body.modalities,
        where=None if body.filter is None else parse_filter(body.filter),
        tenant=default_tenant if body.tenant is None else body.tenant,
        limit=body.limit,
        deadline_ms=body.deadline_ms,
    )


def _decode_base64(encoded: str, name: str) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise QueryError(f"{name} is not base64: {exc}", field=f"/{name}") from exc
