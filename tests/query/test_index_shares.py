"""The shares of kinds: counted in the background, by tenant, and kept while the store does not answer."""

from __future__ import annotations

import asyncio

import pytest

from penstock.errors import UnavailableError
from penstock.query.executor import BoundedExecutor
from penstock.query.index_shares import SHARES_TTL_S, IndexShares, shares_by_kind
from penstock.records import Access, Collection
from tests.clock import Clock

BOTH = frozenset({Collection.TEXT, Collection.IMAGE})


class CountingStore:
    """Counts that a test sets, or an exception that it raises.

    Attributes:
        assets: by tenant and collection.
        calls: number of counts.
    """

    def __init__(self) -> None:
        self.assets: dict[tuple[str, Collection], int] | Exception = {}
        self.calls = 0

    def assets_in(self, collection: Collection, access: Access) -> int:
        self.calls += 1
        if isinstance(self.assets, Exception):
            raise self.assets
        return self.assets.get((access.tenant, collection), 0)


@pytest.fixture
def store() -> CountingStore:
    return CountingStore()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def shares(store: CountingStore, clock: Clock) -> IndexShares:
    executor = BoundedExecutor(threads=1, queue_size=8, clock=clock, calls="counts", retry_after_s=1.0)
    return IndexShares(store, executor)  # type: ignore[arg-type]


async def settle() -> None:
    """Waits for the counts that are running."""
    await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}))


def test_no_search_waits_for_the_first_count_and_later_ones_have_it(store: CountingStore, shares: IndexShares) -> None:
    store.assets = {("a", Collection.TEXT): 30, ("a", Collection.IMAGE): 10, ("b", Collection.IMAGE): 5}

    async def run() -> None:
        assert shares.get(Access.to_all_of("a"), BOTH) == {}
        await settle()
        assert shares.get(Access.to_all_of("a"), BOTH) == {"text": 0.75, "image": 0.25}
        assert shares.get(Access.to_all_of("b"), BOTH) == {}
        await settle()
        assert shares.get(Access.to_all_of("b"), BOTH) == {"image": 1.0}

    asyncio.run(run())


def test_they_are_counted_again_when_they_are_old(store: CountingStore, shares: IndexShares, clock: Clock) -> None:
    store.assets = {("a", Collection.TEXT): 1}

    async def run() -> None:
        shares.get(Access.to_all_of("a"), BOTH)
        await settle()
        store.assets = {("a", Collection.TEXT): 1, ("a", Collection.IMAGE): 1}
        shares.get(Access.to_all_of("a"), BOTH)
        await settle()
        assert store.calls == len(BOTH)
        clock.now_s += SHARES_TTL_S
        assert shares.get(Access.to_all_of("a"), BOTH) == {"text": 1.0}
        await settle()
        assert shares.get(Access.to_all_of("a"), BOTH) == {"text": 0.5, "image": 0.5}

    asyncio.run(run())


def test_a_store_that_does_not_count_leaves_what_is_known(
    store: CountingStore, shares: IndexShares, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    store.assets = {("a", Collection.TEXT): 1}

    async def run() -> None:
        shares.get(Access.to_all_of("a"), BOTH)
        await settle()
        store.assets = UnavailableError("the store is down")
        clock.now_s += SHARES_TTL_S
        shares.get(Access.to_all_of("a"), BOTH)
        await settle()
        assert shares.get(Access.to_all_of("a"), BOTH) == {"text": 1.0}

    asyncio.run(run())
    assert "the store is down" in caplog.text


def test_videos_are_one_kind_whatever_was_found_in_them() -> None:
    counts = {Collection.TEXT: 6, Collection.SPEECH: 4, Collection.FRAME: 2, Collection.SOUND: 3, Collection.IMAGE: 0}
    assert shares_by_kind(counts) == {"text": 0.6, "moment": 0.4}


def test_an_empty_index_has_no_shares() -> None:
    assert shares_by_kind({Collection.TEXT: 0}) == {}
