"""Trials of indexes in memory: FLAT, and IVF with real cells, whose recall depends on `nprobe` as a server's does."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt

from penstock.config import VectorIndexSettings
from penstock.errors import PermanentError
from penstock.records import Float32
from penstock.store.index_trials import FoundRows, IndexTrials, buckets_of

_ROUNDS = 8  # of Lloyd's algorithm


class MemoryTrials(IndexTrials):
    """The double of the trials."""

    product = "memory"
    index_types = ("FLAT", "IVF_FLAT", "IVF_SQ8")

    def __init__(self) -> None:
        self._vectors = np.zeros((0, 0), dtype=np.float32)
        self._stored = self._vectors
        self._buckets = buckets_of(0)
        self._centres: Float32 | None = None
        self._cell_of: npt.NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._kind = ""

    def load(self, vectors: Float32) -> None:
        self._vectors, self._buckets, self._kind = vectors, buckets_of(len(vectors)), ""

    def build(self, index: VectorIndexSettings) -> float:
        started = time.perf_counter()
        if index.type not in self.index_types:
            raise PermanentError(f"{self.product} has no index {index.type}")
        self._kind, self._centres, self._stored = index.type, None, self._vectors
        if index.type != "FLAT":
            self._centres = _centres(self._vectors, min(index.nlist, len(self._vectors)))
            self._cell_of = np.argmax(self._vectors @ self._centres.T, axis=1)
        if index.type == "IVF_SQ8":
            least, largest = self._vectors.min(axis=0), self._vectors.max(axis=0)
            step = np.where(largest > least, (largest - least) / 255, 1)
            self._stored = (np.round((self._vectors - least) / step) * step + least).astype(np.float32)
        return time.perf_counter() - started

    def search(
        self, query: Float32, index: VectorIndexSettings, *, limit: int, below_bucket: int | None = None
    ) -> FoundRows:
        if index.type != self._kind:
            raise PermanentError(f"the index is {self._kind or 'not built'}, not {index.type}")
        started = time.perf_counter()
        allowed = np.ones(len(self._vectors), dtype=np.bool_)
        if below_bucket is not None:
            allowed &= self._buckets < below_bucket
        if self._centres is not None:
            cells = np.argsort(-(self._centres @ query))[: index.nprobe]
            allowed &= np.isin(self._cell_of, cells)
        rows = np.flatnonzero(allowed)
        best = np.argsort(-(self._stored[rows] @ query), kind="stable")[:limit]
        return FoundRows(rows[best], (time.perf_counter() - started) * 1000)

    def restart(self) -> None:
        """Does nothing: memory has no cold start."""

    def close(self) -> None:
        self._vectors = self._stored = np.zeros((0, 0), dtype=np.float32)


def _centres(vectors: Float32, count: int) -> Float32:
    """Returns the centres of cells by spherical k-means: float32[count, dim]."""
    centres = vectors[np.random.default_rng(0).permutation(len(vectors))[:count]].copy()
    for _ in range(_ROUNDS):
        nearest = np.argmax(vectors @ centres.T, axis=1)
        for cell in range(count):
            members = vectors[nearest == cell]
            if len(members):
                centre = members.sum(axis=0)
                centres[cell] = centre / max(float(np.linalg.norm(centre)), 1e-12)
    return centres
