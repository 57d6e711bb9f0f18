"""Tests of the cache of keys and values: room, age, eviction, and what is computed again."""

from __future__ import annotations

from collections.abc import Sequence

from penstock.train.fusion.key_cache import KeyCache


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def computed(keys: Sequence[str]) -> list[str]:
    return [key.upper() for key in keys]


def test_a_key_is_computed_once_also_if_it_repeats() -> None:
    cache = KeyCache[str, str](10)
    assert cache.get(["a", "b", "a"], computed) == ["A", "B", "A"]
    assert cache.get(["b"], computed) == ["B"]
    assert cache.computed == 2


def test_the_least_recently_used_is_evicted_and_named() -> None:
    evicted: list[str] = []
    cache = KeyCache[str, str](2, on_evict=evicted.append)
    for key in ("a", "b", "a", "c"):
        cache.get([key], computed)
    assert evicted == ["b"]
    assert len(cache) == 2


def test_more_keys_than_room_are_all_returned() -> None:
    evicted: list[str] = []
    cache = KeyCache[str, str](2, on_evict=evicted.append)
    assert cache.get(["a", "b", "c"], computed) == ["A", "B", "C"]
    assert evicted == ["a"]


def test_an_old_value_is_computed_again() -> None:
    clock = Clock()
    evicted: list[str] = []
    cache = KeyCache[str, str](10, max_age_s=60, on_evict=evicted.append, clock=clock)
    cache.get(["a"], computed)
    clock.now_s = 59.9
    cache.get(["a"], computed)
    assert cache.computed == 1
    clock.now_s = 60.0
    cache.get(["a"], computed)
    assert (cache.computed, evicted) == (2, ["a"])


def test_an_asset_that_changed_is_computed_again_alone() -> None:
    cache = KeyCache[str, str](10)
    cache.get(["a", "b"], computed)
    cache.drop("a")
    cache.get(["a", "b"], computed)
    assert cache.computed == 3
