from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from penstock.encoders.cache import VectorCache
from penstock.observability import metrics


def test_the_least_recently_used_vector_goes_first() -> None:
    cache = VectorCache(2)
    for key in ("a", "b"):
        cache.store(key, np.ones(3, dtype=np.float32))
    cache.lookup(["a"])
    cache.store("c", np.ones(3, dtype=np.float32))
    assert set(cache.lookup(["a", "b", "c"])) == {"a", "c"}
    assert len(cache) == 2


def test_hits_and_misses_add_up_to_the_requested_items() -> None:
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


def test_a_kept_vector_does_not_hold_the_batch_it_came_from() -> None:
    cache = VectorCache(10)
    batch = np.ones((1000, 3), dtype=np.float32)
    cache.store("a", batch[0])
    batch[0] = 7
    kept = cache.lookup(["a"])["a"]
    assert kept.base is None
    assert kept.tolist() == [1, 1, 1]


def test_a_single_vector_is_counted_and_kept_like_those_of_a_batch() -> None:
    cache: VectorCache[tuple[str, str]] = VectorCache(1)
    assert cache.get(("passage.text", "a")) is None
    cache.store(("passage.text", "a"), np.ones(3, dtype=np.float32))
    assert cache.get(("passage.text", "a")) is not None
    assert cache.get(("passage.query", "a")) is None
    cache.store(("passage.query", "a"), np.ones(3, dtype=np.float32))
    assert cache.get(("passage.text", "a")) is None
    assert (cache.hits, cache.misses) == (1, 3)


@pytest.mark.parametrize(("count_as", "counted"), [("encoder", 3), ("query", 3), (None, 0)])
def test_requests_count_in_the_metric_only_under_a_label(
    count_as: Literal["encoder", "query"] | None, counted: int
) -> None:
    def total() -> float:
        samples = next(iter(metrics.CACHE_REQUESTS.collect())).samples
        return sum(sample.value for sample in samples if sample.name.endswith("_total"))

    before = total()
    VectorCache[str](10, count_as=count_as).lookup(["a", "b", "a"])
    assert total() - before == counted
