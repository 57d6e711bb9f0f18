"""How stored media are handed to a browser: shown where that is harmless, saved to disk otherwise.

Media are whatever somebody produced, so nothing in them may run under this origin: the type is the one found in the
bytes, browsers are told not to guess another, scripts are forbidden, and what can hold a script is an attachment.
"""

from __future__ import annotations

from fastapi import Response

from penstock.media.sniff import PLAIN, sniff

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
# Content under a hash never changes; that it may be deleted is why it is kept for an hour only.
_CACHE_CONTROL = "private, max-age=3600, immutable"


def media_response(sha256: str, data: bytes, if_none_match: str | None) -> Response:
    """The media, or 304 where the client has them already."""
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
