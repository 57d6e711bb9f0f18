"""A generator behind an endpoint that speaks OpenAI's chat completions."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from typing import Any

from penstock.config import GenerateSettings
from penstock.query.generate.completion_stream import CompletionPiece, CompletionStream
from penstock.query.generate.endpoint import ChatEndpoint, EndpointError, body_parts
from penstock.query.generate.generators import GeneratorCutError, GeneratorError, GeneratorRun
from penstock.query.generate.prompt import Prompt
from penstock.query.generate.types import TokenUsage

_ATTEMPTS = 2
_RETRY_WAIT_S = 0.25
_MAX_RETRY_WAIT_S = 2.0  # longer than that, quoting the best sentences serves the user better
# A server that ignores `max_tokens`, or never ends, is left at these. The longest tokens of common vocabularies have 16
# characters but for runs of blanks; a chunk of one token has 150 to 400 bytes.
_MAX_TOKEN_CHARS = 16
_MAX_TOKEN_BYTES = 1_024
_MAX_OTHER_BYTES = 64 * 1024
# After the text has ended: the time for its usage to arrive, and after the last event for the end of the body, which
# lets the connection be used again.
_USAGE_WAIT_S = 1.0
_END_WAIT_S = 0.1
_UNCLEAR_REQUEST = frozenset({400, 422})  # of servers that do not know `stream_options`
_AT_LIMIT, _WITHHELD = "length", "content_filter"  # reasons for an end


class ChatGenerator:
    """Streams answers from an endpoint. Belongs to one event loop.

    Args:
        settings: `url` must be set.
        pause: waits for seconds before a second request.

    Raises:
        ConfigError: the URL or the key cannot be used.
    """

    def __init__(
        self, settings: GenerateSettings, *, pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._settings = settings
        self._endpoint = ChatEndpoint(settings)
        self._pause = pause
        self._usage_field = True  # until a server turns out not to know it

    @property
    def name(self) -> str:
        """Returns the name of its model."""
        return self._settings.model

    @property
    def sees_images(self) -> bool:
        """Returns whether it takes the images of a prompt."""
        return self._settings.vision

    async def stream(
        self, prompt: Prompt, run: GeneratorRun, *, timeout_s: float | None = None
    ) -> AsyncGenerator[str, None]:
        """See `AnswerGenerator.stream`."""
        now_s = asyncio.get_running_loop().time()
        total_s = self._settings.total_ms / 1000
        end_s = now_s + (total_s if timeout_s is None else min(total_s, timeout_s))
        first_s = min(end_s, now_s + self._settings.first_token_ms / 1000)
        reading, first = await self._begin(prompt, run, first_s, end_s)
        try:
            yield first
            while (piece := await reading.next(end_s)) is not None:
                if piece.text:
                    yield piece.text
        except EndpointError as exc:
            raise GeneratorCutError(str(exc)) from exc
        except TimeoutError as exc:
            raise GeneratorCutError("the time for the whole answer is up") from exc
        finally:
            await reading.close()
            run.usage, run.shortened = reading.usage, reading.shortened

    async def close(self) -> None:
        """Ends its connections."""
        await self._endpoint.close()

    async def _begin(
        self, prompt: Prompt, run: GeneratorRun, first_s: float, end_s: float
    ) -> tuple[_ResponseReader, str]:
        """Returns an open response and its first text, by a second request if the first fails and may be repeated.

        Raises:
            GeneratorError: neither has a text in time.
        """
        usage_field = self._usage_field
        for attempt in range(1, _ATTEMPTS + 1):
            run.attempts = attempt
            reading = _ResponseReader(self._endpoint, self._body(prompt, usage_field), prompt.max_tokens)
            try:
                text = await reading.first(first_s, end_s)
                self._usage_field = usage_field
                return reading, text
            except EndpointError as exc:
                await reading.close()
                unclear = usage_field and exc.status in _UNCLEAR_REQUEST
                if attempt == _ATTEMPTS or not (exc.again or unclear):
                    raise GeneratorError(str(exc)) from exc
                usage_field = usage_field and not unclear
                await self._wait(exc, first_s)
            except TimeoutError as exc:
                await reading.close()
                raise GeneratorError("the generator wrote nothing in time") from exc
            except BaseException:
                await reading.close()
                raise
        raise AssertionError("the last attempt returns or raises")

    async def _wait(self, error: EndpointError, first_s: float) -> None:
        """Waits before a second request, as long as the endpoint says.

        Raises:
            GeneratorError: that is too long.
        """
        wait_s = _RETRY_WAIT_S if error.retry_after_s is None else error.retry_after_s
        if wait_s > _MAX_RETRY_WAIT_S or asyncio.get_running_loop().time() + wait_s >= first_s:
            raise GeneratorError(f"{error}, and there is no time for a second request") from error
        await self._pause(wait_s)

    def _body(self, prompt: Prompt, usage_field: bool) -> dict[str, Any]:
        body: dict[str, Any] = {
            "messages": prompt.messages,
            "stream": True,
            "max_tokens": prompt.max_tokens,
            "temperature": self._settings.temperature,
        }
        if usage_field:
            body["stream_options"] = {"include_usage": True}
        return body


class _ResponseReader:
    """Reads one response, within bounds of bytes and characters.

    Attributes:
        shortened: whether the text ended at a limit.
    """

    def __init__(self, endpoint: ChatEndpoint, body: dict[str, Any], max_tokens: int) -> None:
        self.shortened = False
        self._endpoint = endpoint
        self._body = body
        self._completion = CompletionStream()
        self._pieces: list[CompletionPiece] = []  # that were not returned yet, the next one last
        self._parts: AsyncIterator[bytes] | None = None
        self._open = AsyncExitStack()
        self._chars_left = max_tokens * _MAX_TOKEN_CHARS
        self._bytes_left = max_tokens * _MAX_TOKEN_BYTES + _MAX_OTHER_BYTES
        self._complete = False
        self._end_by_s = math.inf  # when its text is complete

    @property
    def usage(self) -> TokenUsage:
        """Returns the tokens, as far as they are known."""
        return self._completion.usage

    async def first(self, first_s: float, end_s: float) -> str:
        """Sends the request, and returns the first text.

        Raises:
            EndpointError: there is none.
            TimeoutError: not by `first_s`, or of a model that thinks first, by `end_s`.
        """
        async with asyncio.timeout_at(first_s):
            response = await self._open.enter_async_context(self._endpoint.open(self._body))
            self._parts = await self._open.enter_async_context(aclosing(body_parts(response)))
        until_s = first_s
        while (piece := await self.next(until_s)) is not None:
            if piece.text:
                return piece.text
            until_s = end_s if piece.thinking else until_s
        raise EndpointError("the generator wrote nothing")

    async def next(self, until_s: float) -> CompletionPiece | None:
        """Returns the next piece; None: the text has ended.

        Raises:
            EndpointError: the connection broke, or what arrived is no chat completion.
            TimeoutError: there is none by then.
        """
        while not self._pieces:
            if self._complete or self._chars_left <= 0:
                self.shortened = self.shortened or self._chars_left <= 0
                return None
            self._pieces = (await self._more(until_s))[::-1]
        piece = self._pieces.pop()
        text = piece.text[: self._chars_left]
        self._chars_left -= len(text)
        return CompletionPiece(text, piece.thinking)

    async def close(self) -> None:
        """Closes the connection, unless the response was read to its end."""
        await self._open.aclose()

    async def _more(self, until_s: float) -> list[CompletionPiece]:
        """Returns the pieces of the next part of the body."""
        part = await self._part(until_s)
        if part is None:
            self._complete = True
            pieces = self._completion.end()
            if self._completion.finish == _WITHHELD:
                raise EndpointError("the generator's endpoint withheld the rest")
            self.shortened = self._completion.finish == _AT_LIMIT
            return pieces
        self._bytes_left -= len(part)
        if self._bytes_left < 0 and not self._completion.complete:
            raise EndpointError("the generator sends more than its answer can have")
        return self._completion.feed(part)

    async def _part(self, until_s: float) -> bytes | None:
        """Returns the next part of the body; None: it has ended, or what it still lacks is not worth waiting for."""
        assert self._parts is not None
        over = self._over_until_s()
        until_s = until_s if over is None else min(until_s, over)
        try:
            if asyncio.get_running_loop().time() >= until_s:  # a body that is always ready never meets the time-out
                raise TimeoutError
            async with asyncio.timeout_at(until_s):
                return await anext(self._parts, None)
        except (TimeoutError, EndpointError):
            if over is None:
                raise
            return None

    def _over_until_s(self) -> float | None:
        """Returns until when more is awaited although the text is complete; None: it is not."""
        if not self._completion.complete:
            return None
        now_s = asyncio.get_running_loop().time()
        if self._completion.ended:
            self._end_by_s = min(self._end_by_s, now_s + _END_WAIT_S)
        self._end_by_s = min(self._end_by_s, now_s + _USAGE_WAIT_S)
        if self._bytes_left < 0:
            self._end_by_s = now_s
        return self._end_by_s
