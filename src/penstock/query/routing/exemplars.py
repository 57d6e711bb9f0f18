"""Compares a question with examples of questions for each collection, by the sentence encoder.

The vector of the question is the one that the search computes anyway; those of the examples are computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from penstock.errors import ConfigError
from penstock.query.routing.phrases import read_phrases
from penstock.query.routing.words import collections_of
from penstock.records import Collection, Float32

SHIPPED_EXEMPLARS = Path(__file__).with_name("exemplars.txt")

# The examples that decide on a collection. One alone would follow what it is about, rather than its form.
_NEAREST = 3


class Exemplars:
    """Example questions, each for some collections.

    Args:
        examples: with the collections that answer each.
        vectors: float32[examples, dim], L2-normalised, as questions are encoded.
    """

    def __init__(self, examples: Sequence[tuple[frozenset[Collection], str]], vectors: Float32) -> None:
        self._vectors = vectors
        self._rows = {
            collections: np.array([row for row, (of_row, _) in enumerate(examples) if of_row == collections])
            for collections in dict.fromkeys(collections for collections, _ in examples)
        }

    @classmethod
    def open(cls, files: Iterable[Path], encode: Callable[[Sequence[str]], Float32]) -> Exemplars:
        """Reads the examples and encodes them.

        Args:
            files: in the format of the shipped one.
            encode: returns float32[texts, dim], L2-normalised.

        Raises:
            ConfigError: a file cannot be read or has an invalid line, or there is no example.
        """
        examples = [
            (collections_of(line, file), phrase)
            for file in files
            for line in read_phrases(file)
            for phrase in line.phrases
        ]
        if not examples:
            raise ConfigError("there are no exemplars for routing: the files have only comments")
        return cls(examples, encode([phrase for _, phrase in examples]))

    def nearest(self, question: Float32) -> tuple[frozenset[Collection], float]:
        """Returns the collections of the nearest examples, and how much nearer they are than those of the next ones.

        Args:
            question: float32[dim], L2-normalised.
        """
        cosines = self._vectors @ question
        closeness = {
            collections: float(np.sort(cosines[rows])[-_NEAREST:].mean()) for collections, rows in self._rows.items()
        }
        best, *others = sorted(closeness, key=lambda collections: -closeness[collections])
        return best, closeness[best] - (closeness[others[0]] if others else -1.0)
