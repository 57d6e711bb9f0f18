"""What the routes stand on: the pipeline, the store, the encoders and the media, with the state of each.

Knows neither HTTP nor Ray. One of them lives in every replica.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from penstock.assets import MissingAssetError
from penstock.config import Settings
from penstock.encoders.profiles import Profile
from penstock.errors import PenstockError, QueryError, UnavailableError
from penstock.processes import free_bytes
from penstock.query.embed import BatchingQueryEncoder
from penstock.query.pipeline import QueryPipeline
from penstock.query.types import SearchRequest, SearchResult
from penstock.query.understand.speech import SpeechQueryTranscriber
from penstock.records import Channel, Collection
from penstock.store.base import Store

_T = TypeVar("_T")

# What a probe of Kubernetes waits by default is 1 s; counting rows takes longer on a large index.
PING_TIMEOUT_S = 0.9
STATUS_TIMEOUT_S = 5.0
OK = "ok"
_SHA256 = re.compile(r"[0-9a-f]{64}")


class AssetReader(Protocol):
    """Where media are read by their hash; `store.assets.AssetStore` is one."""

    def read(self, sha256: str) -> bytes:
        """The bytes. Raises MissingAssetError if they are not there, UnavailableError if it cannot be told."""


@dataclass(slots=True)
class Counters:
    """Searches of this replica since it started."""

    searches: int = 0
    failed: int = 0
    partial: int = 0


@dataclass(frozen=True, slots=True)
class Status:
    """The query plane at one moment. What the store did not tell is None or empty."""

    uptime_s: float
    checks: Mapping[str, str]
    product: str | None
    channels: tuple[Channel, ...]
    entries: Mapping[Collection, int]
    assets: int | None
    counters: Counters
    store_calls: int
    cache_hits: int
    cache_misses: int


@dataclass(slots=True)
class QueryService:
    """The query plane of one process.

    Attributes:
        settings: all of them.
        profile: of the encoders.
        store, encoder, media, listener: owned from now on, and closed by `close`.
        clock: seconds, monotonic.
    """

    settings: Settings
    profile: Profile
    store: Store
    encoder: BatchingQueryEncoder
    media: AssetReader
    listener: SpeechQueryTranscriber | None = None
    clock: Callable[[], float] = time.monotonic
    counters: Counters = field(default_factory=Counters)
    pipeline: QueryPipeline = field(init=False)
    _started_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.pipeline = QueryPipeline(
            self.store, self.encoder, self.profile, self.settings.query, transcriber=self.listener, clock=self.clock
        )
        self._started_s = self.clock()

    async def search(self, request: SearchRequest) -> SearchResult:
        """Answers a request and counts it. Errors are those of `QueryPipeline.search`."""
        self.counters.searches += 1
        try:
            result = await self.pipeline.search(request)
        except PenstockError:
            self.counters.failed += 1
            raise
        self.counters.partial += result.partial
        return result

    async def checks(self) -> Mapping[str, str]:
        """`ok` or what is wrong, for the store, the encoders and the disk."""
        return {
            "store": await self._check_store(),
            "encoders": await self._check_encoders(),
            "disk": self._check_disk(),
        }

    async def status(self) -> Status:
        """The state of everything. Never raises for a store that is down: its part stays empty."""
        checks = await self.checks()
        counts: Mapping[Collection, int] = {}
        channels: frozenset[Channel] = frozenset()
        assets: int | None = None
        product: str | None = None
        if checks["store"] == OK:
            try:
                channels = await self._ask(self.store.channels, STATUS_TIMEOUT_S)
                counts = await self._ask(lambda: self._counts(channels), STATUS_TIMEOUT_S)
                assets = await self._ask(self.store.count_assets, STATUS_TIMEOUT_S)
                product = self.store.capabilities.product
            except PenstockError as exc:
                checks = {**checks, "store": str(exc)}
        return Status(
            uptime_s=self.clock() - self._started_s,
            checks=checks,
            product=product,
            channels=tuple(sorted(channels)),
            entries=counts,
            assets=assets,
            counters=self.counters,
            store_calls=self.pipeline.executor.pending,
            cache_hits=self.encoder.cache.hits,
            cache_misses=self.encoder.cache.misses,
        )

    async def read_media(self, sha256: str) -> bytes:
        """Bytes by the hash of their content.

        Media of all tenants lie together under names of 256 bits that nobody can guess: who knows the name has seen a
        hit that refers to it, or the content itself.

        Raises:
            QueryError: 404, nothing of this name is here, or it is no name.
            UnavailableError: the asset store does not answer.
        """
        if not _SHA256.fullmatch(sha256):
            raise QueryError("media are named by 64 hexadecimal digits, in lower case", status=404)
        try:
            return await self._ask(lambda: self.media.read(sha256), self.settings.store.timeout_s)
        except MissingAssetError as exc:
            raise QueryError(f"no media {sha256} are kept here; they may have been deleted", status=404) from exc

    def close(self) -> None:
        """Ends threads and connections. Searches under way fail."""
        self.pipeline.close()
        if self.listener is not None:
            self.listener.close()
        self.encoder.close()
        self.store.close()

    async def _check_store(self) -> str:
        try:
            await self._ask(self.store.ping, PING_TIMEOUT_S)
        except PenstockError as exc:
            return str(exc)
        return OK

    async def _check_encoders(self) -> str:
        try:
            async with asyncio.timeout(PING_TIMEOUT_S):
                await self.encoder.check()
        except TimeoutError:
            return f"no vector within {PING_TIMEOUT_S:g} s"
        except PenstockError as exc:
            return str(exc)
        return OK

    def _check_disk(self) -> str:
        """Free space of the data folder: below the limit ingest pauses, so what is found grows old."""
        folder, least = self.settings.data_dir, self.settings.ingest.min_free_disk_bytes
        free = free_bytes(folder)
        if free >= least:
            return OK
        return f"{free:,} bytes are free in {folder}, fewer than {least:,} (setting ingest.min_free_disk_bytes)"

    async def _ask(self, work: Callable[[], _T], timeout_s: float) -> _T:
        try:
            return await self.pipeline.executor.call(lambda _: work(), deadline_s=self.clock() + timeout_s)
        except TimeoutError as exc:
            raise UnavailableError(f"no answer within {timeout_s:g} s") from exc

    def _counts(self, channels: frozenset[Channel]) -> dict[Collection, int]:
        collections = {channel.collection for channel in channels}
        return {collection: self.store.count(collection) for collection in sorted(collections)}
