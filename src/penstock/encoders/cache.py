"""A cache of embeddings by content key, which drops the least recently used ones first."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Generic, Literal, TypeVar

from cachetools import LRUCache

from penstock.observability import metrics
from penstock.records import Float32

K = TypeVar("K", bound=Hashable)


class VectorCache(Generic[K]):
    """A bounded map from key to vector. Not thread-safe.

    A key must identify the encoder too where several share a cache.

    Args:
        capacity: vectors kept; 0 keeps none.
        count_as: label of `penstock_cache_requests_total` under which requests count; None: they do not count there.

    Attributes:
        hits: items that needed no encoding: known already, or repeated within a batch.
        misses: items that needed it.
    """

    def __init__(self, capacity: int, *, count_as: Literal["encoder", "query"] | None = None) -> None:
        self._vectors: LRUCache[K, Float32] = LRUCache(capacity)
        self._count_as = count_as
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._vectors)

    def lookup(self, keys: Sequence[K]) -> dict[K, Float32]:
        """Returns the known vectors of a batch's keys. Counts every key of the batch as a hit or a miss."""
        distinct = set(keys)
        known = {key: self._vectors[key] for key in distinct if key in self._vectors}
        misses = len(distinct) - len(known)
        self._count(len(keys) - misses, misses)
        return known

    def get(self, key: K) -> Float32 | None:
        """Returns one vector if it is known. Counts a hit or a miss."""
        vector = self._vectors.get(key)
        self._count(int(vector is not None), int(vector is None))
        return vector

    def store(self, key: K, vector: Float32) -> None:
        """Keeps float32[dim]. A row of a batch is copied: as a view it would keep the whole batch in memory."""
        if self._vectors.maxsize > 0:
            self._vectors[key] = vector if vector.base is None else vector.copy()

    def _count(self, hits: int, misses: int) -> None:
        self.hits += hits
        self.misses += misses
        if self._count_as is not None:
            metrics.CACHE_REQUESTS.labels(self._count_as, "miss").inc(misses)
            metrics.CACHE_REQUESTS.labels(self._count_as, "hit").inc(hits)
