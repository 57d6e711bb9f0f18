"""Fits linear maps of questions onto what is right for them in closed form, in float64.

    ridge_to_identity   min ‖XW - Y‖² + λ‖W - I‖² (Tikhonov): few pairs move little, many decide
    procrustes          the rotation that brings X closest to Y (Schönemann, 1966)
    cca                 projections of both sides that correlate most (Hotelling, 1936)
    centring, whitening corrections without pairs. They are rows of the tables and off: they cost order on all sets

All take row vectors: float[n, dim].
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from penstock.records import Float32

Float64: TypeAlias = npt.NDArray[np.float64]

# Of the largest eigenvalue: directions in which the data do not vary are not stretched.
_LEAST_VARIANCE = 1e-6


def ridge_to_identity(questions: Float32, right: Float32, strength: float, mix: float = 1.0) -> Float32:
    """Returns mix · W + (1 - mix) · I, float32[dim, dim], where W = (XᵀX + λI)⁻¹(XᵀY + λI).

    Without pairs, and for a `strength` without bounds, W is I.

    Args:
        questions, right: X and Y, float32[n, dim], row i of both is a pair.
        strength: λ, above 0: the number of pairs that would weigh as much as the identity.
        mix: share of W.
    """
    x, y = questions.astype(np.float64), right.astype(np.float64)
    identity = np.eye(x.shape[1])
    fitted = np.linalg.solve(x.T @ x + strength * identity, x.T @ y + strength * identity)
    return np.asarray(mix * fitted + (1 - mix) * identity, dtype=np.float32)


def procrustes(questions: Float32, right: Float32) -> Float32:
    """Returns the orthogonal matrix R, float32[dim, dim], that minimises ‖XR - Y‖."""
    left, _, other = np.linalg.svd(questions.astype(np.float64).T @ right.astype(np.float64))
    return np.asarray(left @ other, dtype=np.float32)


def cca(questions: Float32, right: Float32, dim: int, strength: float = 1e-2) -> tuple[Float32, Float32]:
    """Returns the projections of both sides, float32[dim in, dim] each, that correlate most.

    Args:
        questions, right: X and Y, float32[n, any]; they are centred here.
        dim: of the results, at most that of the smaller side.
        strength: added to the variances, as a share of their mean: few pairs have singular ones.
    """
    x, y = (_centred(side)[0] for side in (questions, right))
    x_root, y_root = (_inverse_root(side.T @ side / len(side), strength) for side in (x, y))
    left, _, other = np.linalg.svd(x_root @ (x.T @ y / len(x)) @ y_root)
    return np.asarray(x_root @ left[:, :dim], np.float32), np.asarray(y_root @ other[:dim].T, np.float32)


def centring(vectors: Float32) -> tuple[Float32, Float32]:
    """Returns the matrix and the bias that subtract the mean: the identity, and -mean."""
    return np.eye(vectors.shape[1], dtype=np.float32), np.asarray(-vectors.mean(axis=0), dtype=np.float32)


def whitening(vectors: Float32, strength: float = 1e-2) -> tuple[Float32, Float32]:
    """Returns the matrix and the bias after which all directions vary alike (ZCA)."""
    centred, mean = _centred(vectors)
    root = _inverse_root(centred.T @ centred / len(centred), strength)
    return np.asarray(root, dtype=np.float32), np.asarray(-mean @ root, dtype=np.float32)


def _centred(vectors: Float32) -> tuple[Float64, Float64]:
    values = vectors.astype(np.float64)
    mean = values.mean(axis=0)
    return values - mean, mean


def _inverse_root(covariance: Float64, strength: float) -> Float64:
    """Returns the inverse square root of a covariance, with `strength` of its mean variance added."""
    values, vectors = np.linalg.eigh(covariance)
    values = values + strength * values.mean()
    values = np.maximum(values, _LEAST_VARIANCE * values.max())
    return np.asarray((vectors / np.sqrt(values)) @ vectors.T)
