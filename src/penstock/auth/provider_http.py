"""Reads JSON documents of an OpenID Connect provider, within bounds."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Callable, Mapping

import httpx

from penstock.config.oidc import OidcSettings, is_secure
from penstock.errors import UnavailableError

MIN_INTERVAL_S = 30.0
"""After a failure the next try is this much later: strangers can cause requests to the provider."""
MAX_DOCUMENT_BYTES = 1024 * 1024  # a provider's keys take some KiB


class ProviderHttp:
    """Requests to a provider. Redirects are not followed. Safe to use from several threads.

    Args:
        settings: with an issuer.
        clock: seconds that only go up.
    """

    def __init__(self, settings: OidcSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.issuer = settings.issuer or ""
        self._settings = settings
        self._clock = clock
        self._client: httpx.Client | None = None
        self._discovered: Mapping[str, object] = {}
        self._discovered_at: float | None = None
        self._failed_at: float | None = None
        self._lock = threading.Lock()

    def discovery(self) -> Mapping[str, object]:
        """Returns the discovery document (OpenID Connect Discovery 1.0), now.

        Raises:
            httpx.HTTPError: no answer.
            ValueError: it is no such document, or one of another issuer.
        """
        document = self.get(f"{self.issuer.rstrip('/')}/.well-known/openid-configuration")
        if document.get("issuer") != self.issuer:
            raise ValueError("its discovery document names another issuer. Check auth.oidc.issuer")
        return document

    def endpoint(self, name: str) -> str:
        """Returns an address of the discovery document, which is kept for `refresh_s`.

        While a thread fetches the document again, others get the address of the last one without a wait.

        Raises:
            UnavailableError: the provider does not answer, or has no such address that is secure.
        """
        if self._lock.acquire(blocking=self._discovered_at is None):
            try:
                self._refresh()
            finally:
                self._lock.release()
        address = self._discovered.get(name)
        if not isinstance(address, str) or not is_secure(address):
            raise UnavailableError(f"OpenID provider {self.issuer} does not answer, or has no {name}. Try again later")
        return address

    def get(self, address: str) -> dict[str, object]:
        """Returns the JSON object at an address.

        Raises:
            httpx.HTTPError: no answer.
            ValueError: not 200, not a JSON object, more than 1 MiB, or slower than the deadline.
        """
        return self._request("GET", address, None)

    def post(self, address: str, form: Mapping[str, str]) -> dict[str, object]:
        """Returns the JSON object that answers a form. Raises as `get`."""
        return self._request("POST", address, form)

    def close(self) -> None:
        """Closes the connections."""
        if self._client is not None:
            self._client.close()

    def _refresh(self) -> None:
        """Fetches the discovery document if it is old, unless the last try failed less than 30 s ago."""
        now = self._clock()
        is_fresh = self._discovered_at is not None and now - self._discovered_at < self._settings.refresh_s
        may_try = self._failed_at is None or now - self._failed_at >= MIN_INTERVAL_S
        if is_fresh or not may_try:
            return
        try:
            self._discovered, self._discovered_at = self.discovery(), now
        except (httpx.HTTPError, ValueError, OSError):
            self._failed_at = now

    def _request(self, method: str, address: str, form: Mapping[str, str] | None) -> dict[str, object]:
        deadline = time.monotonic() + self._settings.timeout_s
        with self._opened().stream(method, address, data=form) as response:
            if response.status_code >= 500:
                raise httpx.HTTPError(f"{address} answers {response.status_code}")
            if response.status_code != 200:
                raise ValueError(f"{address} answers {response.status_code}")
            body = bytearray()
            for piece in response.iter_bytes():
                body += piece
                if len(body) > MAX_DOCUMENT_BYTES or time.monotonic() > deadline:
                    raise ValueError(f"{address} answers too much or too slowly")
        document = json.loads(body)
        if not isinstance(document, dict):
            raise ValueError(f"{address} answers no JSON object")
        return document

    def _opened(self) -> httpx.Client:
        if self._client is None:
            ca_file = self._settings.ca_file
            trusted: ssl.SSLContext | bool = ssl.create_default_context(cafile=ca_file) if ca_file else True
            self._client = httpx.Client(verify=trusted, timeout=self._settings.timeout_s, follow_redirects=False)
        return self._client
