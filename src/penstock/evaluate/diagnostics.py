"""Describes a set and its spaces beside the figures: what decides whether modalities compete fairly."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from penstock.evaluate.evaluation_set import EvaluationSet
from penstock.evaluate.metrics import Run
from penstock.evaluate.result import Diagnostics
from penstock.records import Float32


def diagnose(
    dataset: EvaluationSet,
    queries: npt.NDArray[np.int64],
    *,
    left_out: int,
    run: Run,
    spaces: Mapping[str, Mapping[str, Float32]],
) -> Diagnostics:
    """Returns the diagnostics of a set.

    Args:
        dataset: the set.
        queries: int64[n], rows of the evaluated queries.
        left_out: queries whose relevant documents are in two splits.
        run: the fused ranking of these queries.
        spaces: by space and modality, the vectors of the documents, and those of the queries as modality `query`.
    """
    cosines: dict[str, float] = {}
    distances: dict[str, float] = {}
    for space, by_modality in spaces.items():
        centroids = {name: vectors.astype(np.float64).mean(axis=0) for name, vectors in by_modality.items()}
        for first in by_modality:
            for second in by_modality:
                label = f"{space}: {first} / {second}"
                if first == second:
                    cosines[label] = _mean_cosine_within(by_modality[first])
                elif first < second:
                    cosines[label] = float(centroids[first] @ centroids[second])
                    distances[label] = float(np.linalg.norm(centroids[first] - centroids[second]))
    return Diagnostics(
        left_out=left_out,
        divided_groups=dataset.divided_groups,
        cosines=cosines,
        centroid_distances=distances,
        first_places=_first_places(dataset, run),
        relevant=_relevant_shares(dataset, queries),
    )


def _mean_cosine_within(vectors: Float32) -> float:
    """Returns the mean cosine of two different rows: of L2-normalised rows, from the length of their sum."""
    count = len(vectors)
    if count < 2:
        return 1.0
    total = vectors.astype(np.float64).sum(axis=0)
    return float((total @ total - count) / (count * (count - 1)))


def _first_places(dataset: EvaluationSet, run: Run) -> dict[str, float]:
    best = run.scores.argmax(axis=1)  # of equal scores the first, as the system returned them
    first = np.take_along_axis(run.documents, best[:, None], axis=1)[:, 0]
    modalities = [dataset.documents[row].modality for row in first.tolist() if row >= 0]
    return {name: modalities.count(name) / len(modalities) for name in sorted(set(modalities))}


def _relevant_shares(dataset: EvaluationSet, queries: npt.NDArray[np.int64]) -> dict[str, float]:
    shares: dict[str, float] = {}
    for query in queries.tolist():
        rows = dataset.judgements.rows_of(query)
        for row in rows.tolist():
            modality = dataset.documents[row].modality
            shares[modality] = shares.get(modality, 0.0) + 1 / (len(rows) * len(queries))
    return dict(sorted(shares.items()))
