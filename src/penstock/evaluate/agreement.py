"""Compares the answers of two versions of the index to the same questions, through the running query plane.

The questions are those of an evaluation set, whose relevant documents are known, or words of entries of the index. For
these the first ten documents of the old version stand for the relevant ones: the figures of the new version then say
how far it agrees with the old one, and not whether it is better.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from penstock.evaluate.judgements import Judgements
from penstock.evaluate.metrics import CUT, NDCG, Run, measure
from penstock.records import Access, Collection
from penstock.store.base import EntrySearch

RECALL = f"recall@{CUT}"
# Questions that are sent before the measured ones, so that no version pays for the first.
WARM_UP = 3
_WORDS = 12  # of an entry, as a question
_TEXTS = (Collection.TEXT, Collection.SPEECH)
_ID_BITS = 128


@dataclass(frozen=True, slots=True)
class ComparedQuery:
    """A question in the form of a request's members, and the relevant documents if they are known.

    Attributes:
        content: `text` or `image` of the request.
        relevant: how relevant documents are, by key; empty: not known.
    """

    content: Mapping[str, object]
    relevant: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class VersionFigures:
    """The figures of one version.

    Attributes:
        recall, ndcg: means over the questions.
        p50_ms, p95_ms: of the round trips.
    """

    recall: float
    ndcg: float
    p50_ms: float
    p95_ms: float


@dataclass(frozen=True, slots=True)
class Agreement:
    """The figures of both versions.

    Attributes:
        questions: their number.
        labelled: whether the relevant documents were known, and are not those of the old version.
        old, new: the figures.
    """

    questions: int
    labelled: bool
    old: VersionFigures
    new: VersionFigures


Ask = Callable[[ComparedQuery, int], tuple[Sequence[str], float]]
"""Answers a question from a version: the keys of the documents, best first, and the milliseconds that it took."""


def compare_answers(questions: Sequence[ComparedQuery], ask: Ask, old: int, new: int) -> Agreement:
    """Sends each question to both versions in turn, so that a change of load meets both.

    Args:
        questions: at least one; either all or none have relevant documents.
        ask: sends one request.
        old, new: the numbers of the versions.
    """
    for question in questions[:WARM_UP]:
        ask(question, old)
        ask(question, new)
    answers: dict[int, list[Sequence[str]]] = {old: [], new: []}
    times: dict[int, list[float]] = {old: [], new: []}
    for place, question in enumerate(questions):
        for version in (old, new) if place % 2 else (new, old):
            keys, took_ms = ask(question, version)
            answers[version].append(keys)
            times[version].append(took_ms)
    labelled = all(question.relevant for question in questions)
    relevant = [question.relevant for question in questions]
    if not labelled:
        relevant = [dict.fromkeys(keys[:CUT], 1.0) for keys in answers[old]]
    return Agreement(
        len(questions),
        labelled,
        _figures(answers[old], relevant, times[old]),
        _figures(answers[new], relevant, times[new]),
    )


def keys_of_hits(hits: Iterable[Mapping[str, object]]) -> list[str]:
    """Returns the documents of the hits of `/v1/search`, each once, best first."""
    return list(dict.fromkeys(str(hit["key"]) for hit in hits))


def queries_of_index(store: EntrySearch, tenant: str, count: int, *, timeout_s: float) -> list[ComparedQuery]:
    """Returns the first words of entries that are spread evenly over the index of a tenant.

    Ids of entries are hashes, so that the entries after evenly spaced ids are a random sample, always the same one.

    Args:
        store: whose entries are read.
        tenant: the owner.
        count: the largest number of questions.
        timeout_s: of one call.
    """
    access = Access.to_all_of(tenant)
    collections = [name for name in _TEXTS if any(channel.collection is name for channel in store.channels())]
    texts: dict[str, None] = {}
    for collection in collections:
        for place in range(-(-count // len(collections))):
            after = f"{place * 2**_ID_BITS // count:0{_ID_BITS // 4}x}"
            page = store.texts(collection, access=access, after=after, limit=1, timeout_s=timeout_s)
            texts.update((words, None) for entry in page if (words := " ".join(entry.text.split()[:_WORDS])))
    return [ComparedQuery({"text": words}) for words in list(texts)[:count]]


def _figures(
    answers: Sequence[Sequence[str]], relevant: Sequence[Mapping[str, float]], times: Sequence[float]
) -> VersionFigures:
    """Returns the means over the questions that have a relevant document."""
    with_any = [place for place, gains in enumerate(relevant) if gains]
    recall = ndcg = 0.0
    if with_any:
        judged = [relevant[place] for place in with_any]
        run = [answers[place] for place in with_any]
        values = measure(*_as_arrays(run, judged), ks=(CUT,))
        recall, ndcg = float(values[RECALL].mean()), float(values[NDCG].mean())
    return VersionFigures(recall, ndcg, float(np.percentile(times, 50)), float(np.percentile(times, 95)))


def _as_arrays(answers: Sequence[Sequence[str]], relevant: Sequence[Mapping[str, float]]) -> tuple[Run, Judgements]:
    """Returns answers and relevant documents with a row for each key."""
    keys = {key for keys in (*answers, *relevant) for key in keys}
    row_of = {key: row for row, key in enumerate(sorted(keys))}
    documents: npt.NDArray[np.int64] = np.full((len(answers), CUT), -1, dtype=np.int64)
    scores = np.full((len(answers), CUT), -np.inf)
    for place, answer in enumerate(answers):
        rows = [row_of[key] for key in answer[:CUT]]
        documents[place, : len(rows)] = rows
        scores[place, : len(rows)] = -np.arange(len(rows))
    return Run(documents, scores), Judgements.of_pairs(_pairs(relevant, row_of), queries=len(answers))


def _pairs(relevant: Sequence[Mapping[str, float]], row_of: Mapping[str, int]) -> Iterator[tuple[int, int, float]]:
    for place, gains in enumerate(relevant):
        for key, gain in gains.items():
            yield place, row_of[key], gain
