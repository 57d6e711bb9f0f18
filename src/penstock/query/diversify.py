"""Step 8, diversify: moves hits back that resemble those before them (maximal marginal relevance).

The next hit is the one with the highest λ · score - (1 - λ) · similarity (Carbonell and Goldstein, SIGIR 1998). The
score is that of the fusion, brought to 0 for the last and 1 for the first of the hits that may change places; the
similarity is the highest cosine with a hit that is chosen already, at least 0.

Hits are compared by the stored vectors of their entries, of a moment its best one, in the first dense field of their
collection that was searched. Only vectors of one space can be compared: between a text and an image, or a frame and a
segment of speech, the similarity is 0 if their fields are of two spaces. So near copies move back, and kinds do not
push each other aside.

The first `query.diversify_top` hits of the first search change places, those below the floor of relevance excepted: a
poor hit does not come forward for being different. Their number does not depend on the limit, and so neither does the
order.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from penstock.errors import PenstockError
from penstock.query.executor import BoundedExecutor
from penstock.query.fusion.normalise import Float64, min_max
from penstock.query.trace import Trace
from penstock.query.types import Hit, Query
from penstock.records import FIELDS_OF, Access, Channel, Collection, Field, Float32
from penstock.store.base import EntrySearch

logger = logging.getLogger(__name__)

# What is left of the deadline is not enough to read vectors and still answer.
_MIN_LEFT_S = 0.005


@dataclass(frozen=True, slots=True)
class Diversifier:
    """Diversifies the hits of searches.

    Args:
        store: has the vectors.
        executor: runs the calls.
    """

    store: EntrySearch
    executor: BoundedExecutor

    async def diversify(
        self, hits: Sequence[Hit], query: Query, spaces: Mapping[Channel, str], trace: Trace, *, top: int
    ) -> list[Hit]:
        """Returns all hits, of the first `top` those above the floor in a new order.

        If the store does not return the vectors in time the order stays, and the trace has the reason.

        Args:
            hits: with their relevance, best first.
            query: with the λ of the request; None: the order stays.
            spaces: of the channels that were searched.
            trace: takes the time, and has the time that is left.
            top: number of hits that may change places.
        """
        places = [place for place, hit in enumerate(hits[:top]) if not hit.below_floor]
        if query.hits.diversify is None or len(places) < 3:  # the first hit stays, and a single other one has no choice
            return list(hits)
        with trace.step("diversify"):
            try:
                similarity = await self._similarity([hits[place] for place in places], query.access, spaces, trace)
            except (PenstockError, TimeoutError) as exc:
                logger.warning("hits are not diversified: %s", exc or "the store did not return their vectors in time")
                trace.add_shortened("The hits are not diversified: the store did not return their vectors in time.")
                return list(hits)
            scores = min_max(np.array([hits[place].score for place in places]))
            order = marginal_order(scores, similarity, query.hits.diversify)
        diversified = list(hits)
        for place, row in zip(places, order, strict=True):
            # The scores stay with the places: they only order.
            diversified[place] = replace(hits[places[row]], score=hits[place].score)
        return diversified

    async def _similarity(
        self, hits: Sequence[Hit], access: Access, spaces: Mapping[Channel, str], trace: Trace
    ) -> Float64:
        """Returns float64[hits, hits], cosines within each space and 0 between two."""
        if trace.left_s() < _MIN_LEFT_S:
            raise TimeoutError
        rows_of: dict[Channel, dict[str, int]] = defaultdict(dict)
        for row, hit in enumerate(hits):
            if (channel := dense_channel(hit.entry.collection, spaces)) is not None:
                rows_of[channel][hit.entry.id] = row
        deadline_s = self.executor.clock() + trace.left_s()
        stored = await asyncio.gather(
            *(self._vectors(channel, list(rows), access, deadline_s) for channel, rows in rows_of.items())
        )
        of_space: dict[str, dict[int, Float32]] = defaultdict(dict)
        for (channel, rows), vectors in zip(rows_of.items(), stored, strict=True):
            of_space[spaces[channel]] |= {rows[entry_id]: vector for entry_id, vector in vectors.items()}
        return similarity_matrix(list(of_space.values()), len(hits))

    async def _vectors(
        self, channel: Channel, ids: Sequence[str], access: Access, deadline_s: float
    ) -> Mapping[str, Float32]:
        return await self.executor.call(
            lambda timeout_s: self.store.vectors(channel, ids, access=access, timeout_s=timeout_s),
            deadline_s=deadline_s,
        )


def dense_channel(collection: Collection, searched: Container[Channel]) -> Channel | None:
    """Returns the channel of the first dense field of a collection that was searched."""
    dense = (Channel(collection, field) for field in FIELDS_OF[collection] if field is not Field.LEXICAL)
    return next((channel for channel in dense if channel in searched), None)


def similarity_matrix(spaces: Sequence[Mapping[int, Float32]], size: int) -> Float64:
    """Returns float64[size, size]: cosines, at least 0, of rows that have a vector in one space; else 0.

    Args:
        spaces: of each space, float32[dim] by row, L2-normalised.
        size: number of rows.
    """
    similarity = np.zeros((size, size))
    for vectors in spaces:
        rows = np.array(list(vectors), np.int64)
        stacked = np.stack(list(vectors.values())).astype(np.float64)
        similarity[np.ix_(rows, rows)] = np.maximum(stacked @ stacked.T, 0.0)
    return similarity


def marginal_order(scores: Float64, similarity: NDArray[np.float64], share: float) -> list[int]:
    """Returns the rows in the order of maximal marginal relevance, at equal values in their own order.

    Args:
        scores: float64[n], 0 to 1.
        similarity: float64[n, n], 0 to 1.
        share: λ, 0 to 1, of the score; similarity has the rest. With 1 the rows stay in the order of their scores.
    """
    nearest, free = np.zeros(len(scores)), np.ones(len(scores), bool)
    order: list[int] = []
    for _ in range(len(scores)):
        value = np.where(free, share * scores - (1 - share) * nearest, -np.inf)
        row = int(value.argmax())
        order.append(row)
        free[row] = False
        nearest = np.maximum(nearest, similarity[row])
    return order
