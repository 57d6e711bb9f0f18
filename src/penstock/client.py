"""The HTTP client of the query plane."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import httpx

from penstock.config import read_endpoints, start_hint
from penstock.errors import PenstockError, QueryError, UnavailableError

if TYPE_CHECKING:
    from penstock.config import Settings

JsonObject: TypeAlias = dict[str, Any]  # a request or response; docs/search.md describes the fields

_MARGIN_S = 10.0  # beyond the deadline that the server enforces


def query_url(settings: Settings) -> str:
    """Returns the address of the query plane: that of the running `penstock up`, else the configured one."""
    running = read_endpoints(settings.data_dir)
    return running.query_url if running is not None else f"http://{settings.query.host}:{settings.query.port}"


def post_search(url: str, body: JsonObject, settings: Settings) -> JsonObject:
    """Sends a request to `/v1/search` and returns the JSON of the response.

    Raises:
        QueryError: the request is invalid; the message is the server's.
        UnavailableError: the query plane does not answer, or one of its dependencies does not.
    """
    timeout_s = (body.get("deadline_ms") or settings.query.deadline_ms) / 1000 + _MARGIN_S
    if "audio" in body:
        timeout_s += settings.query.transcription_timeout_s
    return _answer(url, settings, "POST", "/v1/search", timeout_s=timeout_s, body=body)


def get_status(url: str, settings: Settings) -> JsonObject:
    """Returns the status of the query plane as JSON. Raises the same errors as `post_search`."""
    return _answer(url, settings, "GET", "/v1/status", timeout_s=_MARGIN_S)


def _answer(
    url: str, settings: Settings, method: str, path: str, *, timeout_s: float, body: JsonObject | None = None
) -> JsonObject:
    try:
        response = httpx.request(method, url.rstrip("/") + path, json=body, timeout=timeout_s)
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        why = str(exc) or type(exc).__name__
        raise UnavailableError(f"no query plane answers at {url} ({why}). {start_hint(settings)}") from exc
    if response.is_success:
        answer: JsonObject = response.json()
        return answer
    raise _problem(response)


def _problem(response: httpx.Response) -> PenstockError:
    """Translates a problem document (RFC 9457) into an error."""
    try:
        document = response.json()
        detail = str(document["detail"])
    except (ValueError, KeyError, TypeError):
        document, detail = {}, f"{response.request.url} answered {response.status_code}"
    if response.status_code in (429, 503):
        return UnavailableError(detail)
    if response.is_client_error:
        return QueryError(detail, status=response.status_code, field=document.get("field"))
    return PenstockError(f"the query plane failed: {detail}")
