"""Gives every kind of hit, which are texts, images and moments, a share of the first places.

Relevance puts first what is most likely right. A kind that its encoder finds poorly is then hardly ever first, although
it may hold most of the answers. With `query.first_places = index` it is, about as often as it occurs in the index:

    1 count      the best relevance of each kind, for the last questions
    2 handicap   for each kind the least amount by which its relevance has to grow for it to be first, among these
                 questions, as often as 0.95 of its share of the assets in the index
    3 choose     the kind with the highest sum of best relevance and handicap; its best hit moves to the first place

Of all ways to reach the shares this one gives up the least relevance: the handicaps are the prices of the assignment
of questions to kinds (Bertsekas' auction, 1979). A part of each share is free, so that a kind that relevance puts
first a little too often stays there. What it costs is bounded for each question: a handicap is at most `MAX_HANDICAP`,
and a hit below the floor of relevance never displaces one above it.

The counts are numbers only. The same question on the same index has the same numbers, and counts once: asking it again
changes nothing, neither its order nor that of others. Handicaps are renewed after every tenth question.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np

from penstock.query.fusion.normalise import Float64
from penstock.query.types import Kind

MAX_QUESTIONS = 500
# With fewer, the order is that of relevance.
MIN_QUESTIONS = 10
# So the order changes in steps, and a question costs little.
RENEWED_AFTER = 10
# The part of its share that each kind is given. With all of it emoji, which are rightly first a little more often than
# they occur, lose 0.6 of nDCG@10. With 0.9 images, 55 % of mixed's training index, are first in 46 to 53 % of its
# questions, by their order; with 0.95 in 48 to 55 %.
GIVEN_SHARE = 0.95
# On mixed images need 0.10 to 0.11, and 0.04 in an index of which they are 19 %.
MAX_HANDICAP = 0.15
# More rounds than kinds ever took: each ends with one kind at its share.
_MAX_ROUNDS = 50

_Values: TypeAlias = tuple[float, ...]


class FirstPlaces:
    """Counts the questions of one replica, and chooses which kind of hit is first. Safe to use from several threads.

    Questions that found different kinds are counted apart.

    Args:
        floor: relevance below which a hit does not count as found.
    """

    def __init__(self, floor: float = 0.0) -> None:
        self._floor = floor
        self._of_kinds: dict[tuple[Kind, ...], _Counts] = {}
        self._lock = threading.Lock()

    def choose(self, best: Mapping[Kind, float], shares: Mapping[Kind, float]) -> Kind:
        """Counts a question and returns the kind whose best hit is first.

        Args:
            best: relevance of the best hit of each kind that has one, 0 to 1.
            shares: of the assets in the index, by kind; a kind without one is first by its relevance alone.
        """
        kinds = tuple(sorted(best))
        leading = max(kinds, key=lambda kind: best[kind])
        total = sum(shares.get(kind, 0.0) for kind in kinds)
        if len(kinds) == 1 or total <= 0:
            return leading
        given = tuple(GIVEN_SHARE * shares.get(kind, 0.0) / total for kind in kinds)
        with self._lock:
            counts = self._of_kinds.setdefault(kinds, _Counts())
            counts.add(tuple(best[kind] for kind in kinds))
            amounts = counts.handicaps(given)
        chosen = max(zip(kinds, amounts, strict=True), key=lambda pair: best[pair[0]] + pair[1])[0]
        return leading if best[chosen] < self._floor <= best[leading] else chosen


class _Counts:
    """The questions that found the same kinds, and the handicaps that follow from them."""

    def __init__(self) -> None:
        self._questions: dict[_Values, None] = {}  # the best relevance of each kind, the oldest question first
        self._new = 0
        self._handicaps: dict[_Values, _Values] = {}  # by shares, which differ by tenant

    def add(self, values: _Values) -> None:
        """Counts a question, unless it is counted already."""
        if values not in self._questions:
            self._questions[values] = None
            self._new += 1
        if len(self._questions) > MAX_QUESTIONS:
            del self._questions[next(iter(self._questions))]

    def handicaps(self, shares: _Values) -> _Values:
        """Returns the handicaps of all kinds, which are renewed after some questions; 0 before there are enough."""
        if len(self._questions) < MIN_QUESTIONS:
            return (0.0,) * len(shares)
        if self._new >= RENEWED_AFTER:
            self._handicaps.clear()
            self._new = 0
        if shares not in self._handicaps:
            amounts = handicaps(np.array(list(self._questions)), np.array(shares))
            self._handicaps[shares] = tuple(amounts.tolist())
        return self._handicaps[shares]


def handicaps(values: Float64, shares: Float64) -> Float64:
    """Returns the least amounts, float64[kinds], with which every kind is first in its share of the questions.

    They start at 0, and grow in turn for each kind that is first too rarely. So the kind that is first more often than
    it has to be keeps 0. None exceeds `MAX_HANDICAP`, even if a share is missed.

    Args:
        values: float64[questions, kinds].
        shares: float64[kinds], in all less than 1.
    """
    amounts = np.zeros(values.shape[1])
    needed = np.floor(shares * len(values)).astype(np.int64)
    for _ in range(_MAX_ROUNDS):
        before = amounts.copy()
        for kind, count in enumerate(needed.tolist()):
            if count:
                raised = values + amounts
                behind = np.delete(raised, kind, axis=1).max(axis=1) - values[:, kind]
                # With this amount the kind is first, or level, in as many questions as it needs.
                amount = float(np.partition(behind, count - 1)[count - 1])
                amounts[kind] = min(max(amounts[kind], amount), MAX_HANDICAP)
        if np.array_equal(amounts, before):
            break
    return amounts
