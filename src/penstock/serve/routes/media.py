"""`GET /v1/media/{sha256}`: shown or played by the browser where that is harmless, saved to disk otherwise.

Media are whatever a producer sent, so nothing in them may run under this origin: the content type is sniffed from the
bytes, browsers must not guess another, scripts are forbidden, and types that can hold a script become attachments.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from penstock.media.types.text import PLAIN
from penstock.serve import problems
from penstock.serve.byte_ranges import ByteRange, UnsatisfiableRangeError, requested_range
from penstock.serve.dependencies import MediaDependency, MediaReferencesDependency
from penstock.serve.event_stream import gone
from penstock.serve.linked_routes import LinkedRoute, MediaAccessDependency
from penstock.serve.use_cases.byte_budget import ByteBudget
from penstock.serve.use_cases.media import MAX_RANGE_BYTES, MediaDescription

_PDF = "application/pdf"
_INLINE = frozenset(
    (
        "image/jpeg",
        "image/png",
        "image/gif",
        "image/webp",
        "image/avif",
        "image/bmp",
        "image/tiff",
        "image/x-icon",
        PLAIN,
        _PDF,
    )
)
_INLINE_FAMILIES = ("audio/", "video/")
# Attachments that programs open by the suffix of their names.
_OFFICE = "application/vnd.openxmlformats-officedocument"
_SUFFIXES = {
    f"{_OFFICE}.wordprocessingml.document": ".docx",
    f"{_OFFICE}.presentationml.presentation": ".pptx",
    f"{_OFFICE}.spreadsheetml.sheet": ".xlsx",
    "application/epub+zip": ".epub",
    "message/rfc822": ".eml",
}
# After it a client that has not read its whole answer no longer keeps others from theirs.
_MAX_SENDING_S = 600.0
# Content under a hash never changes, but it may be deleted: hence an hour only.
_CACHE_CONTROL = "private, max-age=3600, immutable"
_BYTES: dict[str, Any] = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_RESPONSES: dict[int | str, problems.OpenApiResponse] = {
    **problems.RESPONSES,
    200: {"description": "All bytes, in the type that they show", "content": _BYTES},
    206: {
        "description": "The first 4 MiB of the bytes of the header `Range`; `Content-Range` says which they are",
        "content": _BYTES,
    },
    304: {"description": "The client has them: `If-None-Match` has their hash"},
    404: problems.response("The media are not in the asset store"),
    416: problems.response("The header `Range` has none of the bytes; `Content-Range` has their number"),
    429: problems.response("Too many bytes of whole media are being sent; ranges are sent still"),
}

router = APIRouter(tags=["media"], route_class=LinkedRoute)


@router.get("/v1/media/{sha256}", response_class=Response, responses=_RESPONSES)
@router.head("/v1/media/{sha256}", include_in_schema=False)
async def media(
    sha256: str,
    request: Request,
    service: MediaDependency,
    references: MediaReferencesDependency,
    media_access: MediaAccessDependency,
) -> Response:
    """Returns the media that the `media_url` of a hit names, or the range of their bytes that a player requests.

    Without the signature of a link the caller needs the permission `media`, and an entry that it may read has to refer
    to them: otherwise they are not found, whether they exist or not.
    """
    if media_access.needs_entry:
        await references.check(sha256, media_access.access)
    described = await service.describe(sha256)
    etag, requested = f'"{sha256}"', request.headers
    headers = {"ETag": etag, "Cache-Control": _CACHE_CONTROL, "Accept-Ranges": "bytes"}
    if etag in requested.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    headers |= _content_headers(described)
    if request.method == "HEAD":
        return Response(headers={**headers, "Content-Length": str(described.size)})
    try:
        span = requested_range(requested.get("range"), requested.get("if-range"), etag=etag, size=described.size)
    except UnsatisfiableRangeError as exc:
        return _unsatisfiable(request, described, exc)
    status = 200 if span is None else 206
    span = (
        ByteRange(0, described.size)
        if span is None
        else ByteRange(span.start, min(span.end, span.start + MAX_RANGE_BYTES))
    )
    headers["Content-Length"] = str(span.end - span.start)
    if status == 206:
        headers["Content-Range"] = f"bytes {span.start}-{span.end - 1}/{described.size}"
    pieces = service.pieces(described, span.start, span.end)
    first = await anext(pieces, b"")  # what is wrong with the store is known before the status is sent
    body = _all_of(first, pieces)
    if span.end - span.start <= MAX_RANGE_BYTES:
        return StreamingResponse(body, status_code=status, headers=headers)
    return _LargeResponse(body, headers, service.whole_answers, described.size)


class _LargeResponse(StreamingResponse):
    """Sends whole media, and counts their bytes until the client has them or has gone."""

    def __init__(self, body: AsyncIterator[bytes], headers: Mapping[str, str], budget: ByteBudget, size: int) -> None:
        super().__init__(body, headers=headers)
        self._budget = budget
        self._size = size

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._budget.held(self._size):
            await super().__call__(scope, receive, send)
            with suppress(TimeoutError):  # behind Ray Serve the answer ends long before the client has it
                await asyncio.wait_for(gone(receive), _MAX_SENDING_S)


async def _all_of(first: bytes, others: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in others:
        yield piece


def _content_headers(described: MediaDescription) -> Mapping[str, str]:
    mime = described.mime
    inline = mime in _INLINE or mime.startswith(_INLINE_FAMILIES)
    content_type = mime if inline else "application/octet-stream"
    file_name = f"{described.sha256[:16]}{_SUFFIXES.get(mime, '')}"
    # Browsers show no PDF in a sandbox; scripts in one run in the viewer's own, and have no origin.
    own = "object-src 'self'" if mime == _PDF else "img-src 'self'; media-src 'self'; sandbox"
    return {
        "Content-Type": f"{content_type}; charset=utf-8" if content_type == PLAIN else content_type,
        "Content-Disposition": "inline" if inline else f'attachment; filename="{file_name}"',
        # Of a page that a browser makes to show the media alone; an element of another page has that page's policy.
        "Content-Security-Policy": f"default-src 'none'; {own}",
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Resource-Policy": "same-origin",
    }


def _unsatisfiable(request: Request, described: MediaDescription, exc: UnsatisfiableRangeError) -> Response:
    return problems.problem(
        status=416,
        kind="range",
        title="Range not satisfiable",
        detail=f"{exc}: ask for a range within them",
        instance=request.url.path,
        headers={"Content-Range": f"bytes */{described.size}"},
    )
