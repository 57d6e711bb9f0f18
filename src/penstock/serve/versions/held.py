"""Holds the query plane of one index version in a replica, from its start to its end."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from penstock.serve.dependencies import plane_of

logger = logging.getLogger(__name__)


class HeldPlane:
    """An application whose lifespan runs in a task of its own. Belongs to one event loop.

    Args:
        version: of the index that it answers from.
        app: the application of a query plane, which closes the plane at its end.

    Attributes:
        version, app: as given.
    """

    def __init__(self, version: int, app: FastAPI) -> None:
        self.version = version
        self.app = app
        self._requests = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._ending = asyncio.Event()
        self._lifespan: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Starts the application. Raises what its lifespan raises."""
        started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lifespan = asyncio.create_task(self._live(started), name=f"index-version-{self.version}")
        await started

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request, which keeps the plane from ending."""
        self._requests += 1
        self._idle.clear()
        try:
            await self.app(scope, receive, send)
        finally:
            self._requests -= 1
            if not self._requests:
                self._idle.set()

    async def end(self, *, patience_s: float) -> None:
        """Ends the application once its requests are answered, or this much later: streams may last for hours."""
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                await self._idle.wait()
        self._ending.set()
        if self._lifespan is not None:
            await self._lifespan

    def evaluate_watches(self, active: bool) -> None:
        """Starts or stops to evaluate watches, which the plane of the served version does. May take seconds."""
        worker = plane_of(self.app).watch_worker
        if worker is not None:
            worker.evaluate(active)

    async def _live(self, started: asyncio.Future[None]) -> None:
        try:
            async with self.app.router.lifespan_context(self.app):
                started.set_result(None)
                await self._ending.wait()
        except Exception as exc:
            if started.done():
                logger.exception("the query plane of version %d did not end well", self.version)
            else:
                started.set_exception(exc)
