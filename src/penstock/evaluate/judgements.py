"""Holds which documents are relevant to which query, as arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Judgements:
    """The relevant documents of each query, one query after the other.

    Attributes:
        offsets: int64[queries + 1]; the documents of query q are at offsets[q] to offsets[q + 1].
        documents: int64[pairs], the rows of relevant documents, ascending within a query.
        gains: float64[pairs], how relevant, above 0.
    """

    offsets: npt.NDArray[np.int64]
    documents: npt.NDArray[np.int64]
    gains: npt.NDArray[np.float64]

    @classmethod
    def of_pairs(cls, pairs: Iterable[tuple[int, int, float]], *, queries: int) -> Judgements:
        """Returns the judgements of (query, document, gain), in any order, each pair once."""
        ordered = sorted(pairs)
        numbers = np.array([query for query, _, _ in ordered], dtype=np.int64)
        return cls(
            np.searchsorted(numbers, np.arange(queries + 1)).astype(np.int64),
            np.array([document for _, document, _ in ordered], dtype=np.int64),
            np.array([gain for _, _, gain in ordered], dtype=np.float64),
        )

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """Returns the number of relevant documents of each query: int64[queries]."""
        return np.diff(self.offsets)

    @property
    def query_of_pair(self) -> npt.NDArray[np.int64]:
        """Returns the query of each pair: int64[pairs]."""
        return np.repeat(np.arange(len(self.offsets) - 1), self.counts)

    def rows_of(self, query: int) -> npt.NDArray[np.int64]:
        """Returns the relevant documents of one query."""
        return self.documents[self.offsets[query] : self.offsets[query + 1]]

    def rows(self) -> Sequence[npt.NDArray[np.int64]]:
        """Returns the relevant documents of each query."""
        return np.split(self.documents, self.offsets[1:-1])

    def gains_by_query(self) -> Sequence[npt.NDArray[np.float64]]:
        """Returns the gains of each query's relevant documents, in the order of `rows`."""
        return np.split(self.gains, self.offsets[1:-1])

    def take(self, queries: npt.NDArray[np.int64]) -> Judgements:
        """Returns the judgements of some queries, in this order."""
        counts = self.counts[queries]
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts)
        pairs = np.repeat(self.offsets[queries], counts) + within
        return Judgements(offsets, self.documents[pairs], self.gains[pairs])

    def gains_at(self, documents: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Returns the gain of each document for the query of its row; 0 where it is not relevant.

        Args:
            documents: int64[queries, any]; negative where there is none.

        Returns:
            float64 of the same shape.
        """
        if not len(self.documents):
            return np.zeros(documents.shape, dtype=np.float64)
        width = int(max(documents.max(initial=0), self.documents.max())) + 1
        keys = self.query_of_pair * width + self.documents
        keys_of_documents = np.arange(len(documents))[:, None] * width + documents
        places = np.minimum(np.searchsorted(keys, keys_of_documents), len(keys) - 1)
        return np.where((keys[places] == keys_of_documents) & (documents >= 0), self.gains[places], 0.0)
