"""The sweep has a brake, and what it removes rests before it is gone."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from penstock.assets import AssetStore, SweepLimits, SweepReport, sweep

DAY_S = 86_400.0
LIMITS = SweepLimits(grace_s=DAY_S, rest_s=7 * DAY_S, max_share=0.05)


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AssetStore]:
    if request.param == "file":
        yield AssetStore(tmp_path.as_uri())
        return
    root = f"memory://assets-{uuid.uuid4().hex}"
    yield AssetStore(root)
    memory, path = fsspec.filesystem("memory"), root.removeprefix("memory:/")
    if memory.exists(path):
        memory.rm(path, recursive=True)


def filled(store: AssetStore, count: int) -> list[str]:
    return [store.put(b"media %d" % number) for number in range(count)]


def in_days(days: float) -> float:
    return time.time() + days * DAY_S


def swept(
    store: AssetStore, kept: list[str], limits: SweepLimits = LIMITS, *, owner: str = "default/a", days: float = 3
) -> SweepReport:
    return sweep(store, kept, limits, owner=owner, now_s=in_days(days))


def test_too_large_a_part_is_not_removed_until_it_is_forced(store: AssetStore) -> None:
    names = filled(store, 500)
    held = swept(store, names[26:])
    assert (held.removed, held.held) == (26, "26 of 500 media (5%) would go, more than assets.max_swept (5%)")
    assert all(store.exists(name) for name in names)
    report = swept(store, names[26:], SweepLimits(DAY_S, 7 * DAY_S, 0.05, force=True))
    assert (report.removed, report.held) == (26, None)
    assert [store.exists(name) for name in names] == [False] * 26 + [True] * 474


def test_a_part_that_is_allowed_is_removed(store: AssetStore) -> None:
    names = filled(store, 500)
    assert swept(store, names[25:]).removed == 25


def test_half_of_a_small_store_is_removed(store: AssetStore) -> None:
    names = filled(store, 40)
    assert swept(store, names[20:]).held is None


def test_an_empty_index_removes_nothing(store: AssetStore) -> None:
    names = filled(store, 3)
    report = swept(store, [])
    assert report.held == "the index default/a refers to no media at all"
    assert all(store.exists(name) for name in names)


def test_another_index_removes_nothing_until_it_is_forced(store: AssetStore) -> None:
    names = filled(store, 3)
    assert swept(store, names[1:]).removed == 1
    other = swept(store, names[2:], owner="staging/a")
    assert other.held == "the store belongs to the index default/a, and this is staging/a"
    assert store.exists(names[1])
    assert swept(store, names[2:], SweepLimits(DAY_S, force=True), owner="staging/a").removed == 1
    assert store.owner() == "staging/a"


def test_a_dry_run_changes_nothing(store: AssetStore) -> None:
    names = filled(store, 3)
    report = swept(store, names[1:], SweepLimits(DAY_S, dry_run=True))
    assert (report.checked, report.removed, report.held) == (3, 1, None)
    assert all(store.exists(name) for name in names)
    assert store.owner() is None


def test_removed_media_rest_and_return_if_something_refers_to_them_again(store: AssetStore) -> None:
    names = filled(store, 3)
    swept(store, names[1:])
    assert [stored.sha256 for stored in store.list_trash()] == names[:1]
    assert not store.exists(names[0])
    report = swept(store, names)
    assert (report.restored, report.removed) == (1, 0)
    assert store.read(names[0]) == b"media 0"
    assert list(store.list_trash()) == []


def test_media_that_were_put_again_stay_as_they_are(store: AssetStore) -> None:
    names = filled(store, 3)
    swept(store, names[1:])
    store.put(b"media 0")
    assert swept(store, names).restored == 0
    assert store.read(names[0]) == b"media 0"


def test_the_trash_is_emptied_after_the_rest(store: AssetStore) -> None:
    names = filled(store, 3)
    swept(store, names[1:])
    assert swept(store, names[1:], days=6.9).purged == 0
    assert swept(store, names[1:], days=7.1).purged == 1
    assert list(store.list_trash()) == []


def test_without_a_rest_media_are_removed_at_once(store: AssetStore) -> None:
    names = filled(store, 3)
    assert swept(store, names[1:], SweepLimits(DAY_S)).removed == 1
    assert list(store.list_trash()) == []


def test_young_media_are_neither_counted_nor_removed(store: AssetStore) -> None:
    names = filled(store, 100)
    report = swept(store, names[50:], days=0.5)
    assert (report.too_young, report.removed, report.held) == (50, 0, None)
