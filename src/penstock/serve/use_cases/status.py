"""Checks the store, the encoders and the disk, and reports the state of the query plane."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from penstock.encoders.profiles import Profile
from penstock.errors import PenstockError
from penstock.processes import free_bytes
from penstock.query.embed import BatchingQueryEncoder
from penstock.query.executor import BoundedExecutor
from penstock.records import Channel, Collection
from penstock.serve.use_cases.search import SearchCounts
from penstock.store.base import Store

# Kubernetes waits 1 s for a probe by default; counting rows takes longer on a large index.
PING_TIMEOUT_S = 0.9
STATUS_TIMEOUT_S = 5.0
# `/readyz` is open to all and has no limit: however many requests there are, the store has one call each second.
SHARED_S = 1.0
OK = "ok"


@dataclass(frozen=True, slots=True)
class QueryPlaneStatus:
    """The state of the query plane at one moment. Values that the store did not return are None or empty."""

    uptime_s: float
    checks: Mapping[str, str]
    product: str | None
    channels: tuple[Channel, ...]
    entries: Mapping[Collection, int]
    assets: int | None
    counts: SearchCounts
    store_calls: int
    cache_hits: int
    cache_misses: int


class StatusService:
    """The use case behind `/readyz` and `/v1/status`. Belongs to one event loop.

    Args:
        store: checked and counted.
        encoder: checked.
        executor: runs the calls of the store, among those of the searches.
        counts: of the searches.
        profile: of the encoders.
        index_version: that is searched.
        folders: their free space is checked, since the index or its media grow there.
        min_free_disk_bytes: the ingest plane pauses below, so that the index grows stale.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        store: Store,
        encoder: BatchingQueryEncoder,
        executor: BoundedExecutor,
        counts: SearchCounts,
        *,
        profile: Profile,
        index_version: int,
        folders: Sequence[Path],
        min_free_disk_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._encoder = encoder
        self._executor = executor
        self._counts = counts
        self.profile = profile
        self.index_version = index_version
        self._folders = folders
        self._min_free_disk_bytes = min_free_disk_bytes
        self._clock = clock
        self._started_s = clock()
        self._checking = asyncio.Lock()
        self._checked: tuple[float, Mapping[str, str]] | None = None

    async def checks(self) -> Mapping[str, str]:
        """Returns `ok` or the failure for the store, the encoders and the disk, as found within the last second."""
        async with self._checking:
            if self._checked is None or self._clock() - self._checked[0] >= SHARED_S:
                checks = {
                    "store": await self._check_store(),
                    "encoders": await self._check_encoders(),
                    "disk": self._check_disk(),
                }
                self._checked = self._clock(), checks
            return self._checked[1]

    async def status(self) -> QueryPlaneStatus:
        """Returns the state of everything. Never raises for a store that is down: its part stays empty."""
        checks = await self.checks()
        entries: Mapping[Collection, int] = {}
        channels: frozenset[Channel] = frozenset()
        assets: int | None = None
        product: str | None = None
        if checks["store"] == OK:
            try:
                channels = await self._executor.run(self._store.channels, timeout_s=STATUS_TIMEOUT_S)
                entries = await self._executor.run(lambda: self._count_entries(channels), timeout_s=STATUS_TIMEOUT_S)
                assets = await self._executor.run(self._store.count_assets, timeout_s=STATUS_TIMEOUT_S)
                product = self._store.capabilities.product
            except PenstockError as exc:
                checks = {**checks, "store": str(exc)}
        return QueryPlaneStatus(
            uptime_s=self._clock() - self._started_s,
            checks=checks,
            product=product,
            channels=tuple(sorted(channels)),
            entries=entries,
            assets=assets,
            counts=self._counts,
            store_calls=self._executor.pending,
            cache_hits=self._encoder.cache.hits,
            cache_misses=self._encoder.cache.misses,
        )

    async def _check_store(self) -> str:
        try:
            await self._executor.run(self._store.ping, timeout_s=PING_TIMEOUT_S)
        except PenstockError as exc:
            return str(exc)
        return OK

    async def _check_encoders(self) -> str:
        try:
            async with asyncio.timeout(PING_TIMEOUT_S):
                await self._encoder.check()
        except TimeoutError:
            return f"no vector within {PING_TIMEOUT_S:g} s"
        except PenstockError as exc:
            return str(exc)
        return OK

    def _check_disk(self) -> str:
        for folder in self._folders:
            free = free_bytes(folder)
            if free < self._min_free_disk_bytes:
                return (
                    f"{folder} has {free:,} bytes free, less than {self._min_free_disk_bytes:,} "
                    "(setting ingest.min_free_disk_bytes)"
                )
        return OK

    def _count_entries(self, channels: frozenset[Channel]) -> dict[Collection, int]:
        collections = {channel.collection for channel in channels}
        return {collection: self._store.count(collection) for collection in sorted(collections)}
