"""Entries of an asset found by primary key."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from penstock.records import Collection, part_id
from penstock.store.milvus.part_lookup import FIRST_PARTS, find_parts

IMAGE = Collection.IMAGE


def parts(name: str, count: int) -> frozenset[str]:
    return frozenset(part_id(name, IMAGE, part) for part in range(count))


@pytest.mark.parametrize("count", [1, 3, 7, 8, 9, 23, 24, 25, 1_000])
def test_every_part_is_found_however_many(count: int) -> None:
    there = parts("one", count) | parts("other", 2)
    found = find_parts(IMAGE, ["one", "other", "none"], there.intersection)
    assert found == {"one": parts("one", count), "other": parts("other", 2)}


def test_small_and_absent_assets_take_one_request() -> None:
    requests: list[Sequence[str]] = []
    there = parts("one", 3)

    def present(ids: Sequence[str]) -> frozenset[str]:
        requests.append(ids)
        return there.intersection(ids)

    find_parts(IMAGE, ["one", "none", "one"], present)
    assert [len(ids) for ids in requests] == [2 * FIRST_PARTS]


def test_entries_written_in_slices_are_looked_for_in_both_spaces() -> None:
    there = {part_id("one", Collection.SPEECH, part, space) for part, space in ((0, 0), (1, 0), (0, 1), (12, 1))}
    there |= {part_id("one", Collection.SPEECH, part, 1) for part in range(12)}
    assert find_parts(Collection.SPEECH, ["one", "none"], there.intersection) == {"one": frozenset(there)}
