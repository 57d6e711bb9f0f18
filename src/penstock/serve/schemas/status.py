"""The JSON of `/healthz`, `/readyz` and `/v1/status`."""

from __future__ import annotations

from pydantic import BaseModel, Field

from penstock import __version__
from penstock.encoders.profiles import Profile
from penstock.serve.use_cases.status import QueryPlaneStatus


class HealthOut(BaseModel):
    """The process runs."""

    status: str = Field("ok", examples=["ok"])


class ReadinessOut(BaseModel):
    """Whether searches can be answered, and if not, the checks that fail."""

    ready: bool
    checks: dict[str, str] = Field(examples=[{"store": "ok", "encoders": "ok", "disk": "ok"}])


class CacheOut(BaseModel):
    """Look-ups of query vectors that were in the cache, and that were not."""

    hits: int
    misses: int


class StatusOut(BaseModel):
    """The query plane as `penstock status` shows it. Counters are those of one replica, since it started."""

    version: str
    profile: str
    notice: str | None = Field(description="a limitation of the models of the profile")
    uptime_s: float
    ready: bool
    checks: dict[str, str]
    store: str | None = Field(description="name and version of the store; null while it does not answer")
    channels: list[str]
    entries: dict[str, int] = Field(description="rows of each collection")
    assets: int | None
    searches: int
    searches_failed: int
    searches_partial: int
    store_calls: int = Field(description="calls of the store that wait or run")
    vector_cache: CacheOut


def status_out(status: QueryPlaneStatus, *, profile: Profile, ready: bool) -> StatusOut:
    """Returns the JSON of a status."""
    return StatusOut(
        version=__version__,
        profile=profile.name,
        notice=profile.notice,
        uptime_s=round(status.uptime_s, 3),
        ready=ready,
        checks=dict(status.checks),
        store=status.product,
        channels=[str(channel) for channel in status.channels],
        entries={str(collection): count for collection, count in status.entries.items()},
        assets=status.assets,
        searches=status.counts.searches,
        searches_failed=status.counts.failed,
        searches_partial=status.counts.partial,
        store_calls=status.store_calls,
        vector_cache=CacheOut(hits=status.cache_hits, misses=status.cache_misses),
    )
