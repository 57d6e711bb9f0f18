"""Sends requests to an endpoint that speaks OpenAI's chat completions, and translates how they fail."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from penstock.config import GenerateSettings
from penstock.errors import ConfigError, TransientError

_MAX_DETAIL_BYTES = 2_048  # of the body of an error, for the log
_MAX_DETAIL_CHARS = 300
# Of these an operator learns more from the body: which field or which model is wrong. The body of a 401 may repeat
# parts of the key.
_DETAILED = frozenset({400, 404, 413, 422})

logger = logging.getLogger(__name__)


class EndpointError(TransientError):
    """The endpoint of the generator gave no usable response; the message is a clause about the generator.

    Args:
        message: never with the key, the URL or what the endpoint wrote.
        again: whether a second request may succeed.
        status: of the HTTP response, if that is the reason.
        retry_after_s: seconds to wait before a second request; None: the endpoint does not say.
    """

    def __init__(
        self, message: str, *, again: bool = False, status: int | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.again = again
        self.status = status
        self.retry_after_s = retry_after_s


class ChatEndpoint:
    """Opens requests to `/chat/completions`. Belongs to one event loop; keeps connections open for the next request.

    Args:
        settings: `url` must be set.

    Raises:
        ConfigError: the URL or the key cannot be used.
    """

    def __init__(self, settings: GenerateSettings) -> None:
        self._settings = settings
        self._key = ""
        self._read_key()
        base = settings.url or ""
        try:
            url = httpx.URL(f"{base.rstrip('/')}/chat/completions")
        except httpx.InvalidURL as exc:
            raise ConfigError("generate.url is no URL") from exc
        if not url.host or url.userinfo or url.query or url.fragment:
            raise ConfigError(
                "generate.url must be such as http://localhost:8000/v1, without user, query or fragment; a key belongs "
                "into generate.key"
            )
        self._url = url
        self._fields: Mapping[str, Any] = settings.extra_fields
        self._model = settings.model
        self._client = httpx.AsyncClient(
            headers={"Accept-Encoding": "identity"},  # an answer of a few bytes must not unpack to gigabytes
            timeout=httpx.Timeout(None, connect=settings.connect_ms / 1000),
            follow_redirects=False,
        )

    @asynccontextmanager
    async def open(self, fields: Mapping[str, object]) -> AsyncIterator[httpx.Response]:
        """Sends a request and yields the response, whose body is not read. Its end closes the connection.

        Args:
            fields: of the request, besides `model`; those of `generate.extra_fields` come before them.

        Raises:
            EndpointError: it cannot be reached, breaks the connection or refuses the request.
        """
        body: dict[str, object] = {"model": self._model, **fields, **self._fields}
        body = {name: value for name, value in body.items() if value is not None}
        try:
            self._read_key()  # a changed file holds from the next request
        except ConfigError as exc:
            raise EndpointError(str(exc)) from exc
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else None
        try:
            async with self._client.stream("POST", self._url, json=body, headers=headers) as response:
                if response.status_code != httpx.codes.OK:
                    raise await self._refusal(response)
                if response.headers.get("content-encoding", "identity") != "identity":
                    raise EndpointError("the generator answered with a compressed body")
                yield response
        except httpx.HTTPError as exc:
            raise _broken(exc) from exc

    async def close(self) -> None:
        """Ends its connections."""
        await self._client.aclose()

    def _read_key(self) -> None:
        key = self._settings.secret("key")
        if not (key.isascii() and key.isprintable()):
            raise ConfigError("generate.key has characters that no HTTP header may have")
        self._key = key

    async def _refusal(self, response: httpx.Response) -> EndpointError:
        status = response.status_code
        if status in _DETAILED:
            logger.warning("The generator answered with HTTP %d: %s", status, await self._detail(response))
        overloaded = status == httpx.codes.TOO_MANY_REQUESTS
        return EndpointError(
            f"the generator answered with HTTP {status}",
            again=overloaded or status >= httpx.codes.INTERNAL_SERVER_ERROR,
            status=status,
            retry_after_s=_retry_after_s(response.headers.get("retry-after", "")),
        )

    async def _detail(self, response: httpx.Response) -> str:
        """Returns the begin of a body on one line, without the key."""
        received = bytearray()
        async for part in body_parts(response):
            received += part
            if len(received) >= _MAX_DETAIL_BYTES:
                break
        text = bytes(received[:_MAX_DETAIL_BYTES]).decode("utf-8", "replace")
        text = text.replace(self._key, "***") if self._key else text
        return "".join(char if char.isprintable() else " " for char in text)[:_MAX_DETAIL_CHARS]


async def body_parts(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    """Yields the body of a response as it arrives.

    Raises:
        EndpointError: the connection broke.
    """
    try:
        async for part in response.aiter_raw():
            yield part
    except (httpx.HTTPError, httpx.StreamError) as exc:
        raise _broken(exc) from exc


async def read_bounded(response: httpx.Response, max_bytes: int) -> bytes:
    """Returns the body of a response, which may be endless.

    Raises:
        EndpointError: it has more bytes, or the connection broke.
    """
    received = bytearray()
    async for part in body_parts(response):
        received += part
        if len(received) > max_bytes:
            raise EndpointError(f"the generator's answer has more than {max_bytes:,} bytes")
    return bytes(received)


def completion_text(body: bytes | str) -> str:
    """Returns the text of a chat completion that is not streamed.

    Raises:
        EndpointError: it is none.
    """
    try:
        parsed: Any = json.loads(body)
        content = parsed["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError, RecursionError) as exc:
        raise EndpointError("the generator's answer is no chat completion") from exc
    if not isinstance(content, str):
        raise EndpointError("the generator's answer has no text")
    return content


def _broken(error: httpx.HTTPError | httpx.StreamError) -> EndpointError:
    name = type(error).__name__
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return EndpointError(f"the generator cannot be reached ({name})", again=True)
    return EndpointError(f"the connection to the generator broke ({name})", again=True)


def _retry_after_s(value: str) -> float | None:
    """Returns the seconds of a header Retry-After (RFC 9110, 10.2.3); None: it has none that can be read."""
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        then = parsedate_to_datetime(value)
    except ValueError:
        return None
    then = then if then.tzinfo else then.replace(tzinfo=UTC)
    return max(0.0, (then - datetime.now(UTC)).total_seconds())
