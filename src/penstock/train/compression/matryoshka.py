"""Trains a head whose prefixes are vectors too: Matryoshka representations (Kusupati et al., 2022).

The head is a square matrix that starts as the principal components, a rotation: untrained it changes no cosine, and its
prefixes are those of PCA. The loss is the symmetric InfoNCE of questions and their documents, summed over the prefixes;
in a batch, documents of equal words are no negatives of each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from penstock.records import Float32
from penstock.train.compression.adam import Adam
from penstock.train.compression.reductions import Reduction, normalised

PREFIXES = (384, 256, 128, 64)


@dataclass(frozen=True, slots=True)
class MatryoshkaOptions:
    """The options of the training. The values were chosen on the dev split of wordnet.

    Attributes:
        prefixes: dimensions at which the loss is computed; those beyond the vectors' are left out.
        temperature: of InfoNCE.
        rate: step size of Adam.
        pull: weight of the squared distance from the start, which keeps a head of few pairs near it.
        epochs: passes over the pairs.
        batch: pairs of a step; the others of a batch are the negatives.
        patience: epochs without a better figure on dev, after which training ends.
    """

    prefixes: tuple[int, ...] = PREFIXES
    temperature: float = 0.05
    rate: float = 3e-4
    pull: float = 1e-2
    epochs: int = 20
    batch: int = 256
    patience: int = 3


@dataclass(frozen=True, slots=True, eq=False)
class LabelledPairs:
    """Questions with a right document each.

    Attributes:
        queries: float32[n, dim], L2-normalised.
        documents: float32[n, dim], L2-normalised.
        texts: int64[n], equal for documents of equal words.
    """

    queries: Float32
    documents: Float32
    texts: np.ndarray[tuple[int], np.dtype[np.int64]]

    def __len__(self) -> int:
        return len(self.queries)


def train_matryoshka(
    pairs: LabelledPairs,
    start: Reduction,
    judge: Callable[[Reduction], float],
    options: MatryoshkaOptions | None = None,
    *,
    seed: int,
) -> Reduction:
    """Returns the head that dev judges best. Equal seeds give equal heads.

    Args:
        pairs: of the train split.
        start: where training starts; all its prefixes are reductions.
        judge: returns the figure of a head on dev, higher is better.
        options: None: the usual ones.
        seed: of the order of the pairs.
    """
    options = options or MatryoshkaOptions()
    weights = start.weights.copy()
    prefixes = [dim for dim in options.prefixes if dim <= weights.shape[1]]
    optimiser = Adam([weights], rate=options.rate)
    rng = np.random.default_rng(seed)
    best, figure, waited = start, judge(start), 0
    for _ in range(options.epochs):
        order = rng.permutation(len(pairs))
        for begin in range(0, len(order) - 1, options.batch):
            rows = order[begin : begin + options.batch]
            gradient = nested_gradient(weights, pairs, rows, prefixes, options.temperature)[1]
            optimiser.step([gradient + options.pull * (weights - start.weights)])
        head = Reduction("matryoshka head", weights.copy(), is_nested=True)
        if (now := judge(head)) > figure:
            best, figure, waited = head, now, 0
        elif (waited := waited + 1) >= options.patience:
            break
    return Reduction("matryoshka head", best.weights, is_nested=True)


def nested_gradient(
    weights: Float32, pairs: LabelledPairs, rows: np.ndarray, prefixes: Sequence[int], temperature: float
) -> tuple[float, Float32]:
    """Returns the mean loss over the prefixes for some pairs, and its gradient, float32 of the shape of the weights."""
    queries, documents = pairs.queries[rows], pairs.documents[rows]
    same = pairs.texts[rows][:, np.newaxis] == pairs.texts[rows]
    np.fill_diagonal(same, val=False)
    projected = queries @ weights, documents @ weights
    gradient = np.zeros_like(weights)
    total = 0.0
    for dim in prefixes:
        loss, of_queries, of_documents = _info_nce(projected[0][:, :dim], projected[1][:, :dim], same, temperature)
        total += loss
        gradient[:, :dim] += queries.T @ of_queries + documents.T @ of_documents
    return total / len(prefixes), np.asarray(gradient / len(prefixes), dtype=weights.dtype)


def _info_nce(
    queries: Float32, documents: Float32, same: np.ndarray, temperature: float
) -> tuple[float, Float32, Float32]:
    """Returns the symmetric loss of projected pairs, and the gradients by both, float32[n, dim].

    Args:
        queries, documents: float32[n, dim], of any length.
        same: bool[n, n], pairs that are no negatives of each other.
        temperature: above 0.
    """
    left, right = normalised(queries), normalised(documents)
    logits = np.where(same, -np.inf, left @ right.T / temperature)
    count = len(queries)
    by_row, by_column = _softmax(logits), _softmax(logits.T).T
    diagonal = np.arange(count)
    likelihood = by_row[diagonal, diagonal], by_column[diagonal, diagonal]
    loss = -float(np.mean(np.log(likelihood[0] + 1e-30) + np.log(likelihood[1] + 1e-30))) / 2
    slope = (by_row + by_column) / 2
    slope[diagonal, diagonal] -= 1
    slope /= count * temperature
    return (
        loss,
        _through_norm(np.asarray(slope @ right, dtype=queries.dtype), left, queries),
        _through_norm(np.asarray(slope.T @ left, dtype=documents.dtype), right, documents),
    )


def _softmax(logits: Float32) -> Float32:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def _through_norm(gradient: Float32, unit: Float32, vectors: Float32) -> Float32:
    """Returns the gradient by vectors from that by their unit vectors."""
    lengths = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return np.asarray((gradient - unit * (gradient * unit).sum(axis=1, keepdims=True)) / lengths, dtype=np.float32)
