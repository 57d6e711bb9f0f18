"""Searches lexical channels for further words beside a question's, at weights of their own.

BM25 is a sum over terms. So the score for a question and weighted words is the score for the question and, for each
group of words, its own score times its weight. An entry that a search does not return counts 0 there.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from penstock.errors import PenstockError
from penstock.query.understand.understood import WeightedWords
from penstock.records import ScoredEntry
from penstock.store.base import EntryQuery, EntrySearch

logger = logging.getLogger(__name__)


def search_weighted(
    store: EntrySearch,
    query: EntryQuery,
    extra: Sequence[WeightedWords],
    *,
    on_left_out: Callable[[], None] = lambda: None,
) -> Sequence[ScoredEntry]:
    """Returns the entries of one channel for a question and further words, best first.

    Further words that fail or are late are left out.

    Args:
        store: searched once for each group of words, in this thread.
        query: of a lexical channel if there are further words; its timeout is that of all searches.
        extra: the further words.
        on_left_out: called, in this thread, if some of them are.

    Raises as `EntrySearch.search` does, for the question itself.
    """
    ends_s = time.monotonic() + query.timeout_s
    entries = store.search(query)
    if not extra:
        return entries
    merged = {result.entry.id: result for result in entries}
    for words in extra:
        left_s = ends_s - time.monotonic()
        if left_s <= 0:
            on_left_out()
            break
        try:
            matches = store.search(replace(query, content=words.text, timeout_s=left_s))
        except PenstockError as exc:
            logger.warning("further words of a question were not searched: %s", exc)
            on_left_out()
            break
        for result in matches:
            before = merged.get(result.entry.id)
            score = words.weight * result.score + (before.score if before else 0.0)
            merged[result.entry.id] = replace(result, score=score)
    return sorted(merged.values(), key=lambda result: -result.score)[: query.limit]
