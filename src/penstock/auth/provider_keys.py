"""Fetches and keeps the public keys of an OpenID Connect provider."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from penstock.auth.provider_http import ProviderHttp
from penstock.config.oidc import OidcSettings, is_secure
from penstock.errors import UnavailableError

_log = logging.getLogger(__name__)

MIN_REFRESH_INTERVAL_S = 30.0
"""A token with an unknown key makes the keys be fetched again at most this often: strangers can make up such tokens."""
MAX_KEYS = 256
_KEY_TYPES = frozenset({"RSA", "EC", "OKP"})  # `oct` are shared secrets, which no provider publishes on purpose

Jwk = Mapping[str, Any]


class ProviderKeys:
    """The public keys of a provider, by key id; read from its discovery document (OpenID Connect Discovery 1.0).

    Keys are fetched when the first token comes, and again
    1. before a token is answered whose key is unknown, at most once in 30 s: keys rotate so;
    2. behind the requests when they are older than `refresh_s`: a key that was withdrawn is so forgotten.
    While the provider does not answer, the last keys are used for `stale_s`. Safe to use from several threads.

    Args:
        settings: with an issuer.
        clock: seconds that only go up.
    """

    def __init__(self, settings: OidcSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._issuer = settings.issuer or ""
        self._settings = settings
        self._clock = clock
        self._keys: tuple[Jwk, ...] = ()
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._fetching = threading.Lock()
        self._http = ProviderHttp(settings)
        self._refreshing: threading.Thread | None = None

    def candidates(self, key_id: str | None) -> tuple[Jwk, ...]:
        """Returns the keys that may have signed a token: those of its key id, all where it names none.

        Raises:
            UnavailableError: no key is known, and the provider does not answer.
        """
        if not self._named(key_id):
            self._fetch_for(key_id)
        elif self._is_old():
            self._refresh_behind()
        if not self._is_usable():
            raise UnavailableError(f"OpenID provider {self._issuer} does not answer. Try again later")
        return self._named(key_id)

    def must_fetch(self, key_id: str | None) -> bool:
        """Returns whether `candidates` may wait for the provider."""
        return not self._named(key_id) and (self._may_try() or self._fetching.locked())

    def close(self) -> None:
        """Waits for a fetch under way and closes the connections."""
        if self._refreshing is not None:
            self._refreshing.join()
        self._http.close()

    def _named(self, key_id: str | None) -> tuple[Jwk, ...]:
        if not self._is_usable():
            return ()
        return tuple(key for key in self._keys if key_id is None or key.get("kid") == key_id)

    def _is_usable(self) -> bool:
        return self._fetched_at is not None and self._clock() - self._fetched_at < self._settings.stale_s

    def _is_old(self) -> bool:
        return self._fetched_at is None or self._clock() - self._fetched_at >= self._settings.refresh_s

    def _may_try(self) -> bool:
        return self._tried_at is None or self._clock() - self._tried_at >= MIN_REFRESH_INTERVAL_S

    def _fetch_for(self, key_id: str | None) -> None:
        """Fetches the keys, unless another thread just did, or the last try is less than 30 s ago."""
        with self._fetching:
            if not self._named(key_id) and self._may_try():
                self._try_fetch()

    def _refresh_behind(self) -> None:
        """Starts a fetch in a thread, unless one runs."""
        if self._may_try() and self._fetching.acquire(blocking=False):
            self._tried_at = self._clock()  # the next request starts no second thread
            self._refreshing = threading.Thread(target=self._refresh, name="oidc-keys", daemon=True)
            self._refreshing.start()

    def _refresh(self) -> None:
        try:
            self._try_fetch()
        finally:
            self._fetching.release()

    def _try_fetch(self) -> None:
        self._tried_at = self._clock()
        try:
            self._keys = self._fetch()
        except (httpx.HTTPError, ValueError, OSError) as exc:
            age = (
                "" if self._fetched_at is None else f"; the last keys are {self._clock() - self._fetched_at:.0f} s old"
            )
            _log.warning("cannot fetch the keys of OpenID provider %s: %s%s", self._issuer, exc, age)
            return
        self._fetched_at = self._clock()

    def _fetch(self) -> tuple[Jwk, ...]:
        address = self._http.discovery().get("jwks_uri")
        if not isinstance(address, str) or not is_secure(address):
            raise ValueError("the jwks_uri of its discovery document is no https address")
        listed = self._http.get(address).get("keys")
        if not isinstance(listed, list):
            raise ValueError("its key set has no list `keys`")
        keys = tuple(key for key in listed[:MAX_KEYS] if _may_sign(key))
        if not keys:
            raise ValueError("its key set has no public key for signatures")
        return keys


def _may_sign(key: object) -> bool:
    return isinstance(key, dict) and key.get("kty") in _KEY_TYPES and key.get("use", "sig") == "sig"
