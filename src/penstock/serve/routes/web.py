"""`GET /`: the page, and the files that it loads from `/web/{version}/`.

The page shows what any producer sent, so it may run nothing but its own files: no script or style in the markup, no
other host, no markup from text (Trusted Types), and no page around it.
"""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

from penstock.serve.authentication import permitted
from penstock.serve.web_files import INDEX, WebFile, web_files

CONTENT_SECURITY_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",  # images to search by are shown from memory
        "media-src 'self' blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
_INDEX_HEADERS: Final = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Vary": "Accept-Encoding",
}
_REVALIDATED: Final = "no-cache"
_FOR_EVER: Final = "public, max-age=31536000, immutable"
_METHODS: Final = ["GET", "HEAD"]

# The page holds nothing of any tenant: what it shows, it requests with the credentials of its user.
router = APIRouter(include_in_schema=False, route_class=permitted(None))


@router.api_route("/", methods=_METHODS)
async def index(request: Request) -> Response:
    """Returns the page."""
    return _response(web_files().files[INDEX], request, _REVALIDATED, _INDEX_HEADERS)


@router.api_route("/web/{version}/{name}", methods=_METHODS)
async def file(version: str, name: str, request: Request) -> Response:
    """Returns a file of the page.

    While replicas are replaced, a page may ask one of another version for its files. It gets those that are there, and
    browsers do not keep them.
    """
    files = web_files()
    if name == INDEX or name not in files.files:
        raise HTTPException(404)
    return _response(files.files[name], request, _FOR_EVER if version == files.version else _REVALIDATED, {})


def _response(file: WebFile, request: Request, cache_control: str, headers: dict[str, str]) -> Response:
    headers = {**_HEADERS, **headers, "Cache-Control": cache_control, "ETag": file.etag}
    if file.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    content = file.content
    if _takes_gzip(request.headers.get("accept-encoding", "")):
        content = file.compressed
        headers["Content-Encoding"] = "gzip"
    return Response(content, media_type=file.media_type, headers=headers)


def _takes_gzip(accept_encoding: str) -> bool:
    for item in accept_encoding.lower().split(","):
        coding, _, quality = item.partition(";")
        if coding.strip() in ("gzip", "*"):
            return quality.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
