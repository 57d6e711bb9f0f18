"""The share of the assets that a caller may read that become hits of each kind, counted every few minutes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Set
from dataclasses import dataclass, field

from penstock.errors import PenstockError
from penstock.query.executor import BoundedExecutor
from penstock.query.fusion.base import kind_of
from penstock.query.types import Kind
from penstock.records import Access, Collection
from penstock.store.base import EntrySearch

logger = logging.getLogger(__name__)

# Shares change slowly, and counting a million entries takes a store tens of milliseconds.
SHARES_TTL_S = 120.0
COUNT_TIMEOUT_S = 10.0
# With more tenants and sets of labels the oldest is forgotten, and counted again when it is needed.
MAX_COUNTED = 1_000


@dataclass(slots=True)
class _Counted:
    shares: Mapping[Kind, float] = field(default_factory=dict)
    expires_s: float = 0.0
    refresh: asyncio.Task[None] | None = None


class IndexShares:
    """The shares of each access, counted in the background: no search waits for them. Belongs to one event loop.

    Args:
        store: queried in threads.
        executor: runs these calls.
    """

    def __init__(self, store: EntrySearch, executor: BoundedExecutor) -> None:
        self._store = store
        self._executor = executor
        self._by_access: dict[Access, _Counted] = {}

    def get(self, access: Access, collections: Set[Collection]) -> Mapping[Kind, float]:
        """Returns the shares as counted last, and has them counted again if they are old; empty before that.

        Args:
            access: the assets that count.
            collections: those that have a channel.
        """
        counted = self._by_access.setdefault(access, _Counted())
        if len(self._by_access) > MAX_COUNTED:
            del self._by_access[next(iter(self._by_access))]
        if self._executor.clock() >= counted.expires_s and (counted.refresh is None or counted.refresh.done()):
            counted.refresh = asyncio.create_task(self._count(access, collections, counted))
        return counted.shares

    async def _count(self, access: Access, collections: Set[Collection], counted: _Counted) -> None:
        counted.expires_s = self._executor.clock() + SHARES_TTL_S
        try:
            assets = await self._executor.call(
                lambda _: {collection: self._store.assets_in(collection, access) for collection in collections},
                deadline_s=self._executor.clock() + COUNT_TIMEOUT_S,
            )
        except (PenstockError, TimeoutError) as exc:
            logger.warning("the store did not count the assets of each kind (%s); continuing with those known", exc)
        else:
            counted.shares = shares_by_kind(assets)


def shares_by_kind(assets: Mapping[Collection, int]) -> Mapping[Kind, float]:
    """Returns the share of each kind that has assets.

    The collections of moments hold the same assets: of them the largest counts.
    """
    counts: dict[Kind, int] = {}
    for collection, count in assets.items():
        kind = kind_of(collection)
        counts[kind] = max(count, counts.get(kind, 0))
    total = sum(counts.values())
    return {kind: count / total for kind, count in counts.items() if count}
