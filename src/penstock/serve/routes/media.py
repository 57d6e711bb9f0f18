"""`GET /v1/media/{sha256}`: shown by the browser where that is harmless, saved to disk otherwise.

Media are whatever a producer sent, so nothing in them may run under this origin: the content type is sniffed from the
bytes, browsers must not guess another, scripts are forbidden, and types that can hold a script become attachments.
"""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from penstock.media.sniff import sniff
from penstock.media.types.text import PLAIN
from penstock.serve import problems
from penstock.serve.dependencies import MediaDependency

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
    )
)
_INLINE_FAMILIES = ("audio/", "video/")
# Content under a hash never changes, but it may be deleted: hence an hour only.
_CACHE_CONTROL = "private, max-age=3600, immutable"

router = APIRouter(tags=["media"])


@router.get("/v1/media/{sha256}", response_class=Response, responses=problems.RESPONSES)
async def media(sha256: str, request: Request, service: MediaDependency) -> Response:
    """Returns the media that the `media_url` of a hit names."""
    return media_response(sha256, await service.read(sha256), request.headers.get("if-none-match"))


def media_response(sha256: str, data: bytes, if_none_match: str | None) -> Response:
    """Returns the media, or 304 if the client has them already."""
    etag = f'"{sha256}"'
    headers = {"ETag": etag, "Cache-Control": _CACHE_CONTROL}
    if if_none_match is not None and etag in if_none_match:
        return Response(status_code=304, headers=headers)
    mime = sniff(data, declared=None).mime
    inline = mime in _INLINE or mime.startswith(_INLINE_FAMILIES)
    return Response(
        data,
        media_type=mime if inline else "application/octet-stream",
        headers={
            **headers,
            "Content-Disposition": "inline" if inline else f'attachment; filename="{sha256[:16]}"',
            "Content-Security-Policy": "default-src 'none'; img-src 'self'; media-src 'self'; sandbox",
            "X-Content-Type-Options": "nosniff",
            "Cross-Origin-Resource-Policy": "same-origin",
        },
    )
