"""Refuses the requests of callers beyond their limits before their bodies are read, and shows what is left."""

from __future__ import annotations

import math

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from penstock.auth import Principal
from penstock.serve.limits.admission import Admission, Admissions, Kind, LimitedError, begin
from penstock.serve.limits.rates import Bucket
from penstock.serve.problems import problem

_LIMITED = "/v1/"
_TOOLS = "/mcp"  # whose tools send requests for the other paths within the process


class LimitRequests:
    """Middleware that admits requests within their limits. It stands behind the authentication.

    Answers have the fields `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers) of each rate that
    the request has used.

    Args:
        app: the application behind it.
        admissions: of the replica.
    """

    def __init__(self, app: ASGIApp, *, admissions: Admissions) -> None:
        self._app = app
        self._admissions = admissions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Calls the application, or answers 429."""
        if self._admissions.is_unlimited or scope["type"] != "http" or not _is_limited(scope["path"]):
            await self._app(scope, receive, send)
            return
        caller = scope.get("state", {}).get("principal")
        known = caller if isinstance(caller, Principal) else None
        with begin(self._admissions, None if known is None else known.subject) as admission:

            async def with_fields(message: Message) -> None:
                if message["type"] == "http.response.start":
                    fields = rate_fields(admission)
                    message = {**message, "headers": [*message.get("headers", ()), *fields]}
                await send(message)

            try:
                await admission.admit(None if known is None else _only_tenant(known), [Kind.REQUESTS])
            except LimitedError as exc:
                response = problem(
                    status=429,
                    kind="overloaded",
                    title="Too many requests",
                    detail=str(exc),
                    instance=scope["path"],
                    headers={"Retry-After": str(max(1, math.ceil(exc.retry_after_s)))},
                )
                await response(scope, receive, with_fields)
                return
            await self._app(scope, receive, with_fields)


def _is_limited(path: str) -> bool:
    return path.startswith(_LIMITED) or path == _TOOLS


def _only_tenant(caller: Principal) -> str | None:
    """Returns the tenant of all requests of a caller; None: it has several, and each request names one."""
    return next(iter(caller.tenants)) if caller.tenants is not None and len(caller.tenants) == 1 else None


def rate_fields(admission: Admission) -> list[tuple[bytes, bytes]]:
    """Returns the header fields of the rates that a request has used; none if it has used none."""
    usages = admission.usages.items()
    if not usages:
        return []
    policies = ", ".join(_policy(policy, usage.bucket) for policy, usage in usages)
    left = ", ".join(f'"{policy}";r={usage.remaining};t={math.ceil(usage.full_s)}' for policy, usage in usages)
    return [(b"ratelimit-policy", policies.encode()), (b"ratelimit", left.encode())]


def _policy(name: str, bucket: Bucket) -> str:
    """Returns a rate as the draft has it: a quota, which is a burst, and the seconds in which it comes back."""
    return f'"{name}";q={bucket.burst};w={math.ceil(bucket.fill_s)}'
