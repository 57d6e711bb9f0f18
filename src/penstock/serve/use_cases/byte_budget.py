"""Bounds the bytes of large answers that their clients have not received yet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from penstock.errors import OverloadedError

_RETRY_AFTER_S = 5.0


class ByteBudget:
    """Bytes that answers hold while they are sent. Belongs to one event loop at a time.

    Args:
        max_bytes: of all answers together. A larger answer counts as all of them: it is sent while no other one is.
        patience_s: for which an answer waits for others to end, seconds.
    """

    def __init__(self, max_bytes: int, *, patience_s: float) -> None:
        self._max_bytes = max_bytes
        self._free = max_bytes
        self._patience_s = patience_s
        self._waiting: dict[asyncio.Future[None], int] = {}

    @asynccontextmanager
    async def held(self, size: int) -> AsyncIterator[None]:
        """Holds the bytes of an answer, in order of arrival.

        Raises:
            OverloadedError: others did not end in time.
        """
        size = min(size, self._max_bytes)
        await self._take(size)
        try:
            yield
        finally:
            self._give_back(size)

    async def _take(self, size: int) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[turn] = size
        self._admit()
        try:
            async with asyncio.timeout(self._patience_s):
                await turn
        except BaseException as exc:
            if turn.cancelled():
                self._admit()  # a smaller one behind it may fit
            else:
                self._give_back(size)  # its turn came in the same moment
            if not isinstance(exc, TimeoutError):
                raise
            raise OverloadedError(
                f"whole media of {self._max_bytes:,} bytes are being sent by this replica already: ask again later, or "
                "for ranges of them",
                retry_after_s=_RETRY_AFTER_S,
            ) from exc

    def _give_back(self, size: int) -> None:
        self._free += size
        self._admit()

    def _admit(self) -> None:
        while self._waiting:
            turn, size = next(iter(self._waiting.items()))
            if not turn.cancelled():
                if size > self._free:
                    return
                self._free -= size
                turn.set_result(None)
            del self._waiting[turn]
