"""Keeps a query plane for each version of the index that may be served, and follows which one is.

Another version is loaded in a thread while the present one answers, and takes over with the first request after the
switch of the store was seen. Each request is answered by one plane from its beginning to its end. What is served is
read from the store alone: notes of the asset store, which may be slow, are read and written beside it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from fastapi import FastAPI

from penstock.config import Settings
from penstock.errors import PenstockError
from penstock.serve.versions.held import HeldPlane
from penstock.serve.versions.source import ServedVersions, VersionSource
from penstock.versions.replicas import REPORT_EVERY_S

logger = logging.getLogger(__name__)

# While both versions are held: a rollback counts within a second. A look takes Lite 2 ms.
LOOK_EVERY_S = 0.25
# Without a re-index there is nothing to switch to, and a re-index takes minutes. A replica reports as often.
IDLE_LOOK_EVERY_S = REPORT_EVERY_S
RETRY_LOAD_S = 30.0
# Streams of live changes and answers end with their plane: after an answer's usual time.
_PATIENCE_S = 60.0
_CLOSE_S = 5.0


class VersionPlanes:
    """The planes of one replica. Belongs to one event loop.

    Over the limit because it keeps the state of each version beside its services and its clock.

    Args:
        source: which versions there are.
        build: returns the application of a version by its settings; called in a thread.
        versions: as the source read them for the first plane.
        first: the application of the served version.
        look_every_s: between two looks at the store while a re-index is under way.
        idle_look_every_s: between two looks otherwise, and between two looks at the notes.
        clock: seconds, monotonic.

    Attributes:
        served: the plane that answers.
    """

    def __init__(
        self,
        source: VersionSource,
        build: Callable[[Settings], FastAPI],
        versions: ServedVersions,
        first: FastAPI,
        *,
        look_every_s: float = LOOK_EVERY_S,
        idle_look_every_s: float = IDLE_LOOK_EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._build = build
        self._versions = versions
        self._look_every_s = look_every_s
        self._idle_look_every_s = idle_look_every_s
        self._clock = clock
        self.served = HeldPlane(versions.served, first)
        self._held = {versions.served: self.served}
        self._evaluates_watches = self.served
        self._handing_over = asyncio.Lock()
        self._loading: set[int] = set()
        self._failures: dict[int, str] = {}
        self._retry_s: dict[int, float] = {}
        self._reindex = versions.reindex
        self._closing = asyncio.Event()
        self._begun = asyncio.Event()  # a re-index is under way: look more often
        self._changed = asyncio.Event()  # to be reported
        self._looking = asyncio.Lock()
        self._noting = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._followers: list[asyncio.Task[None]] = []
        self._seen_error = ""

    @property
    def held(self) -> tuple[int, ...]:
        """The versions whose planes are ready."""
        return tuple(sorted(self._held))

    def of(self, version: int) -> HeldPlane | None:
        """Returns the plane of a version; None: this replica does not hold it."""
        return self._held.get(version)

    async def start(self) -> None:
        """Starts the first plane, and to follow the versions."""
        await self.served.start()
        self._changed.set()
        self._followers = [
            asyncio.create_task(self._follow_store(), name="index-versions"),
            asyncio.create_task(self._follow_notes(), name="index-version-notes"),
        ]

    async def close(self) -> None:
        """Ends all planes. Running requests fail."""
        self._closing.set()
        self._begun.set()
        self._changed.set()
        tasks = self._tasks | set(self._followers)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_CLOSE_S)
            for task in late:  # it waits for a store that does not answer, or loads a plane
                task.cancel()
        for held in list(self._held.values()):
            await held.end(patience_s=0.0)
        await asyncio.to_thread(self._source.withdraw)

    async def look(self) -> None:
        """Reads which version is served, from the store alone, and follows it. Raises as `VersionSource.served`."""
        async with self._looking:
            self._follow(await asyncio.to_thread(self._source.served))

    async def look_at_notes(self) -> None:
        """Reads whether a re-index is under way, follows it, and reports. As slow as the asset store."""
        async with self._noting:
            self._reindex = await asyncio.to_thread(self._source.read_reindex, self._versions.served)
            self._follow(self._versions.served)
            await self._report()

    def _follow(self, served: int) -> None:
        """Lets the served version answer if it is held, and loads and ends planes."""
        versions = self._source.versions(served, self._reindex)
        changed = versions != self._versions
        self._versions = versions
        changed |= self._serve(versions.served)
        for version in versions.held - self._held.keys() - self._loading:
            if self._clock() >= self._retry_s.get(version, float("-inf")):
                self._loading.add(version)
                self._start(self._load(version))
        for version in self._held.keys() - versions.held - {self.served.version}:
            self._start(self._held.pop(version).end(patience_s=_PATIENCE_S))
            changed = True
        if versions.reindex is not None:
            self._begun.set()
        if changed:
            self._changed.set()

    async def _follow_store(self) -> None:
        while not self._closing.is_set():
            try:
                await self.look()
                self._seen_error = ""
            except PenstockError as exc:
                if str(exc) != self._seen_error:
                    logger.warning("which version of the index is served cannot be read: %s", exc)
                self._seen_error = str(exc)
            except Exception:
                logger.exception("following the versions of the index failed unexpectedly; continuing")
            if self._versions.reindex is None and not self._closing.is_set():
                self._begun.clear()
                await _set_within(self._begun, self._idle_look_every_s)
            else:
                await _set_within(self._closing, self._look_every_s)

    async def _follow_notes(self) -> None:
        while not self._closing.is_set():
            await _set_within(self._changed, self._idle_look_every_s)
            self._changed.clear()
            if self._closing.is_set():
                return
            try:
                await self.look_at_notes()
            except Exception:
                logger.exception("following the re-index failed unexpectedly; continuing")

    def _serve(self, version: int) -> bool:
        """Lets the plane of a version answer, if it is held and another one does; returns whether that changed."""
        plane = self._held.get(version)
        if plane is None or plane is self.served:
            return False
        before, self.served = self.served, plane
        logger.info("version %d of the index answers, after version %d", version, before.version)
        self._start(self._hand_over_watches())
        return True

    async def _hand_over_watches(self) -> None:
        """Lets the plane that answers evaluate watches, after the other one has stopped to: they share a group.

        Stopping takes seconds, in which another switch may be seen. So hand-overs wait for each other, and each follows
        the plane that answers by then.
        """
        async with self._handing_over:
            while self._evaluates_watches is not self.served:
                await asyncio.to_thread(self._evaluates_watches.evaluate_watches, False)
                self._evaluates_watches = self.served
                await asyncio.to_thread(self._evaluates_watches.evaluate_watches, True)

    async def _load(self, version: int) -> None:
        """Builds and starts the plane of a version, which answers once it is served."""
        try:
            settings = self._source.settings_of(self._versions, version)
            plane = HeldPlane(version, await asyncio.to_thread(self._build, settings))
            plane.evaluate_watches(False)
            await plane.start()
        except Exception as exc:
            self._failures[version] = str(exc) or type(exc).__name__
            self._retry_s[version] = self._clock() + RETRY_LOAD_S
            level = logging.WARNING if isinstance(exc, PenstockError) else logging.ERROR
            logger.log(level, "version %d of the index cannot be loaded: %s", version, self._failures[version])
        else:
            self._failures.pop(version, None)
            self._held[version] = plane
            logger.info("version %d of the index is held ready", version)
        finally:
            self._loading.discard(version)
        self._changed.set()

    async def _report(self) -> None:
        versions, holds, serves = self._versions, self.held, self.served.version
        failures = {version: reason for version, reason in self._failures.items() if version in versions.held}
        await asyncio.to_thread(self._source.report, versions, holds=holds, serves=serves, failures=failures)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _set_within(event: asyncio.Event, seconds: float) -> None:
    """Waits until the event is set, or this long."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
