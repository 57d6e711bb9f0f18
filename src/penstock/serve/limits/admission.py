"""Admits requests within the limits of their caller and of their tenant.

    middleware ─► `begin`: the requests of the caller and of its only tenant, before the body is read; ends what is in
        progress with the answer
    `named_tenant`, routes ─► `admit`: the requests of the tenant that the body names, before it is parsed
    use cases ─► `admit`: images, voice and answers

The admission of a request is in a context variable, as the tenant is known deep below the middleware.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from enum import StrEnum

from penstock.config import LimitsSettings, RequestLimits
from penstock.errors import OverloadedError
from penstock.observability import metrics
from penstock.query.types import SearchRequest
from penstock.serve.limits.rates import Rates, RateUsage

_BUSY_RETRY_S = 1.0


class Kind(StrEnum):
    """The kinds of requests that have limits of their own."""

    REQUESTS = "requests"
    IMAGES = "images"
    VOICE = "voice"
    ANSWERS = "answers"
    EVENTS = "events"


class LimitedError(OverloadedError):
    """A request beyond the limits of its caller or its tenant."""


class Admissions:
    """Admits requests, and knows which are in progress. Belongs to one event loop.

    Args:
        settings: the limits.
        rates: counts requests.
    """

    def __init__(self, settings: LimitsSettings, rates: Rates) -> None:
        self.settings = settings
        self.rates = rates
        self.in_progress: Counter[str] = Counter()  # by name

    @property
    def is_unlimited(self) -> bool:
        """Returns whether there are no limits."""
        return self.settings.caller == self.settings.tenant == RequestLimits()

    def end(self, name: str) -> None:
        """Ends one that is in progress."""
        self.in_progress[name] -= 1
        if not self.in_progress[name]:
            del self.in_progress[name]


def open_admissions(settings: LimitsSettings) -> Admissions:
    """Returns the admissions of a replica. Raises ConfigError if the address of Redis is none, or cannot be read."""
    return Admissions(settings, Rates(settings.burst_s, settings.secret("redis_url")))


class Hold:
    """A claim on `max_…` that outlives its request: of an answer that continues although its client has gone.

    Args:
        admissions: of the replica; None: nothing is held.
        names: that are in progress.
    """

    def __init__(self, admissions: Admissions | None = None, names: Sequence[str] = ()) -> None:
        self._admissions = admissions
        self._names = list(names)

    def end(self) -> None:
        """Ends what is in progress. Once it has ended, this changes nothing."""
        while self._names and self._admissions is not None:
            self._admissions.end(self._names.pop())


class Admission:
    """The limits that one request has used, until it ends.

    Args:
        admissions: of the replica.
        subject: the caller; None: the request has a signed link in place of credentials.
        outer: of the request that sends this one within the process; what it has in progress is not counted again.
    """

    def __init__(self, admissions: Admissions, subject: str | None, outer: Admission | None = None) -> None:
        self._admissions = admissions
        self._outer = outer
        self._subject = subject
        self._names: set[str] = set()  # that it has used
        self._held: list[str] = []  # that are in progress
        self._ended = False
        self.usages: dict[str, RateUsage] = {}  # by policy

    async def admit(self, tenant: str | None, kinds: Iterable[Kind]) -> None:
        """Uses the limits of the caller, and of a tenant if it is known, each of them once.

        Raises:
            LimitedError: the request is beyond one of them.
        """
        for kind in kinds:
            if self._subject is not None:
                await self._use("caller", self._subject, self._admissions.settings.caller, kind)
            if tenant is not None:
                await self._use("tenant", tenant, self._admissions.settings.tenant, kind)

    def end(self) -> None:
        """Ends what is in progress."""
        self._ended = True
        for name in self._held:
            self._admissions.end(name)
        self._held.clear()

    def hand_over(self, kind: Kind) -> Hold:
        """Returns what this request has in progress of a kind, which no longer ends with it."""
        names = [name for name in self._held if name.split(":", 2)[1] == kind]
        self._held = [name for name in self._held if name not in names]
        return Hold(self._admissions, names)

    async def _use(self, scope: str, owner: str, limits: RequestLimits, kind: Kind) -> None:
        name = f"{scope}:{kind}:{owner}"
        if self._ended or name in self._names:  # it ends while an answer continues whose client has gone
            return
        self._names.add(name)
        at_most: int | None = None if self._is_in_progress(name) else getattr(limits, f"max_{kind}")
        in_progress = self._admissions.in_progress
        if at_most is not None and in_progress[name] >= at_most:
            setting = f"limits.{scope}.max_{kind}"
            raise self._refused(scope, kind, f"{at_most} are in progress ({setting})", _BUSY_RETRY_S)
        if at_most is not None:  # before the rate, which may wait for Redis: others would pass this check while it does
            in_progress[name] += 1
            self._held.append(name)
        per_s: float | None = getattr(limits, f"{kind}_per_s")
        if per_s is not None:
            usage = self.usages[f"{scope}-{kind}"] = await self._admissions.rates.use(name, per_s)
            if not usage.admitted:
                self._release(name)
                setting = f"limits.{scope}.{kind}_per_s"
                rate = f"{per_s:g} per second, {usage.bucket.burst} in a burst ({setting})"
                raise self._refused(scope, kind, rate, usage.wait_s)

    def _is_in_progress(self, name: str) -> bool:
        return self._outer is not None and name in self._outer._held

    def _release(self, name: str) -> None:
        if name in self._held:
            self._held.remove(name)
            self._admissions.end(name)

    def _refused(self, scope: str, kind: Kind, reached: str, retry_after_s: float) -> LimitedError:
        metrics.REQUESTS_LIMITED.labels(scope, kind).inc()
        return LimitedError(f"too many {kind} of this {scope}: the limit is {reached}", retry_after_s=retry_after_s)


_current: ContextVar[Admission | None] = ContextVar("admission", default=None)


async def admit(tenant: str, *kinds: Kind) -> None:
    """Uses the limits of the present request, of its caller and of a tenant. Raises as `Admission.admit`."""
    admission = _current.get()
    if admission is not None:
        await admission.admit(tenant, (Kind.REQUESTS, *kinds))


def is_limited() -> bool:
    """Returns whether the present request has limits."""
    return _current.get() is not None


def hand_over(kind: Kind) -> Hold:
    """Returns what the present request has in progress of a kind, which no longer ends with it."""
    admission = _current.get()
    return Hold() if admission is None else admission.hand_over(kind)


def kinds_of(request: SearchRequest) -> tuple[Kind, ...]:
    """Returns the kinds of a search that have limits of their own."""
    kinds = (Kind.IMAGES, request.image is not None), (Kind.VOICE, request.audio is not None)
    return tuple(kind for kind, is_one in kinds if is_one)


@contextmanager
def begin(admissions: Admissions, subject: str | None) -> Iterator[Admission]:
    """Yields the admission of a request, which is the present one until it ends."""
    admission = Admission(admissions, subject, outer=_current.get())
    token = _current.set(admission)
    try:
        yield admission
    finally:
        _current.reset(token)
        admission.end()
