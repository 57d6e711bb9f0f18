"""Adds what deeper searches find to the hits of the first search, which stay as they are.

The first search of every channel has the same depth, `query.candidates`, whatever the limit of the request: what it
returns decides the order and the relevance of the first hits. If these are fewer than the limit, the channels are
searched deeper, and what only a deeper search finds comes after them. So the hits of a smaller limit are the first of a
larger one, and neither their order nor their relevance depends on it.
"""

from __future__ import annotations

from collections.abc import Sequence

from penstock.query.fusion.base import Candidate
from penstock.query.fusion.moments import compose_hit
from penstock.query.types import Hit, Rankings


def add_deeper(hits: Sequence[Hit], ranked: Sequence[tuple[float, Candidate]], rankings: Rankings) -> list[Hit]:
    """Returns the hits, and after them a hit for each candidate that has none of their entries.

    A candidate with one of their entries is a moment that the hits show already, perhaps with fewer members.

    Args:
        hits: of the searches before, best first.
        ranked: all candidates of a deeper search with their scores, best first.
        rankings: of that search.
    """
    known = {id_ for hit in hits for id_ in entry_ids(hit)}
    longer, lowest = list(hits), hits[-1].score if hits else float("inf")
    for score, candidate in ranked:
        if known.isdisjoint(member.entry.id for member in candidate.members):
            lowest = min(lowest, score)
            longer.append(compose_hit(candidate, lowest, rankings))
    return longer


def entry_ids(hit: Hit) -> list[str]:
    """Returns the ids of the entries of a hit: those of a moment's members, or of its one entry."""
    return [hit.entry.id] if hit.moment is None else [member.entry.id for member in hit.moment.members]
