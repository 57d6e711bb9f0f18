"""Measures what fewer dimensions and bits cost: nDCG@10 of one channel alone against bytes a vector.

1 fit       on documents and questions of the split train; dev decides when training ends
2 score     every reduction with every code, all documents in the bank, exactly
3 compare   with whole vectors: difference, interval, p, and p after Holm over the rows
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from penstock.errors import UsageError
from penstock.evaluate.evaluation_set import EvaluationSet, IntArray, fold
from penstock.evaluate.intervals import Interval, bootstrap, holm, randomisation_p
from penstock.evaluate.metrics import MRR, NDCG, FloatArray, Run, Values, measure
from penstock.evaluate.offline import document_vectors, query_vectors
from penstock.evaluate.vectors import VectorFiles
from penstock.records import COLLECTIONS_OF, Channel, Field, Float32, Modality
from penstock.train.compression.autoencoder import train_autoencoder
from penstock.train.compression.codes import BIT, BIT_RESCORED, FP32, INT8, bytes_per_vector, scores_by
from penstock.train.compression.matryoshka import LabelledPairs, train_matryoshka
from penstock.train.compression.reductions import Reduction, cut, fit_pca, random_projection

DEPTH = 50
_BLOCK = 512
MIN_PAIRS = 50
DIMENSIONS = (256, 128, 64)


class Reducer(Protocol):
    """Takes vectors to fewer dimensions."""

    @property
    def method(self) -> str:
        """The name of its method."""

    @property
    def dim(self) -> int:
        """The dimensions of the vectors that it returns."""

    def apply(self, vectors: Float32) -> Float32:
        """Returns float32[n, dim], L2-normalised."""


@dataclass(frozen=True, slots=True, eq=False)
class CompressionData:
    """The vectors of one channel of a set, and its questions by what they are for.

    Attributes:
        dataset: the set.
        rows: int64[n], the documents of the channel.
        documents: float32[n, dim], their vectors.
        queries: float32[queries, dim], the vectors of all its questions.
        train, dev, test: rows of queries.
    """

    dataset: EvaluationSet
    rows: IntArray
    documents: Float32
    queries: Float32
    train: IntArray
    dev: IntArray
    test: IntArray

    def fitting_vectors(self) -> tuple[Float32, Float32]:
        """Returns the vectors of documents and of questions that a reduction may be fitted to."""
        splits = np.array(self.dataset.splits)[self.rows]
        return self.documents[splits == "train"], self.queries[self.train]

    def figures(self, reducer: Reducer | None, code: str, queries: IntArray) -> Values:
        """Returns the metrics of some questions by reduced and coded vectors; no reducer: whole ones."""
        documents, of_queries = self.documents, self.queries[queries]
        if reducer is not None:
            documents, of_queries = reducer.apply(documents), reducer.apply(of_queries)
        scores_of = scores_by(code, documents)
        judgements = self.dataset.judgements.take(queries)
        depth = min(DEPTH, len(self.rows))
        places = np.zeros((len(queries), depth), dtype=np.int64)
        best = np.zeros((len(queries), depth))
        for start in range(0, len(queries), _BLOCK):
            part = slice(start, start + _BLOCK)
            scores = scores_of(of_queries[part])
            places[part] = np.argpartition(-scores, depth - 1, axis=1)[:, :depth]
            best[part] = np.take_along_axis(scores, places[part], axis=1)
        # Beyond the depth stand only lower scores; those that are equal within it count against us (`measure`).
        return measure(Run(self.rows[places], np.round(best, 6)), judgements)

    def labelled_pairs(self) -> LabelledPairs:
        """Returns each question of train with its first right document of the channel."""
        place_of = {int(row): place for place, row in enumerate(self.rows)}
        pairs = [
            (int(query), next(place_of[int(row)] for row in right if int(row) in place_of))
            for query in self.train
            for right in (self.dataset.judgements.rows_of(int(query)),)
            if any(int(row) in place_of for row in right)
        ]
        queries, places = (np.array(column, dtype=np.int64) for column in zip(*pairs, strict=True))
        words = [fold(self.dataset.documents[self.rows[place]].text) for place in places]
        _, texts = np.unique(words, return_inverse=True)
        return LabelledPairs(self.queries[queries], self.documents[places], np.asarray(texts, dtype=np.int64))


@dataclass(frozen=True, slots=True)
class CompressionRow:
    """One way to keep vectors, and its figures on the questions of test.

    Attributes:
        method: of the reduction; `whole` for none.
        dim: dimensions kept.
        code: of the values.
        bytes: of a vector.
        figures: MRR@10 and nDCG@10, 0 to 1.
        difference: of nDCG@10, from whole vectors in fp32.
        p, corrected_p: of the difference, and after Holm over the rows.
    """

    method: str
    dim: int
    code: str
    bytes: int
    figures: Mapping[str, Interval]
    difference: Interval
    p: float
    corrected_p: float = 1.0


def read_channel(
    dataset: EvaluationSet, vectors: VectorFiles, *, modality: Modality, lang: str | None = None
) -> CompressionData:
    """Returns the vectors of the dense channel of a modality, and the questions that have right documents there.

    Raises:
        UsageError: the set has no splits, too few questions, or no documents of the modality.
    """
    rows = dataset.rows_of(modality)
    if not any(dataset.splits):
        raise UsageError(f"set {dataset.name} has no splits, so that nothing would be left to judge by (split.json)")
    if not len(rows):
        raise UsageError(f"set {dataset.name} has no documents of modality {modality}")
    field = Field.PASSAGE if modality is Modality.TEXT else Field.JOINT
    channel = Channel(COLLECTIONS_OF[modality][0], field)
    known = set(rows.tolist())
    has_right = np.array([any(int(row) in known for row in right) for right in dataset.judgements.rows()])
    by_split = {}
    for split in ("train", "dev", "test"):
        chosen = dataset.select(split=split, lang=lang)
        by_split[split] = chosen[has_right[chosen]]
    if min(len(by_split["train"]), len(by_split["test"])) < MIN_PAIRS:
        raise UsageError(f"set {dataset.name} has fewer than {MIN_PAIRS} questions to fit to, or to judge by")
    data = CompressionData(
        dataset,
        rows,
        document_vectors(dataset, channel, rows, vectors),
        query_vectors(dataset, channel, vectors),
        **by_split,
    )
    if data.documents.shape[1] != data.queries.shape[1]:
        raise UsageError(f"questions and documents of {channel} have vectors of different encoders")
    return data


def fit_head(data: CompressionData, *, seed: int) -> Reduction:
    """Returns the Matryoshka head of a channel, whose prefixes are its reductions."""
    start = fit_pca(*data.fitting_vectors())
    judged = [dim for dim in (128, 64) if dim <= start.dim] or [start.dim]

    def judge(head: Reduction) -> float:
        return float(np.mean([data.figures(head.prefix(dim), FP32, data.dev)[NDCG].mean() for dim in judged]))

    return train_matryoshka(data.labelled_pairs(), start, judge, seed=seed)


def reducers(data: CompressionData, dimensions: Sequence[int], *, seed: int) -> Iterator[Reducer]:
    """Yields every reduction to every dimension, fitted to train and dev."""
    documents, queries = data.fitting_vectors()
    input_dim = documents.shape[1]
    rotations = [fit_pca(documents), fit_pca(documents, queries), fit_head(data, seed=seed)]
    both = np.concatenate([documents, queries])
    for dim in dimensions:
        if dim >= input_dim:
            continue
        yield cut(input_dim, dim)
        yield random_projection(input_dim, dim, seed=seed)
        for rotation in rotations:
            yield rotation.prefix(dim)
        yield train_autoencoder(both, rotations[1].prefix(dim), seed=seed)


def measure_compression(
    data: CompressionData, dimensions: Sequence[int] = DIMENSIONS, *, seed: int, draws: int
) -> list[CompressionRow]:
    """Returns a row for whole vectors, then one for each code of them, then those of fewer dimensions.

    Fewer dimensions are measured in fp32, and in int8 where they are principal components or a trained head.
    """
    tried: list[tuple[Reducer | None, str]] = [(None, code) for code in (FP32, INT8, BIT, BIT_RESCORED)]
    for reducer in reducers(data, dimensions, seed=seed):
        tried.append((reducer, FP32))
        if reducer.method in ("pca of documents and queries", "matryoshka head"):
            tried.append((reducer, INT8))
    return compare_rows(data, tried, seed=seed, draws=draws)


def compare_rows(
    data: CompressionData, tried: Sequence[tuple[Reducer | None, str]], *, seed: int, draws: int
) -> list[CompressionRow]:
    """Returns a row for each pair of reducer and code, compared with whole vectors in fp32, which come first."""
    groups = data.dataset.query_groups[data.test]
    base = data.figures(None, FP32, data.test)
    values: dict[str, FloatArray] = {}
    for number, (reducer, code) in enumerate(tried):
        figures = data.figures(reducer, code, data.test)
        values |= {f"{name} {number}": figures[name] for name in (MRR, NDCG)}
        values[f"Δ {number}"] = figures[NDCG] - base[NDCG]
    intervals = bootstrap(values, groups, draws=draws, seed=seed)  # all rows by the same draws, which takes the time
    p_values = [
        randomisation_p(values[f"Δ {number}"], groups, draws=draws, seed=seed) for number in range(1, len(tried))
    ]
    whole = data.documents.shape[1]
    rows = []
    for number, (reducer, code) in enumerate(tried):
        dim = whole if reducer is None else reducer.dim
        rows.append(
            CompressionRow(
                "whole" if reducer is None else reducer.method,
                dim,
                code,
                bytes_per_vector(code, dim),
                {name: intervals[f"{name} {number}"] for name in (MRR, NDCG)},
                intervals[f"Δ {number}"],
                1.0 if not number else p_values[number - 1],
            )
        )
    return [replace(row, corrected_p=p) for row, p in zip(rows, [1.0, *holm(p_values)], strict=True)]
