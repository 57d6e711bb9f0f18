"""Tests the lookup of an asset's entries by primary key."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from penstock.records import Collection, part_id
from penstock.store.milvus.part_lookup import FIRST_PARTS, find_parts

IMAGE = Collection.IMAGE


def parts(name: str, count: int) -> frozenset[str]:
    return frozenset(part_id(name, IMAGE, part) for part in range(count))


@pytest.mark.parametrize("count", [1, 3, 7, 8, 9, 23, 24, 25, 1_000])
def test_any_number_of_parts_is_found(count: int) -> None:
    existing = parts("one", count) | parts("other", 2)
    ids_of = find_parts(IMAGE, ["one", "other", "none"], existing.intersection)
    assert ids_of == {"one": parts("one", count), "other": parts("other", 2)}


def test_small_and_absent_assets_take_one_request() -> None:
    requests: list[Sequence[str]] = []
    existing = parts("one", 3)

    def answer(ids: Sequence[str]) -> frozenset[str]:
        requests.append(ids)
        return existing.intersection(ids)

    find_parts(IMAGE, ["one", "none", "one"], answer)
    assert [len(ids) for ids in requests] == [2 * FIRST_PARTS]


def test_entries_written_in_segments_are_looked_up_in_both_slots() -> None:
    existing = {part_id("one", Collection.SPEECH, part, slot) for part, slot in ((0, 0), (1, 0), (0, 1), (12, 1))}
    existing |= {part_id("one", Collection.SPEECH, part, 1) for part in range(12)}
    assert find_parts(Collection.SPEECH, ["one", "none"], existing.intersection) == {"one": frozenset(existing)}
