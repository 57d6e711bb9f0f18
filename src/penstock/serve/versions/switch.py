"""Passes each request to the query plane of the index version that is served: the application of a replica."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from fastapi import FastAPI
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Router
from starlette.types import Receive, Scope, Send

from penstock.assembly import open_assets, open_store
from penstock.config import Settings
from penstock.serve.answer_logs import AnswerLogs
from penstock.serve.app import build_query_plane, create_app
from penstock.serve.middleware.index_version import HEADER, demanded_version
from penstock.serve.problems import MEDIA_TYPE
from penstock.serve.shared_parts import SharedParts, open_shared_parts
from penstock.serve.versions.held import HeldPlane
from penstock.serve.versions.planes import VersionPlanes
from penstock.serve.versions.source import VersionSource
from penstock.versions.switching import finish_switch_if_known

logger = logging.getLogger(__name__)


class VersionSwitch:
    """An ASGI application in front of the planes that a replica holds. No request sees two versions.

    A request may demand a held version by the header `Penstock-Index-Version`, as `penstock reindex compare` does.

    Args:
        planes: of the replica, which the end of the application closes.
        on_close: called after that.
    """

    def __init__(self, planes: VersionPlanes, on_close: Callable[[], None]) -> None:
        self.planes = planes
        self._on_close = on_close

    @property
    def routes(self) -> Sequence[BaseRoute]:
        """The routes of the plane that answers, by which Ray Serve names requests in its metrics."""
        return self.planes.served.app.routes

    @property
    def router(self) -> Router:
        """The router of the plane that answers, for the same purpose."""
        return self.planes.served.app.router

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or runs from the start of the replica to its end."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        demanded = demanded_version(scope)
        held = self.planes.served if demanded is None else self._demanded(demanded)
        if held is None:
            await self._refuse(demanded or "", scope, receive, send)
            return
        await held(scope, receive, send)

    def _demanded(self, version: str) -> HeldPlane | None:
        return self.planes.of(int(version)) if version.isascii() and version.isdigit() and len(version) < 10 else None

    async def _refuse(self, demanded: str, scope: Scope, receive: Receive, send: Send) -> None:
        held = " and ".join(map(str, self.planes.held))
        problem = {
            "type": "urn:penstock:problem:query",
            "title": "Not found",
            "status": 404,
            "detail": f"{HEADER} is {demanded[:20]!r}, and this query plane holds {held}: leave the header out",
            "instance": scope["path"],
        }
        await JSONResponse(problem, status_code=404, media_type=MEDIA_TYPE)(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        """Starts the planes, and ends them when the server stops."""
        await receive()
        try:
            await self.planes.start()
        except Exception as exc:
            logger.exception("the query plane did not start")
            await send({"type": "lifespan.startup.failed", "message": str(exc)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.planes.close()
        self._on_close()
        await send({"type": "lifespan.shutdown.complete"})


def build_versions_app(settings: Settings, logs: AnswerLogs | None = None) -> VersionSwitch:
    """Returns the application of a replica, whose plane of the served version is ready to answer.

    1. finish a switch that was interrupted
    2. report that this replica starts, if a re-index is under way
    3. build the plane of the version that is served; another one is loaded once the replica answers

    Args:
        settings: of the deployment.
        logs: of answers, where replicas share them; None: in memory.

    Raises:
        ConfigError: an unknown profile, missing weights, an index of another model or version, or no store in the
            settings.
        UnavailableError: the store does not answer.
    """
    store = open_store(settings.store, for_queries=True)
    shared = open_shared_parts(settings, logs)
    assets = open_assets(settings)
    if not store.is_read_only:  # 1
        finish_switch_if_known(store, assets)
    source = VersionSource(settings, store, assets)
    versions = source.read()
    source.report(versions)  # 2

    def build(of_version: Settings) -> FastAPI:
        return build_plane_app(of_version, shared)

    first = build(source.settings_of(versions, versions.served))  # 3

    def close() -> None:
        store.close()
        shared.close()

    return VersionSwitch(VersionPlanes(source, build, versions, first), close)


def build_plane_app(settings: Settings, shared: SharedParts) -> FastAPI:
    """Returns the application of one version, ready to answer. Raises as `build_query_plane`."""
    with ExitStack() as opened:
        plane = build_query_plane(settings, shared=shared)
        opened.callback(plane.close)
        app = create_app(plane)
        app.openapi()  # kept: its first request would hold up others for half a second
        opened.pop_all()
    return app
