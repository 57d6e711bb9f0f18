"""Sends an API key or a bearer token with each request of a client."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import TypeAlias

import httpx

from penstock.errors import UsageError

ApiKey: TypeAlias = str | Callable[[], str]
"""An API key, or a function that returns the token to send now: it is called before every request."""
AsyncApiKey: TypeAlias = ApiKey | Callable[[], Awaitable[str]]


class BearerCredentials(httpx.Auth):
    """Puts the header `Authorization: Bearer …` on each request.

    Args:
        api_key: a key, or what returns a token.
    """

    def __init__(self, api_key: AsyncApiKey) -> None:
        self._api_key = api_key
        if isinstance(api_key, str):
            _header(api_key)  # a malformed key fails where it is passed, not at the first request

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Yields the request with its credentials."""
        current = self._api_key if isinstance(self._api_key, str) else self._api_key()
        request.headers["Authorization"] = _header(current)
        yield request

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Yields the same; the function may be a coroutine."""
        current = self._api_key if isinstance(self._api_key, str) else self._api_key()
        request.headers["Authorization"] = _header(await current if inspect.isawaitable(current) else current)
        yield request


def credentials_of(api_key: AsyncApiKey | None) -> BearerCredentials | None:
    """Returns what sends a key; None without one. Raises UsageError if it cannot be sent."""
    return None if api_key is None else BearerCredentials(api_key)


def _header(credential: object) -> str:
    if not isinstance(credential, str) or not credential.isascii() or not credential.isprintable() or not credential:
        raise UsageError("api_key is no API key or token: it is empty, or has other characters than printable ASCII")
    return f"Bearer {credential}"
