"""Keeps token buckets by name, in memory or in Redis, which replicas share.

A bucket holds a burst of tokens at most, and gets them back at its rate. One number is kept of each: the time at which
it is full again, from which what it holds follows (the generic cell rate algorithm, ITU-T I.371, annex A).
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from penstock.errors import ConfigError

if TYPE_CHECKING:
    from redis.asyncio import Redis

logger = logging.getLogger(__name__)

_REDIS_TIMEOUT_S = 0.25
# While Redis does not answer, each replica counts alone, and requests do not wait for another timeout.
_AWAY_S = 5.0
_KEYS = "penstock:rate:"
_SCHEMES = ("redis://", "rediss://")
_ROUNDING = 1e-6  # of a token: sums of intervals are not exact
_USES_PER_SWEEP = 4096  # of memory, from which full buckets are then removed: callers come and go

# By the clock of Redis, as those of replicas differ. Keys expire when their bucket is full.
_TAKE = """
local time = redis.call('TIME')
local now_s = tonumber(time[1]) + tonumber(time[2]) / 1e6
local full_in_s = math.max(tonumber(redis.call('GET', KEYS[1]) or '0') - now_s, 0)
local then_s = full_in_s + tonumber(ARGV[1])
if then_s > tonumber(ARGV[2]) then return {0, string.format('%.6f', full_in_s)} end
redis.call('SET', KEYS[1], string.format('%.6f', now_s + then_s), 'PX', math.ceil(then_s * 1000))
return {1, string.format('%.6f', then_s)}
"""


@dataclass(frozen=True, slots=True)
class Bucket:
    """The size of a token bucket.

    Attributes:
        per_s: tokens that it gets.
        burst: tokens that it holds at most.
    """

    per_s: float
    burst: int

    @property
    def fill_s(self) -> float:
        """Seconds from empty to full."""
        return self.burst / self.per_s


@dataclass(frozen=True, slots=True)
class RateUsage:
    """The use of a rate after a request.

    Attributes:
        admitted: whether the request is within the rate.
        bucket: of the rate.
        remaining: requests that may follow immediately.
        full_s: seconds until a whole burst may.
        wait_s: seconds until another request may.
    """

    admitted: bool
    bucket: Bucket
    remaining: int
    full_s: float
    wait_s: float


class _Buckets(Protocol):
    """Keeps buckets by name."""

    async def take(self, name: str, bucket: Bucket) -> tuple[bool, float]:
        """Takes a token if there is one. Returns whether there was, and in how many seconds the bucket is full."""


class Rates:
    """Counts requests by name. Belongs to one event loop.

    Args:
        burst_s: what a rate gives in this time may come in one burst.
        redis_url: of the Redis that replicas share; empty: each counts alone.
        clock: monotonic seconds.

    Raises:
        ConfigError: the address is none.
    """

    def __init__(self, burst_s: float, redis_url: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._burst_s = burst_s
        self._clock = clock
        self._own = _MemoryBuckets(clock)
        self._shared = _RedisBuckets(_redis(redis_url)) if redis_url else None
        self._away_until_s = -math.inf

    def bucket(self, per_s: float) -> Bucket:
        """Returns the bucket of a rate, which holds at least one token."""
        return Bucket(per_s, max(1, round(per_s * self._burst_s)))

    async def use(self, name: str, per_s: float) -> RateUsage:
        """Counts a request, unless it is beyond the rate of its name."""
        if self._shared is not None and self._clock() >= self._away_until_s:
            try:
                return await self._use(self._shared, name, per_s)
            except _AwayError as exc:
                self._away_until_s = self._clock() + _AWAY_S
                logger.warning("rates are counted by this replica alone, as Redis does not answer: %s", exc)
        return await self._use(self._own, name, per_s)

    async def _use(self, buckets: _Buckets, name: str, per_s: float) -> RateUsage:
        bucket = self.bucket(per_s)
        admitted, full_s = await buckets.take(name, bucket)
        tokens = bucket.burst - full_s * per_s
        remaining = max(0, math.floor(tokens + _ROUNDING))
        return RateUsage(admitted, bucket, remaining, full_s, 0.0 if remaining else (1 - tokens) / per_s)


class _AwayError(Exception):
    """Redis does not answer."""


class _MemoryBuckets:
    """Keeps the buckets of one replica."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._full_at_s: dict[str, float] = {}
        self._uses = 0

    async def take(self, name: str, bucket: Bucket) -> tuple[bool, float]:
        """Takes a token if there is one, as `_Buckets` does."""
        now_s = self._clock()
        self._sweep(now_s)
        full_in_s = max(self._full_at_s.get(name, now_s) - now_s, 0.0)
        then_s = full_in_s + 1 / bucket.per_s
        if then_s > _most_s(bucket):
            return False, full_in_s
        self._full_at_s[name] = now_s + then_s
        return True, then_s

    def _sweep(self, now_s: float) -> None:
        self._uses += 1
        if self._uses % _USES_PER_SWEEP == 0:
            self._full_at_s = {name: full_s for name, full_s in self._full_at_s.items() if full_s > now_s}


class _RedisBuckets:
    """Keeps the buckets of all replicas."""

    def __init__(self, client: Redis) -> None:
        self._take: Callable[..., Awaitable[Any]] = client.register_script(_TAKE)

    async def take(self, name: str, bucket: Bucket) -> tuple[bool, float]:
        """Takes a token if there is one, as `_Buckets` does. Raises _AwayError if Redis does not answer."""
        from redis.exceptions import RedisError

        try:
            admitted, full_in_s = await self._take(keys=[_KEYS + name], args=[1 / bucket.per_s, _most_s(bucket)])
        except (RedisError, OSError) as exc:
            raise _AwayError(str(exc)) from exc
        return bool(admitted), float(full_in_s)


def _most_s(bucket: Bucket) -> float:
    """Returns the seconds that a bucket may need until it is full."""
    return bucket.fill_s + _ROUNDING / bucket.per_s


def _redis(url: str) -> Redis:
    if not url.startswith(_SCHEMES):
        raise ConfigError("limits.redis_url is no address of a Redis: redis://host:6379, or rediss:// with TLS")
    try:
        from redis.asyncio import Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
    except ImportError as exc:
        raise ConfigError("limits.redis_url needs the client of Redis: install penstock[redis]") from exc
    try:
        return Redis.from_url(
            url,
            socket_timeout=_REDIS_TIMEOUT_S,
            socket_connect_timeout=_REDIS_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),  # by default it tries again for seconds
        )
    except ValueError as exc:
        raise ConfigError("limits.redis_url is no address of a Redis") from exc  # which has a password in it
