"""`POST /v1/check`."""

from __future__ import annotations

from fastapi import APIRouter

from penstock.auth import Permission
from penstock.serve import problems
from penstock.serve.authentication import permitted
from penstock.serve.dependencies import CheckDependency, ChooseAccess
from penstock.serve.limits.admission import admit
from penstock.serve.schemas.check import CheckBody, CheckOut, check_out

PATH = "/v1/check"

router = APIRouter(tags=["ask"], route_class=permitted(Permission.ASK))


@router.post(PATH, responses=problems.RESPONSES)
async def check(body: CheckBody, choose_access: ChooseAccess, service: CheckDependency) -> CheckOut:
    """Checks each sentence of an answer against the sources that it cites, and repairs its citations."""
    access = choose_access(body.tenant or None)
    await admit(access.tenant)
    return check_out(await service.check(body.answer, body.sources, access=access))
