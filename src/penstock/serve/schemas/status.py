"""The JSON of `/healthz`, `/readyz` and `/v1/status`."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, Field

from penstock import __version__
from penstock.encoders.profiles import Profile
from penstock.serve.use_cases.status import OK, QueryPlaneStatus

FAILED = "failed"


class HealthOut(BaseModel):
    """The process runs."""

    status: str = Field("ok", examples=["ok"])


class ReadinessOut(BaseModel):
    """Whether searches can be answered, and if not, the checks that fail."""

    ready: bool
    checks: dict[str, str] = Field(
        description="empty without the permission status", examples=[{"store": "ok", "encoders": "ok", "disk": "ok"}]
    )


class CacheOut(BaseModel):
    """Look-ups of query vectors that were in the cache, and that were not."""

    hits: int
    misses: int


class StatusOut(BaseModel):
    """The query plane as `penstock status` shows it. Counters are those of one replica, since it started.

    Over the limit because each field of the status is an attribute.
    """

    version: str
    profile: str
    index_version: int = Field(description="the version of the index that answers")
    notice: str | None = Field(description="a limitation of the models of the profile")
    uptime_s: float
    ready: bool
    checks: dict[str, str] = Field(description="ok, or the failure; without access to all tenants only that it failed")
    store: str | None = Field(description="name and version of the store; null while it does not answer")
    channels: list[str]
    entries: dict[str, int] = Field(description="rows of each collection; empty without access to all tenants")
    assets: int | None = Field(description="null without access to all tenants, or while the store does not answer")
    searches: int | None = Field(description="null without access to all tenants, as are the counters below")
    searches_failed: int | None
    searches_partial: int | None
    store_calls: int | None = Field(description="calls of the store that wait or run")
    vector_cache: CacheOut | None


def checks_out(checks: Mapping[str, str], *, reads_all: bool) -> dict[str, str]:
    """Returns the results of checks; without `reads_all` no reasons, which may name the addresses of other services."""
    return {name: result if reads_all or result == OK else FAILED for name, result in checks.items()}


def status_out(
    status: QueryPlaneStatus, *, profile: Profile, index_version: int, ready: bool, reads_all: bool
) -> StatusOut:
    """Returns the JSON of a status; without `reads_all` it has no sizes, counters and reasons, which all tenants share.

    Args:
        status: the state.
        profile: of the encoders.
        index_version: that is searched.
        ready: whether all checks passed.
        reads_all: whether the caller may read the whole index.
    """
    counts = status.counts
    cache = CacheOut(hits=status.cache_hits, misses=status.cache_misses)
    return StatusOut(
        version=__version__,
        profile=profile.name,
        index_version=index_version,
        notice=profile.notice,
        uptime_s=round(status.uptime_s, 3),
        ready=ready,
        checks=checks_out(status.checks, reads_all=reads_all),
        store=status.product,
        channels=[str(channel) for channel in status.channels],
        entries={str(collection): count for collection, count in status.entries.items()} if reads_all else {},
        assets=status.assets if reads_all else None,
        searches=counts.searches if reads_all else None,
        searches_failed=counts.failed if reads_all else None,
        searches_partial=counts.partial if reads_all else None,
        store_calls=status.store_calls if reads_all else None,
        vector_cache=cache if reads_all else None,
    )
