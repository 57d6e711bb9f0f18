"""Fusion of scores: normalise the scores of each channel, combine them, and compare the results of all kinds.

    1 within a collection   value of an entry   = its channels' values combined, each space with an equal share
    2 moments               grow around the entries with the best values; value of a moment = those of speech and frame
    3 across kinds          texts, images and moments are ordered by value

Stage 1: `query.fusion.scales` normalises and combines. A channel that did not answer leaves its share to the others.

Stage 2: of a moment each channel's best entry counts, once. On a scale of evidence the values of speech and frame are
combined as probabilities that either is right: log(exp(speech) + exp(frame)). So what is both spoken and shown ranks
above what is only one of them, and audio, which has no frames, loses nothing by it. On a scale within a question their
mean counts, where a collection without the moment has its lowest value.

Stage 3: unlike in reciprocal rank fusion, kinds do not take turns. The best text of a question stands above the best
image if it is better by the standard of its own channels. A collection of weight w multiplies a value within a
question by w, and adds log(w) to evidence, which is what weighting probabilities does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from penstock.query.explanations import CollectionPart, Combined, ScoreParts
from penstock.query.fusion.base import MOMENT, Candidate, Leader, MomentRules, merge
from penstock.query.fusion.moments import group_numbers
from penstock.query.fusion.normalise import Float64
from penstock.query.fusion.parts import CollectionParts, members_of
from penstock.query.fusion.scales import ChannelShares, LogOddsScale, Scale
from penstock.query.fusion.tables import CollectionTable, Int64, collection_tables
from penstock.query.types import FuseOptions, Hit, Kind, Rankings
from penstock.records import TIMED_COLLECTIONS, Channel, Collection, Entry, Field

# The logarithm of a weight of 0, by which its collection comes after every other one.
LEAST_LOG_WEIGHT = -1e6


class WeightedFusion:
    """A `Fusion` by scores.

    Args:
        options: weights of collections and channels.
        scale: compares all kinds.
        scale_within: the scale that orders the entries of a collection; None: `scale`.
    """

    def __init__(
        self,
        options: FuseOptions,
        scale: Scale,
        scale_within: Callable[[CollectionTable], Scale] | None = None,
    ) -> None:
        self._options = options
        self._scale = scale
        self._scale_within = scale_within or (lambda table: scale)

    @property
    def is_calibrated(self) -> bool:
        """Whether its scores are log-odds of a calibration."""
        return isinstance(self._scale, LogOddsScale)

    def rank(self, rankings: Rankings, rules: MomentRules, limit: int) -> list[tuple[float, Candidate]]:
        """See `Fusion.rank`."""
        return self.rank_tables(collection_tables(rankings), rankings, rules, limit)

    def rank_tables(
        self,
        tables: Sequence[CollectionTable],
        rankings: Rankings,
        rules: MomentRules,
        limit: int,
        leader: Leader | None = None,
    ) -> list[tuple[float, Candidate]]:
        """Does what `rank` does, with the tables of the rankings, and with a leader to choose the first candidate."""
        scored = [self._score(table, rankings) for table in tables]
        timed = [
            collection
            for collection in scored
            if collection.table.entries and collection.table.collection in TIMED_COLLECTIONS
        ]
        rows = [
            row
            for collection in scored
            if collection.table.collection not in TIMED_COLLECTIONS
            for row in self._entry_rows(collection, limit)
        ]
        if timed:
            rows += self._moment_rows(timed, rules, limit)
        rows.sort(key=lambda row: (-row.score, row.kind, row.number))
        if leader is not None and rows:
            rows = _led(rows, leader)
        return [(row.score, row.candidate()) for row in rows[:limit]]

    def explain(self, rankings: Rankings, hits: Sequence[Hit]) -> list[ScoreParts]:
        """See `ExplainingFusion.explain`."""
        return self.explain_tables(collection_tables(rankings), rankings, hits)

    def explain_tables(
        self, tables: Sequence[CollectionTable], rankings: Rankings, hits: Sequence[Hit]
    ) -> list[ScoreParts]:
        """Does what `explain` does, with the tables of the rankings."""
        within = {table.collection: self._scale_within(table) for table in tables if table.entries}
        takers = [
            CollectionParts(table, within[table.collection], scored.shares, scored.values)
            for table in tables
            if table.entries
            for scored in (self._on_scale(within[table.collection], table, rankings),)
        ]
        several = len([collection for collection in within if collection in TIMED_COLLECTIONS]) > 1
        explained = []
        for hit in hits:
            values = [taker.of(members_of(hit)) for taker in takers]
            parts = tuple(self._with_weight(part) for part in values if part is not None)
            timed = hit.entry.collection in TIMED_COLLECTIONS
            if any(within[part.collection] is not self._scale for part in parts):
                combined = Combined.PLACE
            else:
                combined = self._scale.moments_combined if timed and several else Combined.SUM
            explained.append(ScoreParts(parts, combined))
        return explained

    def _with_weight(self, part: CollectionPart) -> CollectionPart:
        return replace(part, weighted=float(self._weighted(np.array(part.value), part.collection)))

    def _score(self, table: CollectionTable, rankings: Rankings) -> _Scored:
        """Applies stage 1."""
        within = self._scale_within(table)
        scored = self._on_scale(self._scale, table, rankings)
        if within is self._scale:
            return scored
        # The order is that of one scale, and the values, best first, are those of the other.
        order = self._on_scale(within, table, rankings).order
        scored.scores[order] = -np.sort(-scored.scores)
        return replace(scored, order=order)

    def _on_scale(self, scale: Scale, table: CollectionTable, rankings: Rankings) -> _Scored:
        silent, bonus = (set(), set()) if scale.silence_counts else _beside(table, rankings, evidence=scale.evidence)
        factors = self._options.channel_weights
        shares = ChannelShares.of(table.channels, rankings.spaces, factors, silent=silent, bonus=bonus)
        values = table.values(scale, bonus)
        scores = scale.combine(table.collection, table.channels, values, shares)
        return _Scored(table, shares, values, scores, table.order(scores))

    def _entry_rows(self, scored: _Scored, limit: int) -> list[_Row]:
        collection = scored.table.collection
        finals = self._weighted(scored.scores, collection)
        return [
            _Row(float(finals[column]), collection, number, partial(scored.candidate, column))
            for number, column in enumerate(scored.order[:limit].tolist())
        ]

    def _moment_rows(self, timed: Sequence[_Scored], rules: MomentRules, limit: int) -> list[_Row]:
        """Applies stage 2."""
        pool = _Pool(timed)
        groups = group_numbers(pool.entries, rules)
        group_of = np.empty(len(pool.entries), np.int64)
        for number, members in enumerate(groups):
            group_of[members] = number
        scores = np.stack(
            [self._of_moments(scored, group_of[pool.places[at]], len(groups)) for at, scored in enumerate(timed)]
        )
        finals = self._scale.combine_moments([scored.table.collection for scored in timed], scores)
        best = np.argsort(-finals, kind="stable")[:limit].tolist()
        return [
            _Row(float(finals[number]), MOMENT, place, partial(pool.candidate, groups[number]))
            for place, number in enumerate(best)
        ]

    def _of_moments(self, scored: _Scored, group_of: Int64, count: int) -> Float64:
        """Returns float64[count], the weighted values of moments in one collection; -inf where they have no entry.

        Args:
            scored: of the collection, with n entries.
            group_of: int64[n], the moment of each entry.
            count: the number of moments.
        """
        best = np.full((len(scored.table.channels), count), -np.inf)
        for row, values in zip(best, scored.values, strict=True):
            np.maximum.at(row, group_of, values)
        present = np.isfinite(best[0])
        table = scored.table
        result = np.full(count, -np.inf)
        combined = self._scale.combine(table.collection, table.channels, best[:, present], scored.shares)
        result[present] = self._weighted(combined, table.collection)
        return result

    def _weighted(self, scores: Float64, collection: Collection) -> Float64:
        weight = self._options.weights.get(collection, 1.0)
        if self._scale.evidence:
            return scores + (math.log(weight) if weight > 0 else LEAST_LOG_WEIGHT)
        return scores * weight


def _beside(table: CollectionTable, rankings: Rankings, *, evidence: bool) -> tuple[set[Channel], set[Channel]]:
    """Returns the channels that found nothing, and the lexical ones that found all there is beside another channel.

    Neither says anything about the entries that it did not return.
    """
    silent = {channel for channel in table.channels if not rankings.by_channel[channel]}
    depth = rankings.depths[table.collection]
    complete = {
        channel
        for channel in table.channels
        if channel.field is Field.LEXICAL and 0 < len(rankings.by_channel[channel]) < depth
    }
    others = set(table.channels) - silent - complete
    return silent, complete if evidence and others else set()


@dataclass(frozen=True, slots=True)
class _Scored:
    """A collection after stage 1.

    Attributes:
        table: its entries, n in number.
        shares: of its channels.
        values: float64[channels, n].
        scores: float64[n].
        order: int64[n], the entries by score.
    """

    table: CollectionTable
    shares: ChannelShares
    values: Float64
    scores: Float64
    order: Int64

    def candidate(self, column: int) -> Candidate:
        """Returns one entry as a candidate."""
        return self.table.candidate(column, float(self.scores[column]))


@dataclass(frozen=True, slots=True)
class _Row:
    """A candidate that is only composed if it is among the best.

    Attributes:
        score: final.
        kind, number: break ties in the same way every time.
        candidate: composes it.
    """

    score: float
    kind: Kind
    number: int
    candidate: Callable[[], Candidate]


def _led(rows: Sequence[_Row], leader: Leader) -> list[_Row]:
    """Returns the rows, which are best first, with the best one of the leader's kind before all others.

    It gets the score of the row that it displaces: scores only order.
    """
    best_of: dict[Kind, _Row] = {}
    for row in rows:
        best_of.setdefault(row.kind, row)
    first = best_of[leader({kind: row.score for kind, row in best_of.items()})]
    if first is rows[0]:
        return list(rows)
    promoted = replace(first, score=rows[0].score, candidate=lambda: replace(first.candidate(), promoted=True))
    return [promoted, *(row for row in rows if row is not first)]


class _Pool:
    """The entries of all timed collections, best first.

    Attributes:
        entries: in the order in which moments grow around them.
        places: of each collection int64[n], the place in `entries` of each of its n entries.
    """

    def __init__(self, timed: Sequence[_Scored]) -> None:
        sizes = [len(scored.table.entries) for scored in timed]
        scores = np.concatenate([scored.scores for scored in timed])
        agreement = np.concatenate([np.count_nonzero(scored.table.ranks, axis=0) for scored in timed])
        place_within = np.empty(len(scores), np.int64)
        for start, scored in zip(np.cumsum([0, *sizes[:-1]]), timed, strict=True):
            place_within[start + scored.order] = np.arange(len(scored.order))
        order = np.lexsort((place_within, -agreement, -scores))
        columns = [(at, column) for at, size in enumerate(sizes) for column in range(size)]
        self._timed = timed
        self._rows = [columns[number] for number in order.tolist()]
        self.entries: list[Entry] = [timed[at].table.entries[column] for at, column in self._rows]
        place_of = np.empty(len(scores), np.int64)
        place_of[order] = np.arange(len(scores))
        self.places = np.split(place_of, np.cumsum(sizes[:-1]))

    def candidate(self, members: Sequence[int]) -> Candidate:
        """Returns the entries of one moment as a candidate."""
        return merge([self._timed[at].candidate(column) for at, column in (self._rows[place] for place in members)])
