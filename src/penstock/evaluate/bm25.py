"""BM25 over all texts of a set, as the store computes it, from an inverted index in arrays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from penstock.analysis import query_terms, terms

Terms: TypeAlias = Callable[[str], Sequence[str]]

_K1, _B = 1.2, 0.75  # BM25's usual values (Robertson and Zaragoza, 2009), Milvus's defaults


class BM25:
    """Okapi BM25 over texts.

    Args:
        texts: all texts of the index.
        of_text, of_query: return the terms of a text and of a query, as those of every store.
    """

    def __init__(self, texts: Sequence[str], of_text: Terms = terms, of_query: Terms = query_terms) -> None:
        self._of_query = of_query
        self._size = len(texts)
        counts = [Counter(of_text(text)) for text in texts]
        lengths = np.array([count.total() for count in counts], dtype=np.float64)
        average = lengths.mean() if lengths.any() else 1.0
        rows: dict[str, list[int]] = {}
        frequencies: dict[str, list[int]] = {}
        for row, count in enumerate(counts):
            for term, frequency in count.items():
                rows.setdefault(term, []).append(row)
                frequencies.setdefault(term, []).append(frequency)
        saturation = _K1 * (1 - _B + _B * lengths / average)
        self._postings: dict[str, tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]] = {}
        for term, containing in rows.items():
            where = np.array(containing, dtype=np.int64)
            occurrences = np.array(frequencies[term], dtype=np.float64)
            rarity = np.log(1 + (self._size - len(where) + 0.5) / (len(where) + 0.5))
            self._postings[term] = where, rarity * occurrences * (_K1 + 1) / (occurrences + saturation[where])

    def scores(self, query: str) -> npt.NDArray[np.float64]:
        """Returns the score of every text: float64[texts], 0 for a text without a term of the query."""
        postings = [self._postings[term] for term in self._of_query(query) if term in self._postings]
        if not postings:
            return np.zeros(self._size)
        rows, weights = zip(*postings, strict=True)
        return np.bincount(np.concatenate(rows), np.concatenate(weights), minlength=self._size).astype(np.float64)
