"""The channels that the store offers, cached for a few seconds."""

from __future__ import annotations

import asyncio
import logging

from penstock.errors import PenstockError, UnavailableError
from penstock.query.executor import BoundedExecutor
from penstock.records import Channel
from penstock.store.base import EntrySearch

logger = logging.getLogger(__name__)

# An index gains a channel when a collection is created or an alias is switched; a few seconds later is soon enough, and
# a look-up for each query would cost a round trip.
CHANNELS_TTL_S = 5.0


class OfferedChannels:
    """The channels that a store offers, refreshed in the background once they are older than a few seconds.

    Args:
        store: queried in threads.
        executor: runs these calls.
    """

    def __init__(self, store: EntrySearch, executor: BoundedExecutor) -> None:
        self._store = store
        self._executor = executor
        self._known: frozenset[Channel] | None = None
        self._expires_s = 0.0
        self._refresh: asyncio.Task[None] | None = None

    async def get(self, *, deadline_s: float) -> frozenset[Channel]:
        """Returns the channels, which only the first call waits for.

        Raises:
            UnavailableError: the store has never answered, and does not answer now.
        """
        if self._known is None:
            try:
                await self._load(deadline_s)
            except TimeoutError as exc:
                raise UnavailableError("the store did not list its channels within the deadline") from exc
        elif self._executor.clock() >= self._expires_s and (self._refresh is None or self._refresh.done()):
            self._refresh = asyncio.create_task(self._reload())
        return self._known or frozenset()

    async def _load(self, deadline_s: float) -> None:
        self._known = await self._executor.call(lambda _: self._store.channels(), deadline_s=deadline_s)
        self._expires_s = self._executor.clock() + CHANNELS_TTL_S

    async def _reload(self) -> None:
        try:
            await self._load(self._executor.clock() + CHANNELS_TTL_S)
        except (PenstockError, TimeoutError) as exc:
            logger.warning("the store did not list its channels (%s); continuing with those known", exc)
