"""`GET /healthz`, `/readyz` and `/v1/status`."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from penstock.serve.dependencies import StatusDependency
from penstock.serve.schemas.status import HealthOut, ReadinessOut, StatusOut, status_out
from penstock.serve.use_cases.status import OK

router = APIRouter(tags=["status"])


@router.get("/healthz")
async def healthz() -> HealthOut:
    """Answers as long as the process runs."""
    return HealthOut()


@router.get("/readyz", response_model=ReadinessOut, responses={503: {"model": ReadinessOut}})
async def readyz(service: StatusDependency) -> Response:
    """Returns whether searches can be answered; 503 if not."""
    checks = await service.checks()
    ready = _all_ok(checks)
    body = ReadinessOut(ready=ready, checks=dict(checks))
    return JSONResponse(body.model_dump(), status_code=200 if ready else 503)


@router.get("/v1/status")
async def status(service: StatusDependency) -> StatusOut:
    """Returns the state of the query plane, as `penstock status` shows it."""
    report = await service.status()
    return status_out(report, profile=service.profile, ready=_all_ok(report.checks))


def _all_ok(checks: Mapping[str, str]) -> bool:
    return all(result == OK for result in checks.values())
