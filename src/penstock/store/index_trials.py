"""Interface for trying indexes of vectors on a server, in a collection of their own that is dropped afterwards.

`store.memory_trials` is the double, and `store.milvus.trials` the real one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from penstock.config import VectorIndexSettings
from penstock.records import Float32

BUCKETS = 100
"""Each vector is in one of 100 buckets by chance, so that a filter on buckets has the selectivity that is wanted."""
BUCKET_SEED = 11


@dataclass(frozen=True, slots=True, eq=False)
class FoundRows:
    """The result of one search: int64[at most limit], rows of the vectors, best first; and milliseconds it took."""

    rows: npt.NDArray[np.int64]
    took_ms: float


class IndexTrials(Protocol):
    """Builds one index after the other over the same vectors. Used by one thread.

    Raises from every method:
        UnavailableError: the server does not answer in time.
        PermanentError: it refuses the index or the search.
    """

    @property
    def product(self) -> str:
        """Name and version of the server."""

    @property
    def index_types(self) -> tuple[str, ...]:
        """The types of index that it has, by Milvus's names."""

    def load(self, vectors: Float32) -> None:
        """Replaces the vectors by float32[n, dim], L2-normalised, each in the bucket that `buckets_of` gives it."""

    def build(self, index: VectorIndexSettings) -> float:
        """Replaces the index; returns the seconds until every vector is in the new one and it answers."""

    def search(
        self, query: Float32, index: VectorIndexSettings, *, limit: int, below_bucket: int | None = None
    ) -> FoundRows:
        """Searches the present index.

        Args:
            query: float32[dim], L2-normalised.
            index: how far to look; its type is that of `build`.
            limit: vectors wanted.
            below_bucket: only vectors of smaller buckets are found; None: all.
        """

    def restart(self) -> None:
        """Takes the index out of memory and loads it again: the next search is that of a cold start."""

    def close(self) -> None:
        """Drops the collection and ends the connection."""


def buckets_of(count: int) -> npt.NDArray[np.int64]:
    """Returns the bucket of each of a number of vectors: int64[count], 0 to 99, in equal shares by chance."""
    return np.random.default_rng(BUCKET_SEED).permutation(count) % BUCKETS
