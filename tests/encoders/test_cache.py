from __future__ import annotations

import numpy as np

from penstock.encoders.cache import VectorCache


def test_the_least_recently_used_vector_goes_first() -> None:
    cache = VectorCache(2)
    for key in ("a", "b"):
        cache.store(key, np.ones(3, dtype=np.float32))
    cache.lookup(["a"])
    cache.store("c", np.ones(3, dtype=np.float32))
    assert set(cache.lookup(["a", "b", "c"])) == {"a", "c"}
    assert len(cache) == 2


def test_hits_and_misses_add_up_to_the_items_asked_for() -> None:
    cache = VectorCache(10)
    cache.lookup(["a", "b", "a"])  # a twice: encoded once
    assert (cache.hits, cache.misses) == (1, 2)
    cache.store("a", np.ones(3, dtype=np.float32))
    cache.lookup(["a", "b"])
    assert (cache.hits, cache.misses) == (2, 3)


def test_a_cache_of_no_capacity_keeps_nothing() -> None:
    cache = VectorCache(0)
    cache.store("a", np.ones(3, dtype=np.float32))
    assert cache.lookup(["a"]) == {}


def test_what_is_kept_does_not_hold_the_batch_it_came_from() -> None:
    cache = VectorCache(10)
    batch = np.ones((1000, 3), dtype=np.float32)
    cache.store("a", batch[0])
    batch[0] = 7
    kept = cache.lookup(["a"])["a"]
    assert kept.base is None
    assert kept.tolist() == [1, 1, 1]
