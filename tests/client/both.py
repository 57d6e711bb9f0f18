"""Runs the same test with both clients: calls of the asynchronous one are awaited, its iterators collected."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, closing
from typing import Any

from penstock.client import AsyncPenstockClient, PenstockClient


class Both:
    """Calls a client of either kind.

    Args:
        kind: `sync` or `async`.
        url: of the query plane.
        options: of the client.
    """

    def __init__(self, kind: str, url: str, **options: Any) -> None:
        self._kind = kind
        self._url = url
        self._options = options
        self.waits: list[float] = []

    def __call__(self, method: str, *args: Any, at_most: int | None = None, **options: Any) -> Any:
        """Returns the result of a method, or the list of what it yields, of at most `at_most` items."""
        if self._kind == "sync":
            with PenstockClient(self._url, sleep=self.waits.append, **self._options) as client:
                result = getattr(client, method)(*args, **options)
                return _taken(result, at_most) if isinstance(result, Iterator) else result
        return asyncio.run(self._call(method, args, at_most, options))

    async def _call(self, method: str, args: tuple[Any, ...], at_most: int | None, options: dict[str, Any]) -> Any:
        async def sleep(seconds: float) -> None:
            self.waits.append(seconds)

        async with AsyncPenstockClient(self._url, sleep=sleep, **self._options) as client:
            result = getattr(client, method)(*args, **options)
            if inspect.isasyncgen(result):
                return await _collected(result, at_most)
            return await result


def _taken(items: Any, at_most: int | None) -> list[Any]:
    taken: list[Any] = []
    with closing(items):
        for item in items:
            taken.append(item)
            if len(taken) == at_most:
                break
    return taken


async def _collected(items: Any, at_most: int | None) -> list[Any]:
    taken: list[Any] = []
    async with aclosing(items):
        assert isinstance(items, AsyncIterator)
        async for item in items:
            taken.append(item)
            if len(taken) == at_most:
                break
    return taken
