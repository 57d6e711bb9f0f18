"""Frames are found by their time with few reads, however many there are."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from penstock.query.executor import BoundedExecutor
from penstock.records import Access, AssetRef, Collection, Entry, part_id
from penstock.serve.use_cases.entry_lookup import EntryLookup
from tests.serve.sample_index import entry

FILM = AssetRef("default", "media.video", "film")


class Entries:
    """Entries by id, and the number of ids of each read."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.stored = {stored.id: stored for stored in entries}
        self.reads: list[int] = []

    def entries(self, ids: Sequence[str], *, access: Access, timeout_s: float) -> Mapping[str, Entry]:
        assert access.tenant == FILM.tenant
        self.reads.append(len(ids))
        return {id_: self.stored[id_] for id_ in ids if id_ in self.stored}

    def select(self, *_: object, **__: object) -> Sequence[Entry]:
        raise AssertionError("the store would compare every entry")


def part(collection: Collection, number: int, start_ms: int, end_ms: int, slot: int = 0) -> Entry:
    bare = entry(collection, "", asset=FILM, start_ms=start_ms, end_ms=end_ms)
    return replace(bare, id=part_id(FILM.id, collection, number, slot), part=number)


@pytest.mark.parametrize("slot", [0, 1])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 40, 999, 5_000])
def test_the_frame_of_a_time_is_found_by_few_reads(count: int, slot: int) -> None:
    random_ = random.Random(count)
    cuts = sorted(random_.sample(range(10 * count + 10), count + 1))
    frames = [part(Collection.FRAME, n, cuts[n], cuts[n + 1], slot) for n in range(count)]
    store = Entries(frames)
    executor = BoundedExecutor(threads=1, queue_size=9, clock=time.monotonic, calls="reads", retry_after_s=1.0)
    lookup = EntryLookup(store, executor, timeout_s=5.0)

    async def check() -> None:
        for start_ms in [*cuts[:3], cuts[-1], *random_.choices(range(10 * count + 10), k=20)]:
            store.reads.clear()
            shown = await lookup.frame_at(
                part(Collection.SPEECH, 3, start_ms, start_ms, slot), Access.to_all_of(FILM.tenant)
            )
            assert shown == next((frame for frame in frames if frame.start_ms <= start_ms < frame.end_ms), None)
            assert len(store.reads) <= 4
            assert sum(store.reads) <= 130

    asyncio.run(check())
    executor.close()
