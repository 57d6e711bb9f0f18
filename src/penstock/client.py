"""The HTTP client of the query plane: one request, and its errors in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import httpx

from penstock.config import read_endpoints, start_hint
from penstock.errors import PenstockError, QueryError, UnavailableError

if TYPE_CHECKING:
    from penstock.config import Settings

_MARGIN_S = 10.0  # beyond the deadline that the server keeps itself


def query_url(settings: Settings) -> str:
    """The running `penstock up`'s query plane, else the configured address."""
    running = read_endpoints(settings.data_dir)
    return running.query_url if running is not None else f"http://{settings.query.host}:{settings.query.port}"


def post_search(url: str, body: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """Asks `/v1/search`.

    Returns:
        the answer as JSON.

    Raises:
        QueryError: the request is wrong in itself, in the server's words.
        UnavailableError: nothing answers there, or what it needs does not.
    """
    timeout_s = (body.get("deadline_ms") or settings.query.deadline_ms) / 1000 + _MARGIN_S
    if "audio" in body:
        timeout_s += settings.query.transcription_timeout_s
    return _answer(url, settings, "POST", "/v1/search", timeout_s=timeout_s, body=body)


def get_status(url: str, settings: Settings) -> dict[str, Any]:
    """The query plane's own status. Raises as `post_search` does."""
    return _answer(url, settings, "GET", "/v1/status", timeout_s=_MARGIN_S)


def _answer(
    url: str, settings: Settings, method: str, path: str, *, timeout_s: float, body: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    try:
        response = httpx.request(method, url.rstrip("/") + path, json=body, timeout=timeout_s)
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        why = str(exc) or type(exc).__name__
        raise UnavailableError(f"no query plane answers at {url} ({why}). {start_hint(settings)}") from exc
    if response.is_success:
        answer: dict[str, Any] = response.json()
        return answer
    raise _problem(response)


def _problem(response: httpx.Response) -> PenstockError:
    """A problem document (RFC 9457) as an error of ours."""
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
