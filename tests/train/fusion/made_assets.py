"""Makes assets of two modalities from a seed: texts have less noise than images."""

from __future__ import annotations

import numpy as np

from penstock.evaluate.evaluation_set import Document, EvaluationSet, LabelledQuery
from penstock.evaluate.judgements import Judgements
from penstock.train.compression.reductions import normalised
from penstock.train.fusion.asset_tokens import IMAGE, NOTHING, TEXT, WHOLE, AssetTokens
from penstock.train.fusion.measure import FusionData
from penstock.train.fusion.training import Questions

DIM = 16
KINDS = np.array([WHOLE, TEXT, IMAGE, IMAGE, NOTHING])


def made_assets(count: int = 90, *, seed: int = 4) -> AssetTokens:
    """Returns assets with a text and one or two images each, and two questions for each."""
    rng = np.random.default_rng(seed)
    meaning = rng.normal(size=(count, DIM))
    tokens = np.zeros((count, len(KINDS), DIM), dtype=np.float32)
    present = np.ones((count, len(KINDS)), dtype=np.bool_)
    for place, noise in ((1, 0.8), (2, 1.6), (3, 1.6)):
        tokens[:, place] = normalised((meaning + noise * rng.normal(size=meaning.shape)).astype(np.float32))
    present[::2, 3] = False
    tokens[::2, 3] = 0
    tokens[:, 0] = normalised(tokens[:, 1:4].sum(axis=1))
    tokens[:, 4] = 0
    right = np.repeat(np.arange(count), 2)
    questions = normalised((meaning[right] + 0.9 * rng.normal(size=(len(right), DIM))).astype(np.float32))
    splits = np.array([("train", "dev", "test", "test")[number % 4] for number in range(count)])
    return AssetTokens(
        _dataset(count), np.arange(count), tokens, KINDS, present, np.stack([questions] * 2, 1), right, splits
    )


def made_data(count: int = 90, *, seed: int = 4) -> FusionData:
    """Returns the questions of each split, with the right asset and nine others as candidates."""
    data = made_assets(count, seed=seed)
    rng = np.random.default_rng(seed + 1)
    by_split = {}
    for split in ("train", "dev", "test"):
        rows = data.rows(split)
        others = rng.integers(0, count, (len(rows), 9))
        others = np.where(others == data.right[rows][:, np.newaxis], (others + 1) % count, others)
        by_split[split] = Questions(rows, np.column_stack([data.right[rows], others]))
    return FusionData(data, **by_split)


def _dataset(count: int) -> EvaluationSet:
    documents = tuple(Document(f"d{number}", text=f"text {number}") for number in range(count))
    queries = tuple(LabelledQuery(f"q{number}", f"question {number}") for number in range(2 * count))
    judgements = Judgements.of_pairs(((number, number // 2, 1.0) for number in range(2 * count)), queries=2 * count)
    splits = tuple(("train", "dev", "test", "test")[number % 4] for number in range(count))
    return EvaluationSet("made", documents, queries, judgements, splits)
