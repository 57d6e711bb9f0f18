"""Tokens of SASL's mechanism OAUTHBEARER (RFC 7628): of a file, or of an identity provider by client credentials."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import lru_cache

import httpx
from kafka import errors
from kafka.net.sasl.oauth import AbstractTokenProvider

from penstock.config import KafkaOAuthSettings
from penstock.config.addresses import trusted
from penstock.errors import ConfigError

# kafka-python waits for a token in its network thread, which also sends the heartbeats of a group's member.
_TIMEOUT_S = 4.0
_USED_FOR = 0.8  # of a token's life; then another is fetched
_DEFAULT_LIFE_S = 60.0  # of a token without `expires_in`, which RFC 6749 only recommends


class TokenRefusedError(errors.SaslAuthenticationFailedError):  # type: ignore[misc]  # kafka-python has no types
    """No token is available before something is corrected; the text says what."""


class FileTokens(AbstractTokenProvider):  # type: ignore[misc]  # kafka-python has no types
    """The token of a file, read for each connection: who writes it renews it."""

    def __init__(self, settings: KafkaOAuthSettings) -> None:
        assert settings.token_file is not None
        self._file = settings.token_file

    def token(self) -> str:
        """Returns the token that the file has now.

        Raises:
            TokenRefusedError: it cannot be read, or has no token.
        """
        try:
            token = self._file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else "it is no text"
            raise TokenRefusedError(f"kafka.oauth.token_file cannot be read ({self._file}: {reason})") from None
        return _checked(token, f"kafka.oauth.token_file ({self._file})")

    def forget(self) -> None:
        """Does nothing: no token is kept."""


class ClientCredentials(AbstractTokenProvider):  # type: ignore[misc]  # kafka-python has no types
    """Tokens of a token endpoint. Each is used for most of its life, by all clients of a process.

    Args:
        settings: `token_url` is set.
        clock: monotonic seconds.
    """

    def __init__(self, settings: KafkaOAuthSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._token = ""
        self._renew_s = 0.0

    def token(self) -> str:
        """Returns a token that has not expired.

        Raises:
            TokenRefusedError: the endpoint refuses the client, or answers without a token.
            KafkaConnectionError: it does not answer; the connection is tried again.
        """
        with self._lock:
            if not self._token or self._clock() >= self._renew_s:
                self._fetch()
            return self._token

    def forget(self) -> None:
        """Makes the next connection fetch another token: a broker refused this one."""
        with self._lock:
            self._token = ""

    def _fetch(self) -> None:
        settings = self._settings
        endpoint = f"the token endpoint {settings.token_url}"
        form = {"grant_type": "client_credentials"} | ({"scope": settings.scope} if settings.scope else {})
        try:
            answer = httpx.post(
                settings.token_url or "",
                data=form,
                auth=(settings.client_id or "", settings.secret("client_secret")),
                headers={"Accept": "application/json"},
                verify=trusted(settings.ca_file),
                timeout=_TIMEOUT_S,
            )
        except ConfigError as exc:
            raise TokenRefusedError(str(exc)) from exc
        except httpx.HTTPError as exc:
            raise errors.KafkaConnectionError(f"{endpoint} does not answer ({type(exc).__name__})") from exc
        if answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
            raise errors.KafkaConnectionError(f"{endpoint} answers HTTP {answer.status_code}")
        if answer.status_code != httpx.codes.OK:
            raise TokenRefusedError(
                f"{endpoint} refuses the client {settings.client_id} (HTTP {answer.status_code}). Check "
                "kafka.oauth.client_id, kafka.oauth.client_secret and kafka.oauth.scope"
            )
        self._token, life_s = _token_of(answer, endpoint)
        self._renew_s = self._clock() + _USED_FOR * life_s


@lru_cache(maxsize=16)
def token_provider(settings: KafkaOAuthSettings) -> FileTokens | ClientCredentials:
    """Returns the tokens of these settings, the same for all clients of this process."""
    return FileTokens(settings) if settings.token_file is not None else ClientCredentials(settings)


def _token_of(answer: httpx.Response, endpoint: str) -> tuple[str, float]:
    """Returns the token of an answer, and its life in seconds."""
    try:
        document = answer.json()
        token, life_s = str(document["access_token"]), float(document.get("expires_in", _DEFAULT_LIFE_S))
    except (ValueError, TypeError, KeyError, AttributeError):
        raise TokenRefusedError(f"{endpoint} answers without a token. Check kafka.oauth.token_url") from None
    return _checked(token, endpoint), life_s


def _checked(token: str, source: str) -> str:
    """Returns a token that can stand in SASL's message, in which control characters are separators."""
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise TokenRefusedError(f"{source} has no token")
    return token
