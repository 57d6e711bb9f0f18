"""Reduces vectors to fewer dimensions by a matrix: principal components, a random projection, a trained head.

    prefix      the first coordinates; only for vectors that were trained so (`is_nested`)
    random      an orthonormal basis from a seed (Johnson and Lindenstrauss, 1984): the floor that the others must beat
    pca         the directions of largest variance (Pearson, 1901) of documents alone, or of documents and queries

Queries and documents take the same matrix and are L2-normalised afterwards, so that a cosine remains a cosine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from penstock.errors import UsageError
from penstock.records import Float32

PREFIX_REFUSED = (
    "the first coordinates of a vector are not a smaller vector: the encoder was not trained for it, and cutting to a "
    "third costs 6 to 9 points of nDCG@10. Use --method pca, or matryoshka, which trains a head whose prefixes hold"
)


@dataclass(frozen=True, slots=True, eq=False)
class Reduction:
    """A matrix that takes vectors to fewer dimensions.

    Attributes:
        method: how it was found, such as `pca of documents and queries`.
        weights: float32[dim, reduced].
        is_nested: its prefixes are reductions too, so that `prefix` may cut it.
    """

    method: str
    weights: Float32
    is_nested: bool = False

    @property
    def input_dim(self) -> int:
        """The dimensions of the vectors that it takes."""
        return int(self.weights.shape[0])

    @property
    def dim(self) -> int:
        """The dimensions of the vectors that it returns."""
        return int(self.weights.shape[1])

    def apply(self, vectors: Float32) -> Float32:
        """Returns float32[n, dim], L2-normalised, of float32[n, input_dim]."""
        return normalised(vectors @ self.weights)

    def prefix(self, dim: int) -> Reduction:
        """Returns the reduction to its first dimensions.

        Raises:
            UsageError: its prefixes are no reductions.
        """
        if not self.is_nested:
            raise UsageError(PREFIX_REFUSED)
        return Reduction(self.method, np.ascontiguousarray(self.weights[:, :dim]), is_nested=True)


def normalised(vectors: Float32) -> Float32:
    """Returns vectors of length 1, float32 of the same shape; a zero vector stays as it is."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1), dtype=np.float32)


def cut(input_dim: int, dim: int) -> Reduction:
    """Returns the first coordinates, a row of the table. As a setting it is refused (`PREFIX_REFUSED`)."""
    return Reduction("prefix, untrained", np.eye(input_dim, dim, dtype=np.float32))


def random_projection(input_dim: int, dim: int, *, seed: int) -> Reduction:
    """Returns a projection to an orthonormal basis that a seed decides."""
    noise = np.random.default_rng(seed).normal(size=(input_dim, dim))
    return Reduction("random projection", np.linalg.qr(noise)[0].astype(np.float32))


def fit_pca(documents: Float32, queries: Float32 | None = None) -> Reduction:
    """Returns all principal components, the largest first: a rotation, whose prefixes are the reductions.

    Each of the two is centred by itself before the components are computed: else the first one would be the distance
    between the languages of questions and texts. `apply` subtracts no mean, so that cosines of all dimensions are kept.

    Args:
        documents: float32[n, dim].
        queries: float32[m, dim], to be considered too; None: documents alone.
    """
    parts = [documents] if queries is None else [documents, queries]
    dim = documents.shape[1]
    covariance = np.zeros((dim, dim))
    for part in parts:
        centred = part.astype(np.float64) - part.mean(axis=0, dtype=np.float64)
        covariance += centred.T @ centred
    _, components = np.linalg.eigh(covariance)  # ascending
    method = "pca of documents" if queries is None else "pca of documents and queries"
    return Reduction(method, np.ascontiguousarray(components[:, ::-1], dtype=np.float32), is_nested=True)
