"""Finds the principal of a request by its credentials."""

from __future__ import annotations

from typing import Protocol

from penstock.auth.keys import PREFIX, KeyFile
from penstock.auth.principal import ANONYMOUS, Principal
from penstock.errors import UnauthenticatedError

_SCHEME = "bearer"


class TokenVerifier(Protocol):
    """Checks bearer tokens, as that of OpenID Connect does."""

    def principal(self, token: str) -> Principal | None:
        """Returns the caller that a token proves; None: it is invalid.

        Raises:
            UnavailableError: the token cannot be checked now.
        """

    def waits(self, token: str) -> bool:
        """Returns whether `principal` may have to wait for the provider's keys."""


class Authenticator:
    """Finds principals. Safe to use from several threads.

    Args:
        keys: API keys; None: they are no credentials.
        tokens: checks all other bearer tokens; None: they are no credentials.

    Without either, every caller is anonymous, which permits everything.
    """

    def __init__(self, keys: KeyFile | None = None, tokens: TokenVerifier | None = None) -> None:
        self._keys = keys
        self._tokens = tokens

    def authenticate(self, authorization: str | None) -> Principal:
        """Returns the principal of a request.

        Args:
            authorization: the header `Authorization` of the request, `Bearer <key or token>`.

        Raises:
            UnauthenticatedError: there are no credentials, or invalid ones. It never says in which way.
            UnavailableError: the credentials cannot be checked now.
        """
        if self._keys is None and self._tokens is None:
            return ANONYMOUS
        credentials = _bearer(authorization)
        if credentials is None:
            raise UnauthenticatedError(
                "the request needs credentials: send `Authorization: Bearer <API key or token>`",
                has_credentials=authorization is not None,
            )
        caller = self._principal(credentials)
        if caller is None:
            raise UnauthenticatedError("the credentials are invalid, expired or revoked", has_credentials=True)
        return caller

    def waits(self, authorization: str | None) -> bool:
        """Returns whether `authenticate` may wait for another server: call it in a thread then."""
        credentials = _bearer(authorization)
        if self._tokens is None or credentials is None or credentials.startswith(PREFIX):
            return False
        return self._tokens.waits(credentials)

    def _principal(self, credentials: str) -> Principal | None:
        if credentials.startswith(PREFIX):
            return None if self._keys is None else self._keys.principal(credentials)
        return None if self._tokens is None else self._tokens.principal(credentials)


def _bearer(authorization: str | None) -> str | None:
    """Returns the credentials of the header; None if it is absent or of another scheme."""
    scheme, _, credentials = (authorization or "").partition(" ")
    credentials = credentials.strip()
    return credentials if scheme.lower() == _SCHEME and credentials else None
