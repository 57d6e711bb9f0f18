"""Calls of the command line, whose query plane is that of the settings. They are sent once: a user may repeat them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast
from urllib.parse import quote

import httpx

from penstock.client.problems import error_of
from penstock.client.requests import SearchRequestJson, WatchRequestJson
from penstock.client.results import QueryStatusJson, SearchResultJson, WatchesJson, WatchJson
from penstock.errors import PenstockError, UnavailableError
from penstock.observability import tracing
from penstock.observability.tracing import Header

if TYPE_CHECKING:  # settings take longer to import than the rest of the client
    from penstock.config import Settings

_SEARCH = "/v1/search"
_WATCH_TIMEOUT_S = 30.0  # a search of the whole index, and an acknowledgement of Kafka
_MARGIN_S = 10.0  # beyond the deadline that the server enforces


def query_url(settings: Settings) -> str:
    """Returns the address of the query plane: `query.url`, that of the running `penstock up`, or host and port."""
    from penstock.config import read_endpoints

    if settings.query.url is not None:
        return settings.query.url
    running = read_endpoints(settings.data_dir)
    scheme = "https" if settings.query.has_tls else "http"
    return running.query_url if running is not None else f"{scheme}://{settings.query.host}:{settings.query.port}"


def key_source(url: str, settings: Settings) -> Callable[[], str] | None:
    """Returns a function that returns the API key of the settings for an address; None: they have none.

    It reads the file of the key before every request, so that a rotated key counts without a restart.

    Raises:
        ConfigError: the file cannot be read, or contains no key.
    """
    from penstock.config import api_key_for

    return None if api_key_for(url, settings) is None else lambda: api_key_for(url, settings) or ""


def tenant_to_send(tenant: str | None, url: str, settings: Settings) -> str | None:
    """Returns the tenant that a request names: the given one, else that of the settings.

    None where only a default would be named to a query plane that knows the tenants of the API key.
    """
    from penstock.config import api_key_for

    if tenant is None and "tenant" not in settings.model_fields_set and api_key_for(url, settings) is not None:
        return None
    return tenant or settings.tenant


def post_search(url: str, body: SearchRequestJson, settings: Settings) -> SearchResultJson:
    """Sends a search to `/v1/search` and returns the JSON of the result. It is traced if the process traces.

    Raises:
        QueryError: the request is invalid; with the server's message.
        UnavailableError: no query plane responds at the address, or one of its backends is unavailable.
    """
    timeout_s = (body.get("deadline_ms") or settings.query.deadline_ms) / 1000 + _MARGIN_S
    if "audio" in body:
        timeout_s += settings.query.transcription_timeout_s
    span = tracing.current().call(_SEARCH)
    try:
        result = _request(url, settings, "POST", _SEARCH, timeout_s=timeout_s, body=body, headers=span.headers)
    except PenstockError:
        span.end("failed", failed=True)
        raise
    span.end("answered")
    return cast(SearchResultJson, result)


def get_status(url: str, settings: Settings) -> QueryStatusJson:
    """Returns the JSON of the query plane's status. Raises the errors of `post_search`."""
    return cast(QueryStatusJson, _request(url, settings, "GET", "/v1/status", timeout_s=_MARGIN_S))


def create_watch(url: str, body: WatchRequestJson, settings: Settings) -> WatchJson:
    """Creates a watch and returns its JSON. Raises the errors of `post_search`."""
    return cast(WatchJson, _request(url, settings, "POST", "/v1/watches", timeout_s=_WATCH_TIMEOUT_S, body=body))


def list_watches(url: str, tenant: str | None, settings: Settings) -> WatchesJson:
    """Returns the watches of a tenant; None: the default one. Raises the errors of `post_search`."""
    path = "/v1/watches" + _of_tenant(tenant)
    return cast(WatchesJson, _request(url, settings, "GET", path, timeout_s=_WATCH_TIMEOUT_S))


def delete_watch(url: str, watch_id: str, tenant: str | None, settings: Settings) -> None:
    """Deletes a watch. Raises the errors of `post_search`."""
    path = f"/v1/watches/{quote(watch_id, safe='')}{_of_tenant(tenant)}"
    _request(url, settings, "DELETE", path, timeout_s=_WATCH_TIMEOUT_S)


def _of_tenant(tenant: str | None) -> str:
    return "" if tenant is None else f"?tenant={quote(tenant, safe='')}"


def _request(
    url: str,
    settings: Settings,
    method: str,
    path: str,
    *,
    timeout_s: float,
    body: SearchRequestJson | WatchRequestJson | None = None,
    headers: Sequence[Header] = (),
) -> object:
    from penstock.config import authorization_for
    from penstock.config.addresses import trusted

    named = {name: value.decode() for name, value in headers} | authorization_for(url, settings)
    try:
        response = httpx.request(
            method,
            url.rstrip("/") + path,
            json=body,
            headers=named,
            timeout=timeout_s,
            verify=trusted(settings.query.ca_file),
        )
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        from penstock.config import mask_userinfo, start_hint

        shown = mask_userinfo(f"{url} ({str(exc) or type(exc).__name__})")
        raise UnavailableError(f"no query plane responds at {shown}. {start_hint(settings)}") from exc
    if response.is_success:
        return response.json() if response.content else None
    raise error_of(response)
