"""Answers every error with a problem document (RFC 9457): the failure, its place and the next step. No tracebacks."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, TypeAlias

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from penstock.errors import (
    ConfigError,
    ForbiddenError,
    OverloadedError,
    PenstockError,
    QueryError,
    TransientError,
    UnauthenticatedError,
    UsageError,
)
from penstock.serve.middleware.security_headers import HEADERS, NOTHING_RUNS

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
# A store that restarts is back within some seconds; more requests would only add to its load.
RETRY_AFTER_UNAVAILABLE_S = 5.0


class Problem(BaseModel):
    """A problem document (RFC 9457), for OpenAPI."""

    type: str = Field(examples=["urn:penstock:problem:query"], description="identifies the kind of problem")
    title: str = Field(examples=["Invalid request"])
    status: int = Field(examples=[400])
    detail: str = Field(examples=["text is empty: send what to search for"])
    instance: str = Field(examples=["/v1/search"], description="the path of the request")
    field: str | None = Field(None, examples=["/text"], description="JSON pointer to the field at fault")


# By the first class that an error is of.
_PROBLEMS: Sequence[tuple[type[PenstockError], int, str, str]] = (
    (UnauthenticatedError, 401, "unauthenticated", "Credentials are missing or invalid"),
    (ForbiddenError, 403, "forbidden", "The credentials do not permit this"),
    (UsageError, 400, "usage", "The request cannot be carried out"),
    (OverloadedError, 429, "overloaded", "Too many requests"),
    (TransientError, 503, "unavailable", "A backend is unavailable"),
)
_SEE_THE_LOG = "The log of the query plane has the error."
_QUERY_TITLES: Mapping[int, str] = {HTTPStatus.NOT_FOUND: "Not found", HTTPStatus.GONE: "The cursor is outdated"}


OpenApiResponse: TypeAlias = dict[str, Any]


def response(description: str) -> OpenApiResponse:
    """Returns an error response, for OpenAPI."""
    return {"description": description, "content": {MEDIA_TYPE: {"schema": Problem.model_json_schema()}}}


RESPONSES: dict[int | str, OpenApiResponse] = {
    code: response(description)
    for code, description in (
        (400, "The request is invalid; `field` points at the fault"),
        (401, "The request has no credentials, or invalid ones"),
        (403, "The credentials do not permit the request, whether what it names exists or not"),
        (410, "The cursor is of another version or of other models: begin with the first page"),
        (413, "The body is larger than the limits allow"),
        (422, "A field has the wrong type, the image cannot be decoded, or the audio has no speech"),
        (429, "Too many requests; `Retry-After` has the seconds to wait"),
        (503, "The store or the encoders do not answer; `Retry-After` has the seconds to wait"),
    )
}
"""The error responses of a route, for OpenAPI."""
REFUSED: dict[int | str, OpenApiResponse] = {code: RESPONSES[code] for code in (401, 403, 429, 503)}
"""The error responses of a route that takes no input, for OpenAPI."""
NOT_FOUND = response("There is no such thing, or it belongs to another tenant")


def install(app: FastAPI) -> None:
    """Makes the application answer every exception with a problem document."""
    app.add_exception_handler(PenstockError, _penstock)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)


def problem(
    *,
    status: int,
    kind: str,
    title: str,
    detail: str,
    instance: str,
    field: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """Returns a response with a problem document. `kind` is the last part of its type."""
    return _response(_document(status, kind, title, detail, instance, field=field), headers)


def problem_of(error: Exception, path: str) -> Problem:
    """Returns the document of an error that a request for this path ended with. No details of unexpected ones."""
    detail = str(error)
    if isinstance(error, QueryError):
        title = _QUERY_TITLES.get(error.status, "Invalid request")
        return _document(error.status, "query", title, detail, path, field=error.field)
    if isinstance(error, ConfigError):  # the caller cannot correct it, and need not know it
        return _document(503, "unavailable", "The query plane is not set up for this", _SEE_THE_LOG, path)
    for kind, status, name, title in _PROBLEMS:
        if isinstance(error, kind):
            return _document(status, name, title, detail, path)
    return _document(500, "internal", "Internal server error", f"The request failed unexpectedly. {_SEE_THE_LOG}", path)


def _document(status: int, kind: str, title: str, detail: str, instance: str, *, field: str | None = None) -> Problem:
    return Problem(
        type=f"urn:penstock:problem:{kind}",
        title=title,
        status=status,
        detail=_encodable(detail),
        instance=_encodable(instance),
        field=None if field is None else _encodable(field),
    )


def _response(document: Problem, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse(
        document.model_dump(exclude_none=True),
        status_code=document.status,
        media_type=MEDIA_TYPE,
        # Here as well, as the answer to what nothing else catches passes by no middleware.
        headers={**HEADERS, "Content-Security-Policy": NOTHING_RUNS, **(headers or {})},
    )


def _encodable(text: str) -> str:
    """Returns what UTF-8 can write: a name in a request may hold half of a surrogate pair."""
    return text.encode("utf-8", "replace").decode()


def _penstock(request: Request, exc: Exception) -> JSONResponse:
    path = request.url.path
    headers = None
    if isinstance(exc, UnauthenticatedError):
        headers = {"WWW-Authenticate": _challenge(exc)}
    elif isinstance(exc, OverloadedError):
        headers = _retry_after(exc.retry_after_s)
    elif isinstance(exc, TransientError | ConfigError):
        logger.warning("%s could not be answered: %s", path, exc)
        headers = _retry_after(RETRY_AFTER_UNAVAILABLE_S)
    elif not isinstance(exc, UsageError):
        return _unexpected(request, exc)
    return _response(problem_of(exc, path), headers)


def _validation(request: Request, exc: Exception) -> JSONResponse:
    """Reports the first finding of pydantic, with a pointer to its field."""
    assert isinstance(exc, RequestValidationError)
    findings: Sequence[Mapping[str, Any]] = exc.errors()
    first = findings[0]
    if first["type"] == "json_invalid":
        return problem(
            status=400,
            kind="malformed",
            title="The body is not JSON",
            detail=f"the body is not valid JSON: {first.get('ctx', {}).get('error', first['msg'])}",
            instance=request.url.path,
        )
    more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
    pointer = _pointer(first["loc"])
    return problem(
        status=422,
        kind="validation",
        title="A field is invalid",
        detail=f"{pointer or 'the body'}: {first['msg']}{more}. The schema is at /docs.",
        instance=request.url.path,
        field=pointer or None,
    )


def _http(request: Request, exc: Exception) -> JSONResponse:
    """Reports what the framework raises itself: no such path, wrong method, body too large."""
    assert isinstance(exc, HTTPException)
    phrase = HTTPStatus(exc.status_code).phrase
    detail = exc.detail if exc.detail != phrase else f"{request.method} {request.url.path}: {phrase.lower()}"
    return problem(
        status=exc.status_code,
        kind="http",
        title=phrase,
        detail=detail,
        instance=request.url.path,
        headers=exc.headers,
    )


def _unexpected(request: Request, exc: Exception) -> JSONResponse:
    """Logs the exception in full, and sends the client none of it."""
    logger.error("%s %s failed", request.method, request.url.path, exc_info=exc)
    return _response(problem_of(exc, request.url.path))


def _pointer(location: Sequence[int | str]) -> str:
    """Returns /filter/a~1b (RFC 6901) for ("body", "filter", "a/b"), and /name for a query or path parameter."""
    parts = [str(part).replace("~", "~0").replace("/", "~1") for part in location[1:]]
    return "".join(f"/{part}" for part in parts)


def _challenge(error: UnauthenticatedError) -> str:
    """Returns the challenge of RFC 6750, section 3: without an error code for a request without credentials."""
    challenge = 'Bearer realm="penstock"'
    return f'{challenge}, error="invalid_token"' if error.has_credentials else challenge


def _retry_after(seconds: float) -> dict[str, str]:
    return {"Retry-After": str(max(1, math.ceil(seconds)))}
