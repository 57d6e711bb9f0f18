"""`GET /v1/entries/{id}/thumbnail`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from penstock.serve import problems
from penstock.serve.dependencies import ThumbnailDependency
from penstock.serve.linked_routes import LinkedRoute, MediaAccessDependency
from penstock.serve.use_cases.thumbnails import WIDTHS_PX

_HEADERS = {"X-Content-Type-Options": "nosniff", "Cross-Origin-Resource-Policy": "same-origin"}
# An entry keeps its id while its asset gets other media or other words.
_CACHE_CONTROL = "private, max-age=300"
_JPEG: problems.OpenApiResponse = {
    "description": "A JPEG",
    "content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}},
}

router = APIRouter(tags=["media"], route_class=LinkedRoute)


@router.get(
    "/v1/entries/{entry_id}/thumbnail",
    response_class=Response,
    responses={
        **problems.RESPONSES,
        200: _JPEG,
        304: {"description": "The client has it"},
        404: problems.response("The tenant has no such entry, or it has no image that can be shown"),
    },
)
async def thumbnail(
    entry_id: str,
    request: Request,
    service: ThumbnailDependency,
    media_access: MediaAccessDependency,
    *,
    w: Annotated[
        int,
        Query(
            ge=1, le=WIDTHS_PX[-1], description=f"longer side, pixels; rounded up to one of {WIDTHS_PX}", examples=[320]
        ),
    ] = 320,
) -> Response:
    """Returns a small JPEG of an image or a frame.

    Speech and sounds of a video have the frame that is shown at their middle.
    """
    small = await service.read(entry_id, access=media_access.access, width_px=w)
    headers = {**_HEADERS, "ETag": small.etag, "Cache-Control": _CACHE_CONTROL}
    if small.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(small.data, media_type="image/jpeg", headers=headers)
