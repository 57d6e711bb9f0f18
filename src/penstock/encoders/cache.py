"""Vectors by content key, the least recently used ones dropped: the same bytes are not encoded twice."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from penstock.observability import metrics
from penstock.records import Float32


class VectorCache:
    """A bounded map from content key to vector. One an encoder, so that a key never meets another model's vector.

    Args:
        capacity: vectors kept; 0 keeps none.

    Attributes:
        hits: items that needed no encoding: known already, or a second time in the same batch.
        misses: items that did.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._vectors: OrderedDict[str, Float32] = OrderedDict()
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._vectors)

    def lookup(self, keys: Sequence[str]) -> dict[str, Float32]:
        """The known vectors of a batch's keys. Counts every key of the batch as a hit or a miss."""
        distinct = set(keys)
        found = {key: self._vectors[key] for key in distinct if key in self._vectors}
        for key in found:
            self._vectors.move_to_end(key)
        misses = len(distinct) - len(found)
        self.misses += misses
        self.hits += len(keys) - misses
        if self._capacity:  # the query plane's encoders keep none, its own cache stands before them
            metrics.CACHE_REQUESTS.labels("encoder", "miss").inc(misses)
            metrics.CACHE_REQUESTS.labels("encoder", "hit").inc(len(keys) - misses)
        return found

    def store(self, key: str, vector: Float32) -> None:
        """Keeps a copy of float32[dim]: a view would keep the whole batch that it is a row of."""
        if self._capacity == 0:
            return
        self._vectors[key] = vector.copy()
        self._vectors.move_to_end(key)
        if len(self._vectors) > self._capacity:
            self._vectors.popitem(last=False)
