"""Keeps the keys and values of assets between questions: rule 5. An asset that changes is computed again alone."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class KeyCache(Generic[K, V]):
    """A bounded map of values that get old; the least recently used ones go first. Not thread-safe.

    Args:
        capacity: values kept.
        max_age_s: age from which a value is computed again.
        on_evict: called with each key that is dropped for room or age.
        clock: seconds that only grow; handed in by tests.

    Attributes:
        computed: values that had to be computed.
    """

    def __init__(
        self,
        capacity: int,
        *,
        max_age_s: float = 3_600.0,
        on_evict: Callable[[K], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kept: OrderedDict[K, tuple[V, float]] = OrderedDict()
        self._capacity = capacity
        self._max_age_s = max_age_s
        self._on_evict = on_evict
        self._clock = clock
        self.computed = 0

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, keys: Sequence[K], compute: Callable[[Sequence[K]], Sequence[V]]) -> list[V]:
        """Returns the value of each key; those that are missing or old are computed in one call.

        Args:
            keys: may repeat.
            compute: returns the values of distinct keys, in their order.
        """
        now_s = self._clock()
        distinct = list(dict.fromkeys(keys))
        values_by_key = {key: self._kept[key][0] for key in distinct if self._is_fresh(key, now_s)}
        missing = [key for key in distinct if key not in values_by_key]
        if missing:
            values = dict(zip(missing, compute(missing), strict=True))
            self.computed += len(missing)
            values_by_key |= values
            for key, value in values.items():
                self._kept[key] = (value, now_s)
        for key in distinct:
            if key in self._kept:
                self._kept.move_to_end(key)
        while len(self._kept) > self._capacity:
            self._on_evict(self._kept.popitem(last=False)[0])
        return [values_by_key[key] for key in keys]

    def drop(self, key: K) -> None:
        """Forgets a value, as its asset has changed."""
        self._kept.pop(key, None)

    def _is_fresh(self, key: K, now_s: float) -> bool:
        if key not in self._kept:
            return False
        if now_s - self._kept[key][1] < self._max_age_s:
            return True
        del self._kept[key]
        self._on_evict(key)
        return False
