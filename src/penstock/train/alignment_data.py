"""Holds questions and documents as vectors, with what is right for each question: the data of an adapter.

The questions are divided into those that an adapter is fitted to (`train`), those that the gate judges it by (`dev`),
and those that are left for the end (`test`). No group of near-duplicates is in two of them, except that pairs
with times are divided by time: fitted to the past, judged by the future.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from penstock.encoders.profiles import role_of
from penstock.errors import UsageError
from penstock.evaluate.evaluation_set import EvaluationSet
from penstock.evaluate.judgements import Judgements
from penstock.evaluate.offline import document_vectors, query_vectors
from penstock.evaluate.vectors import VectorFiles
from penstock.records import COLLECTIONS_OF, Channel, Field, Float32, Modality

IntArray: TypeAlias = npt.NDArray[np.int64]

FIT, GATE, LAST = "train", "dev", "test"
# Fewer are refused: a map of 384 × 384 follows chance, and the gate could not distinguish it.
MIN_PAIRS = 20
# Of pairs without a split: those of the rest are the gate's.
_FIT_SHARE = 0.6


@dataclass(frozen=True)
class AlignmentData:
    """Questions with their vectors, and a bank of documents to find for them.

    Attributes:
        name, hash: of the set or the file.
        role: the encoder of the questions: `passage.text`, `joint.text`.
        field: the vector field that they search.
        texts: of the questions.
        questions: float32[questions, dim], L2-normalised.
        bank: float32[documents, dim], L2-normalised.
        judgements: the right documents of each question.
        groups: int64[questions], near-duplicates and questions of equal words have equal numbers.
        splits: of each question: train, dev, test, or another text for those that are left out.
        dimensions: what slices differ in: for each name such as `lang`, a value for each question; empty: in none.
    """

    name: str
    hash: str
    role: str
    field: Field
    texts: tuple[str, ...] = dataclasses.field(repr=False)
    questions: Float32 = dataclasses.field(repr=False)
    bank: Float32 = dataclasses.field(repr=False)
    judgements: Judgements = dataclasses.field(repr=False)
    groups: IntArray = dataclasses.field(repr=False)
    splits: npt.NDArray[np.str_] = dataclasses.field(repr=False)
    dimensions: Mapping[str, Sequence[str]] = dataclasses.field(repr=False)

    def rows(self, split: str, *, lang: str | None = None) -> IntArray:
        """Returns the questions of a split, of one language (ISO 639-1) or of all."""
        chosen = self.splits == split
        if lang is not None:
            chosen = chosen & np.array([language_code(value) == lang for value in self.dimensions["lang"]], np.bool_)
        return np.flatnonzero(chosen)

    def pairs(self, rows: IntArray) -> tuple[IntArray, IntArray]:
        """Returns the pairs of some questions: rows of questions and of documents, the first right one of each."""
        return rows, self.judgements.documents[self.judgements.offsets[rows]]

    def with_dimension(self, name: str, values: Sequence[str]) -> AlignmentData:
        """Returns the data with one more dimension of slices."""
        return replace(self, dimensions={**self.dimensions, name: values})


def language_code(value: str) -> str:
    """Returns the ISO 639-1 code of a language such as `pt_BR`."""
    return value.replace("-", "_").split("_")[0].lower()


def read_alignment(dataset: EvaluationSet, vectors: VectorFiles, *, modality: Modality | None = None) -> AlignmentData:
    """Returns the data of an evaluation set: its questions in words, and its documents of one modality.

    Args:
        dataset: has splits, or is divided into 60 % of its groups to fit to and the rest for the gate.
        vectors: of the profile.
        modality: of the documents; None: text if there are texts, else image.

    Raises:
        UsageError: there are no such documents, or no question in words that finds one.
    """
    if modality is None:
        modality = Modality.TEXT if len(dataset.rows_of("text")) else Modality.IMAGE
    documents = dataset.rows_of(modality.value)
    in_words = np.array([not query.image for query in dataset.queries], dtype=np.bool_)
    judgements, answered = _restricted(dataset.judgements, documents)
    rows = np.flatnonzero(answered & in_words)
    if not len(rows):
        raise UsageError(f"set {dataset.name} has no question in words that finds a document of modality {modality}")
    channel = Channel(COLLECTIONS_OF[modality][0], Field.PASSAGE if modality is Modality.TEXT else Field.JOINT)
    labelled = [dataset.queries[row] for row in rows.tolist()]
    splits = dataset.query_splits[rows] if any(dataset.splits) else _split_groups(dataset.question_groups[rows])
    return AlignmentData(
        name=dataset.name,
        hash=dataset.hash,
        role=role_of(vectors.profile.query_encoder(channel.field, channel.collection)),
        field=channel.field,
        texts=tuple(query.text for query in labelled),
        questions=query_vectors(_of_words(dataset, in_words), channel, vectors)[_places(in_words, rows)],
        bank=document_vectors(dataset, channel, documents, vectors),
        judgements=judgements.take(rows),
        groups=dataset.question_groups[rows],
        splits=splits,
        dimensions={
            "lang": [query.lang for query in labelled],
            "kind": [query.kind for query in labelled],
            "modality": [modality.value] * len(labelled),
        },
    )


def add_chosen_before(data: AlignmentData, fitted: IntArray) -> AlignmentData:
    """Returns the data with the dimension `chosen`: whether a fitted pair has a right document of the question."""
    known = {int(row) for rows in data.judgements.take(fitted).rows() for row in rows}
    values = ["before" if known & {int(row) for row in rows} else "never" for rows in data.judgements.rows()]
    return data.with_dimension("chosen", values)


def shuffled(data: AlignmentData, rows: IntArray, seed: int) -> AlignmentData:
    """Returns the data with the right documents of some questions exchanged among them: pairs that say nothing."""
    order = np.random.default_rng(seed).permutation(rows)
    source = np.arange(len(data.texts))
    source[rows] = order
    return replace(data, judgements=data.judgements.take(source))


def _of_words(dataset: EvaluationSet, in_words: npt.NDArray[np.bool_]) -> EvaluationSet:
    """Returns the set with its questions in words alone; the same object if there are no others, as files go by it."""
    if in_words.all():
        return dataset
    rows = np.flatnonzero(in_words)
    queries = tuple(dataset.queries[row] for row in rows.tolist())
    return replace(dataset, queries=queries, judgements=dataset.judgements.take(rows))


def _places(in_words: npt.NDArray[np.bool_], rows: IntArray) -> IntArray:
    """Returns where rows are among the questions in words."""
    return np.asarray((np.cumsum(in_words) - 1)[rows], dtype=np.int64)


def _restricted(judgements: Judgements, documents: IntArray) -> tuple[Judgements, npt.NDArray[np.bool_]]:
    """Returns the judgements of some documents, by their place among these; and which questions have one."""
    place_of = {int(row): place for place, row in enumerate(documents.tolist())}
    pairs = [
        (int(query), place_of[int(row)], float(gain))
        for query, row, gain in zip(judgements.query_of_pair, judgements.documents, judgements.gains, strict=True)
        if int(row) in place_of
    ]
    kept = Judgements.of_pairs(pairs, queries=len(judgements.counts))
    return kept, kept.counts > 0


def _split_groups(groups: IntArray) -> npt.NDArray[np.str_]:
    """Returns a split for each question: the same for a whole group, and with each set of groups the same."""
    distinct, group_of = np.unique(groups, return_inverse=True)
    order = np.random.default_rng(0).permutation(len(distinct))
    to_fit = order < round(_FIT_SHARE * len(distinct))
    return np.where(to_fit[group_of], FIT, GATE)
