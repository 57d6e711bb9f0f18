"""`GET /healthz`, `/readyz` and `/v1/status`."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from penstock.auth import Permission
from penstock.serve import problems
from penstock.serve.authentication import has_permission, permitted, principal_of
from penstock.serve.dependencies import CallerOfRequest, StatusDependency
from penstock.serve.schemas.status import HealthOut, ReadinessOut, StatusOut, checks_out, status_out
from penstock.serve.use_cases.status import OK

router = APIRouter(tags=["status"], route_class=permitted(Permission.STATUS))
open_router = APIRouter(tags=["status"], route_class=permitted(None))


@open_router.get("/healthz")
async def healthz() -> HealthOut:
    """Answers as long as the process runs."""
    return HealthOut()


@open_router.get("/readyz", response_model=ReadinessOut, responses={503: {"model": ReadinessOut}})
async def readyz(request: Request, service: StatusDependency) -> Response:
    """Returns whether searches can be answered, 503 if not; the checks only to those with the permission `status`."""
    checks = await service.checks()
    ready = _all_ok(checks)
    shown: dict[str, str] = {}
    if has_permission(request.scope, Permission.STATUS):
        shown = checks_out(checks, reads_all=principal_of(request.scope).reads_all)
    body = ReadinessOut(ready=ready, checks=shown)
    return JSONResponse(body.model_dump(), status_code=200 if ready else 503)


@router.get("/v1/status", responses=problems.REFUSED)
async def status(caller: CallerOfRequest, service: StatusDependency) -> StatusOut:
    """Returns the state of the query plane, as `penstock status` shows it."""
    report = await service.status()
    return status_out(
        report,
        profile=service.profile,
        index_version=service.index_version,
        ready=_all_ok(report.checks),
        reads_all=caller.reads_all,
    )


def _all_ok(checks: Mapping[str, str]) -> bool:
    return all(result == OK for result in checks.values())
