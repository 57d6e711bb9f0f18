"""Samples the vectors of an index that exists, so that it is tuned for what it holds."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence

import numpy as np

from penstock.errors import UsageError
from penstock.records import FIELDS_OF, VISUAL_COLLECTIONS, Collection, Field, Float32
from penstock.store.base import EntryScan
from penstock.tune.directions import HELD_OUT, MIN_QUERIES, Bank, Direction, hold_out

_BATCH = 500


def sample_vectors(store: EntryScan, collection: Collection, max_vectors: int) -> dict[Field, Float32]:
    """Returns vectors of a collection by field: float32[at most max_vectors, dim].

    The sample has the entries of the smallest ids. Those are hashes, so it is one of chance, and the same each time.
    """
    ids = heapq.nsmallest(
        max_vectors, (key.id for page in store.scan_entry_keys(collection) for key in page)
    )  # as one pass, in the memory of the sample
    by_field: dict[Field, list[Float32]] = {}
    for start in range(0, len(ids), _BATCH):
        for entry in store.get(collection, ids[start : start + _BATCH]):
            for field, vector in entry.vectors.items():
                by_field.setdefault(field, []).append(vector)
    return {field: np.stack(vectors) for field, vectors in by_field.items()}


def banks_of_index(
    store: EntryScan, questions: dict[tuple[Collection, Field], Float32], *, max_vectors: int, seed: int
) -> list[Bank]:
    """Returns the banks of an index: each dense channel by the questions, visual ones also by their own vectors.

    Args:
        store: holds the index.
        questions: float32[m, dim] by channel: the questions in words, as the query plane embeds them for it.
        max_vectors: of each channel.
        seed: of what is held out.

    Raises:
        UsageError: no channel has enough vectors.
    """
    banks = list(_banks(store, questions, max_vectors, seed))
    if not banks:
        raise UsageError(f"the index has no channel with {2 * MIN_QUERIES} vectors: give a set by --set instead")
    return banks


def _banks(
    store: EntryScan, questions: dict[tuple[Collection, Field], Float32], max_vectors: int, seed: int
) -> Iterator[Bank]:
    for collection in Collection:
        fields = [field for field in FIELDS_OF[collection] if (collection, field) in questions]
        if not fields or not store.count(collection):
            continue
        vectors = sample_vectors(store, collection, max_vectors)
        for field in fields:
            if len(vectors.get(field, ())) >= 2 * MIN_QUERIES:
                yield _bank(collection, field, vectors[field], questions[collection, field], seed)


def _bank(collection: Collection, field: Field, vectors: Float32, questions: Float32, seed: int) -> Bank:
    channel = f"{collection}.{field}"
    directions: Sequence[Direction] = [Direction(f"words → {channel}", questions)]
    if collection in VISUAL_COLLECTIONS:
        held_out, vectors = hold_out(vectors, min(HELD_OUT, len(questions)), seed=seed)
        directions = [*directions, Direction(f"images → {channel}", held_out)]
    return Bank(channel, vectors, directions)
