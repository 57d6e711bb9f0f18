"""Adds and subtracts vectors of one space."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from penstock.errors import QueryError
from penstock.query.fusion.normalise import Float64
from penstock.records import Float32

# Two texts of one meaning have cosines of 0.9, which leaves 0.3 of the length: a hundredth is what rounding leaves.
_MIN_LENGTH = 0.01


def compose_vectors(terms: Sequence[tuple[float, Sequence[Float32]]]) -> Float32:
    """Returns the sum of the normalised means of the members times their weights, float32[dim], L2-normalised.

    Args:
        terms: weight, negative to subtract, and members, float32[dim] each; at least one of each. The weights count in
            proportion only.

    Raises:
        QueryError: 400, the terms cancel out.
    """
    largest = max(abs(weight) for weight, _ in terms)
    total = np.sum([weight / largest * _mean(members) for weight, members in terms], axis=0)
    length = float(np.linalg.norm(total))
    if length < _MIN_LENGTH:
        raise QueryError(
            "what is searched for and what is to be avoided cancel out: nothing is left to search for", field="/not"
        )
    return np.asarray(total / length, dtype=np.float32)


def _mean(vectors: Sequence[Float32]) -> Float64:
    """Returns the normalised mean, float64[dim]; zeros for vectors that cancel out."""
    total = np.sum(np.asarray(vectors, dtype=np.float64), axis=0)
    return np.asarray(total / (float(np.linalg.norm(total)) or 1.0))
