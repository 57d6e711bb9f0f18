"""Makes vectors whose meaning lies in directions of small variance, so that compression has something to lose."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from penstock.evaluate.datasets import read_set
from penstock.records import Float32
from penstock.train.compression.measure import CompressionData
from penstock.train.compression.reductions import normalised
from tests.evaluate.made_sets import write_texts

DIM = 64
# Directions that distinguish documents, after those of the loudest noise.
_MEANING = slice(8, 32)


def made_data(folder: Path, *, concepts: int = 200, seed: int = 5) -> CompressionData:
    """Returns the data of a set of texts with vectors of a seed: loud noise, meaning, and quiet noise."""
    dataset = read_set(write_texts(folder / "texts", concepts=concepts))
    rng = np.random.default_rng(seed)
    meaning = rng.normal(size=(concepts, DIM))
    documents = _vectors(meaning, rng)
    concept_of = dataset.judgements.documents  # one right document a query
    queries = _vectors(meaning[concept_of], rng)
    train, dev, test = (dataset.select(split=split) for split in ("train", "dev", "test"))
    return CompressionData(dataset, np.arange(concepts), documents, queries, train, dev, test)


def _vectors(meaning: npt.NDArray[np.float64], rng: np.random.Generator) -> Float32:
    vectors = 0.05 * rng.normal(size=meaning.shape)
    vectors[:, : _MEANING.start] = 1.5 * rng.normal(size=(len(meaning), _MEANING.start))
    vectors[:, _MEANING] += meaning[:, _MEANING]
    return normalised(vectors.astype(np.float32))
