"""Searches a set without the planes: exact rankings of every channel from stored vectors, fused as the product does.

    1 index     each document becomes an entry of its collection; the vectors of the encoders are kept in files
    2 search    a matrix product for each dense channel, BM25 for each lexical one
    3 fuse      the `Fusion` of the query plane, with moments, for each query

The planes cut a long text into passages and may read the words in images (`image.lexical`). Here a document is one
entry, truncated as its encoder truncates it, and images are searched by their vectors alone.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from penstock.encoders.profiles import JOINT_IMAGE, Profile
from penstock.errors import UsageError
from penstock.evaluate.bm25 import BM25
from penstock.evaluate.evaluation_set import EvaluationSet
from penstock.evaluate.metrics import Run
from penstock.evaluate.vectors import VectorFiles
from penstock.query.fusion.base import Fusion, MomentRules
from penstock.query.route import route
from penstock.query.types import ChannelQuery, Query, Rankings
from penstock.records import (
    COLLECTIONS_OF,
    FIELDS_OF,
    VISUAL_COLLECTIONS,
    Access,
    AssetRef,
    Channel,
    Collection,
    Entry,
    Field,
    Float32,
    Modality,
    Position,
    ScoredEntry,
    bare_entry,
)

DEPTH = 50
MOMENTS = MomentRules(max_gap_ms=5_000, max_ms=120_000)

# Scores that differ by less count as equal: two identical vectors differ in the last bits of their cosines, by where
# they stand in a matrix.
_DECIMALS = 6
_BLOCK = 512


@dataclass(frozen=True)
class ChannelRanking:
    """The entries that one channel returns for each query.

    Attributes:
        entries: int64[queries, depth], rows of entries, best first; -1 after the last. At equal scores those that are
            not relevant come first.
        scores: float64[queries, depth], cosine similarity or BM25; -inf after the last.
    """

    entries: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64]


@dataclass(frozen=True)
class SetRankings:
    """The rankings of all channels for all queries of a set.

    Attributes:
        dataset: the set.
        entries: one for each document, in the order of the documents.
        by_channel: the channels that answer the queries, in the order of `FIELDS_OF`.
        spaces: the space in which each channel compares.
        encoders: the encoder of each channel's queries.
        depth: entries requested from each channel; what `by_channel` has beyond it takes the place of what is removed.
    """

    dataset: EvaluationSet = field(repr=False)
    entries: tuple[Entry, ...] = field(repr=False)
    by_channel: Mapping[Channel, ChannelRanking] = field(repr=False)
    spaces: Mapping[Channel, str]
    encoders: Mapping[Channel, str | None]
    depth: int

    def of_query(self, query: int, *, without: Sequence[Channel] = ()) -> Rankings:
        """Returns the rankings of one query, as the query plane would have them, without some channels."""
        by_channel = {
            channel: self._scored(ranking, query, slice(self.depth))
            for channel, ranking in self.by_channel.items()
            if channel not in without
        }
        spaces = {channel: space for channel, space in self.spaces.items() if channel in by_channel}
        depths = dict.fromkeys(Collection, self.depth)
        labelled = self.dataset.queries[query]
        return Rankings(by_channel, {}, depths, spaces, self.encoders, None if labelled.image else labelled.text)

    def further_of_query(self, query: int) -> Mapping[Channel, list[ScoredEntry]]:
        """Returns the entries of each channel that come after those of `of_query`."""
        return {
            channel: self._scored(ranking, query, slice(self.depth, None))
            for channel, ranking in self.by_channel.items()
        }

    def run_of(self, channel: Channel) -> Run:
        """Returns the run of one channel alone."""
        ranking = self.by_channel[channel]
        return Run(ranking.entries[:, : self.depth], ranking.scores[:, : self.depth])

    def _scored(self, ranking: ChannelRanking, query: int, places: slice) -> list[ScoredEntry]:
        rows, scores = ranking.entries[query, places].tolist(), ranking.scores[query, places].tolist()
        return [ScoredEntry(self.entries[row], score) for row, score in zip(rows, scores, strict=True) if row >= 0]


@dataclass(frozen=True)
class FusedRun:
    """The fused ranking of some queries.

    Attributes:
        run: its rows are those of `queries`. Scores only order: equal ones are ties of the fusion.
        queries: int64[n], rows of the set's queries.
        fuse_ms: float64[n], milliseconds that the fusion of each query took.
        fuse_cpu_ms: float64[n], those of them that it computed: other processes do not lengthen them.
    """

    run: Run
    queries: npt.NDArray[np.int64]
    fuse_ms: npt.NDArray[np.float64]
    fuse_cpu_ms: npt.NDArray[np.float64]


def search_offline(dataset: EvaluationSet, vectors: VectorFiles, *, depth: int = DEPTH, spare: int = 0) -> SetRankings:
    """Ranks the entries of every channel for every query, exactly.

    Args:
        dataset: the set.
        vectors: of the profile.
        depth: entries requested from each channel.
        spare: further entries, for where some are removed from the rankings.

    Raises:
        UsageError: the set has audio documents, which only the planes can index.
    """
    entries = tuple(_entry(dataset, row) for row in range(len(dataset.documents)))
    rows_of = {
        collection: np.array(
            [row for row, entry in enumerate(entries) if entry.collection is collection], dtype=np.int64
        )
        for collection in dict.fromkeys(entry.collection for entry in entries)
    }
    collections = tuple(collection for collection in Collection if collection in rows_of)
    plans = _plans(dataset, vectors.profile, collections)
    by_channel = {
        plan.channel: _search_channel(
            dataset, plan, queries, rows_of[plan.channel.collection], vectors=vectors, depth=depth + spare
        )
        for plan, queries in plans
    }
    spaces = {plan.channel: plan.space for plan, _ in plans}
    encoders = {plan.channel: plan.encoder for plan, _ in plans}
    return SetRankings(dataset, entries, by_channel, spaces, encoders, depth)


def fuse_offline(
    rankings: SetRankings,
    fusion: Fusion,
    *,
    queries: npt.NDArray[np.int64] | None = None,
    without: Sequence[Channel] = (),
    moments: MomentRules = MOMENTS,
    limit: int = DEPTH,
) -> FusedRun:
    """Fuses the rankings of some queries as the query plane does.

    Args:
        rankings: of all queries.
        fusion: the one to measure.
        queries: rows of queries; None: all.
        without: channels to leave out, as if they were missing.
        moments: the limits of a moment.
        limit: documents kept for each query.
    """
    rows = np.arange(len(rankings.dataset.queries)) if queries is None else queries
    row_of_id = {entry.id: row for row, entry in enumerate(rankings.entries)}
    documents = np.full((len(rows), limit), -1, dtype=np.int64)
    scores = np.full((len(rows), limit), -np.inf)
    times_ms = np.zeros((2, len(rows)))
    for place, query in enumerate(rows.tolist()):
        of_query = rankings.of_query(query, without=without)
        started = time.perf_counter(), time.thread_time()
        ranked = fusion.rank(of_query, moments, limit)
        times_ms[:, place] = (time.perf_counter() - started[0]) * 1000, (time.thread_time() - started[1]) * 1000
        kept = [(row_of_id[candidate.best.id], (score, candidate.score)) for score, candidate in ranked]
        documents[place, : len(kept)] = [row for row, _ in kept]
        scores[place, : len(kept)] = levels([key for _, key in kept])
    return FusedRun(Run(documents, scores), rows, *times_ms)


# --- index -----------------------------------------------------------------------------------------------------------


def _entry(dataset: EvaluationSet, row: int) -> Entry:
    """Returns the entry of a document, without vectors."""
    document = dataset.documents[row]
    if document.audio:
        raise UsageError(f"set {dataset.name} has audio, which only the planes can index; evaluate it with --live")
    modality = Modality.IMAGE if document.image else Modality.TEXT
    collection = COLLECTIONS_OF[modality][0]
    asset = AssetRef("default", f"media.{modality}", document.id)
    return replace(
        bare_entry(asset, collection),
        title=document.title,
        text="" if document.image else document.text,
        origin=Position(asset.topic, 0, row),
    )


def document_vectors(
    dataset: EvaluationSet, channel: Channel, rows: npt.NDArray[np.int64], vectors: VectorFiles
) -> Float32:
    """Returns what the profile's encoder makes of the documents of a collection: float32[rows, dim]."""
    role = vectors.profile.vectors[channel.collection][channel.field]
    documents = [dataset.documents[row] for row in rows]
    if role == JOINT_IMAGE:
        return vectors.images([document.image for document in documents if document.image])
    return vectors.texts(role, [document.text for document in documents])


def query_vectors(
    dataset: EvaluationSet, channel: Channel, vectors: VectorFiles, queries: npt.NDArray[np.int64] | None = None
) -> Float32:
    """Returns the vectors with which queries search a channel: float32[queries, dim].

    Args:
        dataset: the set.
        channel: a dense one.
        vectors: of the profile.
        queries: rows of queries, all by text or all by image; None: all.
    """
    labelled = dataset.queries if queries is None else [dataset.queries[row] for row in queries.tolist()]
    if images := [query.image for query in labelled if query.image]:
        return vectors.images(images)
    encoder = vectors.profile.query_encoder(channel.field, channel.collection)
    texts = [query.text for query in labelled]
    return vectors.adapters.adapt_all(encoder, channel.field, texts, vectors.texts(encoder, texts))


# --- search ----------------------------------------------------------------------------------------------------------


def _plans(
    dataset: EvaluationSet, profile: Profile, collections: tuple[Collection, ...]
) -> list[tuple[ChannelQuery, npt.NDArray[np.int64]]]:
    """Returns, as the query plane routes them, a channel query for each channel, and the queries that it answers."""
    # Words that are read in images need a model that runs at ingest. What a set says of an image would be the answer.
    offered = {
        Channel(collection, field)
        for collection in collections
        for field in FIELDS_OF[collection]
        if field is not Field.LEXICAL or collection not in VISUAL_COLLECTIONS
    }
    by_image = np.array([query.image is not None for query in dataset.queries], dtype=np.bool_)
    plans: dict[Channel, tuple[ChannelQuery, npt.NDArray[np.int64]]] = {}
    for rows, text, image in ((np.flatnonzero(~by_image), "text", None), (np.flatnonzero(by_image), None, b"image")):
        if not len(rows):
            continue
        request = Query(text, image, None, collections, False, None, Access.to_all_of("default"), DEPTH, 1_000)
        for plan in route(request, offered=offered, profile=profile).queries:
            if plan.channel in plans:
                raise UsageError(f"set {dataset.name} has queries by text and by image; evaluate them as two sets")
            plans[plan.channel] = plan, rows
    return list(plans.values())


def _search_channel(
    dataset: EvaluationSet,
    plan: ChannelQuery,
    queries: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int64],
    vectors: VectorFiles,
    *,
    depth: int,
) -> ChannelRanking:
    """Returns the ranking of one channel; queries that it does not answer have none."""
    shape = len(dataset.queries), depth
    ranking = ChannelRanking(np.full(shape, -1, dtype=np.int64), np.full(shape, -np.inf))
    scores_of = _scoring(dataset, plan, queries, rows, vectors)
    column_of = np.full(len(dataset.documents), -1, dtype=np.int64)
    column_of[rows] = np.arange(len(rows))
    for start in range(0, len(queries), _BLOCK):
        block = queries[start : start + _BLOCK]
        scores = np.round(scores_of(slice(start, start + len(block))), _DECIMALS)
        if plan.channel.field is Field.LEXICAL:
            scores[scores <= 0] = -np.inf  # BM25 returns no text without a term of the query
        judgements = dataset.judgements.take(block)
        columns = column_of[judgements.documents]
        relevant = np.zeros(scores.shape, dtype=np.bool_)
        relevant[judgements.query_of_pair[columns >= 0], columns[columns >= 0]] = True
        places, best = _best(scores, relevant, depth)
        ranking.entries[block, : places.shape[1]] = np.where(np.isfinite(best), rows[places], -1)
        ranking.scores[block, : places.shape[1]] = best
    return ranking


def _scoring(
    dataset: EvaluationSet,
    plan: ChannelQuery,
    queries: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int64],
    vectors: VectorFiles,
) -> Callable[[slice], npt.NDArray[np.float64]]:
    """Returns a function from some of the queries to their scores of all documents: float64[queries, rows]."""
    labelled = [dataset.queries[row] for row in queries]
    if plan.channel.field is Field.LEXICAL:
        index = BM25([dataset.documents[row].text for row in rows])
        return lambda part: np.stack([index.scores(query.text) for query in labelled[part]])
    bank = document_vectors(dataset, plan.channel, rows, vectors)
    of_queries = query_vectors(dataset, plan.channel, vectors, queries)
    return lambda part: np.asarray(of_queries[part] @ bank.T, dtype=np.float64)


def _best(
    scores: npt.NDArray[np.float64], relevant: npt.NDArray[np.bool_], depth: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Returns columns and scores of the best of each row, best first: int64 and float64[rows, at most depth].

    At equal scores columns that are not relevant come first, then those further left.
    """
    depth = min(depth, scores.shape[1])
    # Less than half of the smallest difference of two scores, and a further part of it by column.
    step = 10.0**-_DECIMALS / 4
    keys = scores - step * relevant - step * np.linspace(0, 0.5, scores.shape[1])
    places = np.argpartition(-keys, depth - 1, axis=1)[:, :depth]
    order = np.argsort(-np.take_along_axis(keys, places, axis=1), axis=1, kind="stable")
    places = np.take_along_axis(places, order, axis=1)
    return places, np.take_along_axis(scores, places, axis=1)


def levels(keys: Sequence[tuple[object, ...]]) -> npt.NDArray[np.float64]:
    """Returns descending numbers for keys in order, equal for equal neighbours: float64[keys]."""
    changes = [0.0, *(float(key != before) for before, key in itertools.pairwise(keys))]
    return -np.cumsum(changes) if keys else np.zeros(0)
