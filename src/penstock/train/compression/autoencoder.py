"""Trains an autoencoder with one hidden layer: fewer dimensions from which the vector can be restored.

    code      normalise(x A + relu(x B) C)      A starts as the principal components, C as zero
    restored  code D                           D starts as the transpose of A

Without the middle term it is PCA (Baldi and Hornik, 1989): what the hidden layer adds is the gain to be shown.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from penstock.encoders.transform import Layer, LayeredTransform
from penstock.records import Float32
from penstock.train.compression.adam import Adam
from penstock.train.compression.reductions import Reduction, normalised

HIDDEN = 128
_RATE = 1e-3
_EPOCHS = 12
_BATCH = 256


@dataclass(frozen=True, slots=True, eq=False)
class Autoencoder:
    """The encoder of a trained autoencoder.

    Attributes:
        linear: float32[dim, reduced].
        inward, outward: float32[dim, hidden] and float32[hidden, reduced].
    """

    linear: Float32
    inward: Float32
    outward: Float32
    method: str = "autoencoder"

    @property
    def dim(self) -> int:
        """The dimensions of the vectors that it returns."""
        return int(self.linear.shape[1])

    def apply(self, vectors: Float32) -> Float32:
        """Returns float32[n, dim], L2-normalised, of float32[n, input_dim]."""
        return normalised(vectors @ self.linear + np.maximum(vectors @ self.inward, 0) @ self.outward)

    def to_transform(self) -> LayeredTransform:
        """Returns the same map as a chain of two layers: x A is relu(x A) - relu(-x A)."""
        dim = self.dim
        identity = np.eye(dim, dtype=np.float32)
        inward = np.concatenate([self.linear, -self.linear, self.inward], axis=1)
        outward = np.concatenate([identity, -identity, self.outward])
        layers = (Layer(inward, np.zeros(inward.shape[1], np.float32)), Layer(outward, np.zeros(dim, np.float32)))
        return LayeredTransform(layers, activation="relu")


def train_autoencoder(vectors: Float32, start: Reduction, *, seed: int, epochs: int = _EPOCHS) -> Autoencoder:
    """Returns an autoencoder of vectors. Equal seeds give equal ones.

    Args:
        vectors: float32[n, dim], of documents and queries.
        start: the principal components, as many as dimensions are wanted.
        seed: of the hidden layer and of the order of the vectors.
        epochs: passes over the vectors.
    """
    rng = np.random.default_rng(seed)
    dim = start.input_dim
    linear, decoder = start.weights.copy(), np.ascontiguousarray(start.weights.T)
    inward = (rng.normal(size=(dim, HIDDEN)) / np.sqrt(dim)).astype(np.float32)
    outward = np.zeros((HIDDEN, start.dim), dtype=np.float32)
    parameters = [linear, inward, outward, decoder]
    optimiser = Adam(parameters, rate=_RATE)
    for _ in range(epochs):
        order = rng.permutation(len(vectors))
        for begin in range(0, len(order), _BATCH):
            optimiser.step(restoring_gradients(vectors[order[begin : begin + _BATCH]], *parameters)[1])
    return Autoencoder(linear, inward, outward)


def restoring_gradients(
    batch: Float32, linear: Float32, inward: Float32, outward: Float32, decoder: Float32
) -> tuple[float, list[Float32]]:
    """Returns the mean squared error of restoring a batch, and its gradients by the four matrices, in their order."""
    hidden = np.maximum(batch @ inward, 0)
    raw = batch @ linear + hidden @ outward
    lengths = np.maximum(np.linalg.norm(raw, axis=1, keepdims=True), 1e-12)
    code = raw / lengths
    error = code @ decoder - batch
    loss = float((error**2).sum(axis=1).mean())
    slope = 2 * error / len(batch)
    of_code = slope @ decoder.T
    of_raw = (of_code - code * (of_code * code).sum(axis=1, keepdims=True)) / lengths
    of_hidden = (of_raw @ outward.T) * (hidden > 0)
    return loss, [batch.T @ of_raw, batch.T @ of_hidden, hidden.T @ of_raw, code.T @ slope]
