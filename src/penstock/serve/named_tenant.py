"""Counts a request among those of the tenant that its body names, before the body is parsed and checked.

Callers of several tenants name one in the body, which may have megabytes of images: those are passed over.
"""

from __future__ import annotations

import msgspec
from starlette.requests import Request

from penstock.auth import Principal, access_of
from penstock.errors import ForbiddenError, QueryError
from penstock.serve.limits.admission import admit, is_limited


class _Options(msgspec.Struct):
    tenant: str | None = None


class _Body(msgspec.Struct):
    """The members that may name the tenant: of Penstock's own routes, and of OpenAI's."""

    tenant: str | None = None
    penstock: _Options | None = None


async def admit_named_tenant(request: Request, caller: Principal) -> None:
    """Uses the limits of the tenant that the body of a request names, if its caller may read it.

    What the body has otherwise, and whether it is valid, is for the route to say: it reads the same body again.

    Raises:
        LimitedError: the request is beyond a limit of the tenant.
    """
    has_one = caller.tenants is not None and len(caller.tenants) == 1  # which was counted before the body came
    if not is_limited() or has_one or "json" not in request.headers.get("content-type", ""):
        return
    try:
        body = msgspec.json.decode(await request.body(), type=_Body)
        named = body.tenant or (None if body.penstock is None else body.penstock.tenant)
        access = None if named is None else access_of(caller, named, default_tenant=named)
    except (msgspec.MsgspecError, UnicodeDecodeError, ForbiddenError, QueryError):
        return
    if access is not None:
        await admit(access.tenant)
