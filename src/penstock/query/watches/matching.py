"""Finds which new entries match which watches: candidates by one product of matrices, then the relevance of each.

1. All watches of a tenant are compared with all of its new entries, channel by channel: float32[watches, dim] times
   float32[dim, entries]. A pair at or above the watch's cutoff is a candidate, and so is one that shares enough words.
2. The entries of a candidate are added to what the whole index answers to the watch, with their scores in every
   channel, and judged as the entries of a search are (`query.relevance`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from penstock.analysis import terms
from penstock.errors import PenstockError
from penstock.query.conditions import where_in
from penstock.query.fusion.calibration import Calibration
from penstock.query.relevance import relevance_of_entries
from penstock.query.watches.context import WatchContext
from penstock.query.watches.judging_failures import JudgingFailures
from penstock.records import Channel, Entry, ScoredEntry
from penstock.store.access import allows
from penstock.store.base import EntryQuery, EntrySearch
from penstock.store.filter_semantics import matches
from penstock.store.filters import Combination, Comparison, Filter

# Below half of the words of a question, BM25 alone lifts no entry over a relevance that people set.
_MIN_COVERAGE = 0.5
_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Judged:
    """An entry with its relevance to a watch."""

    context: WatchContext
    entry: Entry
    relevance: float


def find_matches(
    contexts: Sequence[WatchContext],
    entries: Sequence[Entry],
    store: EntrySearch,
    calibration: Calibration | None,
    failures: JudgingFailures,
) -> Iterator[Judged]:
    """Yields the entries that reach the relevance of a watch.

    Args:
        contexts: of watches.
        entries: with their vectors.
        store: searched for the words of candidates.
        calibration: valid for this index.
        failures: knows the watches whose words the store does not search. They are judged by their vectors alone.

    Raises:
        PenstockError: the store does not answer, and the entries have to be compared again.
    """
    by_tenant: dict[str, list[Entry]] = {}
    for entry in entries:
        by_tenant.setdefault(entry.asset.tenant, []).append(entry)
    for tenant, own in by_tenant.items():
        watching = [context for context in contexts if context.watch.tenant == tenant]
        for number, candidates in candidates_of(watching, own).items():
            context = watching[number]
            relevances = _judge(context, candidates, store, calibration, failures)
            for entry in candidates:
                relevance = relevances.get(entry.id)
                if relevance is not None and relevance >= context.watch.min_relevance:
                    yield Judged(context, entry, relevance)


def candidates_of(contexts: Sequence[WatchContext], entries: Sequence[Entry]) -> Mapping[int, list[Entry]]:
    """Returns, by the number of the watch, the entries that may reach its relevance (step 1)."""
    pairs = np.zeros((len(contexts), len(entries)), dtype=bool)
    for channel in {channel for context in contexts for channel in context.vectors}:
        columns = [number for number, entry in enumerate(entries) if _vector_of(entry, channel) is not None]
        rows = [number for number, context in enumerate(contexts) if channel in context.vectors]
        if not columns:
            continue
        queries = np.stack([contexts[row].vectors[channel] for row in rows])  # float32[watches, dim]
        vectors = np.stack([entries[column].vectors[channel.field] for column in columns])  # float32[entries, dim]
        cutoffs = np.array([contexts[row].cutoffs[channel] for row in rows], dtype=np.float32)
        # Milvus and numpy round differently.
        pairs[np.ix_(rows, columns)] |= queries @ vectors.T >= cutoffs[:, None] - 1e-4
    _add_lexical(pairs, contexts, entries)
    candidates: dict[int, list[Entry]] = {}
    for row, column in np.argwhere(pairs).tolist():
        context, entry = contexts[row], entries[column]
        if _may_match(context, entry):
            candidates.setdefault(row, []).append(entry)
    return candidates


def _may_match(context: WatchContext, entry: Entry) -> bool:
    where = where_in(context.query, entry.collection)
    new = entry.indexed_at_ms >= context.watch.created_ms
    return (
        allows(context.watch.access, entry)
        and new
        and entry.collection in context.query.collections
        and (where is None or matches(where, entry))
    )


def _add_lexical(pairs: np.ndarray, contexts: Sequence[WatchContext], entries: Sequence[Entry]) -> None:
    """Marks the pairs that share enough words, by an index of the words of all watches."""
    watches_of: dict[str, list[int]] = {}
    for row, context in enumerate(contexts):
        if context.lexical:
            for term in context.terms:
                watches_of.setdefault(term, []).append(row)
    if not watches_of:
        return
    sizes = np.array([max(1, len(context.terms)) for context in contexts])
    for column, entry in enumerate(entries):
        shared = np.zeros(len(contexts), dtype=np.int32)
        for term in set(terms(f"{entry.title} {entry.text}")).intersection(watches_of):
            shared[watches_of[term]] += 1
        pairs[:, column] |= (shared > 0) & (shared >= _MIN_COVERAGE * sizes)


def _judge(
    context: WatchContext,
    entries: Sequence[Entry],
    store: EntrySearch,
    calibration: Calibration | None,
    failures: JudgingFailures,
) -> Mapping[str, float]:
    """Returns the relevance of entries, by id, as further entries of the search of the whole index (step 2)."""
    new = {entry.id for entry in entries}
    by_channel: dict[Channel, Sequence[ScoredEntry]] = {}
    for channel, ranking in context.rankings.by_channel.items():
        known = [scored for scored in ranking if scored.entry.id not in new]
        scored = (
            _dense_scores(context, channel, entries)
            if channel in context.vectors
            else _lexical_scores(context, channel, entries, store, failures)
        )
        by_channel[channel] = sorted([*known, *scored], key=lambda scored: -scored.score)
    rankings = replace(context.rankings, by_channel=by_channel)
    relevances = relevance_of_entries(rankings, context.query.text, calibration)
    return {id_: relevances[id_] for id_ in new if id_ in relevances}


def _dense_scores(context: WatchContext, channel: Channel, entries: Sequence[Entry]) -> list[ScoredEntry]:
    query = context.vectors[channel]
    return [
        ScoredEntry(entry, float(query @ vector))
        for entry in entries
        if (vector := _vector_of(entry, channel)) is not None
    ]


def _lexical_scores(
    context: WatchContext, channel: Channel, entries: Sequence[Entry], store: EntrySearch, failures: JudgingFailures
) -> Sequence[ScoredEntry]:
    """Searches the channel for the words of the watch among these entries; BM25 depends on the whole index."""
    own = [entry for entry in entries if entry.collection is channel.collection]
    text = context.query.text
    if not own or text is None or failures.skips(context.watch):
        return []
    keys = tuple(sorted({entry.asset.key for entry in own}))
    where: Filter = Comparison("key", "in", keys)
    if (own_condition := where_in(context.query, channel.collection)) is not None:
        where = Combination("and", (own_condition, where))
    # Several assets of other topics may have these keys, and several parts each.
    limit = max(len(own) * 4, 50)
    try:
        ranking = store.search(EntryQuery(channel, text, context.watch.access, where, limit, _TIMEOUT_S))
    except PenstockError as exc:
        failures.fail(context.watch, exc)
        return []
    ids = {entry.id for entry in own}
    return [scored for scored in ranking if scored.entry.id in ids]


def _vector_of(entry: Entry, channel: Channel) -> np.ndarray | None:
    return entry.vectors.get(channel.field) if entry.collection is channel.collection else None
