"""Reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009) in three stages.

An entry lives in one collection and can only be found by the channels of that collection. Hence the stages:

    1 within a collection   score of an entry  = Σ over the channels of channel weight / (k + rank in the channel)
    2 among moments         score of a moment  = Σ over speech and frame of weight / (k + rank in the collection)
    3 across kinds          score of a hit     = weight of its collection / (k + rank among texts, images or moments)

The paper fuses complete rankings. A channel here returns its best `depth` entries, and an entry that it does not return
counts as rank depth + 1, not as zero. Otherwise the best entry of one channel would rank below whatever two channels
return by chance at their ends, which in a small collection is most of it. A moment that one of two collections did not
find has the rank after the last that the collection did find: audio has no frames, and in a small index every video is
found by some of its frames.

Stage 1: the spaces of a collection have equal weights, and the channels of one space share its weight. So a collection
weighs the same however many channels it has, and a channel that is missing leaves its weight to the others.

Stage 2: entries of one asset that are close together in time are one moment (`query.fusion.moments`). Its rank in a
collection depends on the best of its entries in each channel. So what is both spoken and shown ranks above what is only
one of them, and a long video does not win by the number of its poor entries.

Stage 3: the best of each kind meet as equals. In a single stage they would not: an entry that two of three channels
find would score below the fiftieth entry of a collection whose one channel holds the whole weight, and any moment that
is spoken and shown would score above the best text, although nothing shows that these are worse.

Only ranks count. The first entry of a collection counts as much as that of another one, however poor it is, so that
kinds take turns: `query/fusion/weighted.py` compares scores instead.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from penstock.query.explanations import ChannelPart, CollectionPart, Combined, ScoreParts
from penstock.query.fusion.base import Candidate, MomentRules, channel_order, channel_weights
from penstock.query.fusion.moments import group_moments
from penstock.query.fusion.parts import best_hits, members_of
from penstock.query.types import ChannelHit, Hit, MomentMember, Rankings
from penstock.records import TIMED_COLLECTIONS, Channel, Collection, Entry


class ReciprocalRankFusion:
    """A `Fusion` by ranks alone.

    Args:
        weights: of the collections; 1 where one is absent. A moment has the larger weight of its collections.
        k: the constant of the method: the larger, the less the first ranks stand out.
    """

    def __init__(self, weights: Mapping[Collection, float], *, k: int) -> None:
        self._weights = weights
        self._k = k

    def rank(self, rankings: Rankings, rules: MomentRules, limit: int) -> list[tuple[float, Candidate]]:
        """See `Fusion.rank`."""
        candidates = group_moments(self._rank_entries(rankings), rules)
        return self._rank_candidates(candidates, rankings)[:limit]

    def explain(self, rankings: Rankings, hits: Sequence[Hit]) -> list[ScoreParts]:
        """See `ExplainingFusion.explain`: the sums of stage 1, by which a hit has its rank in each collection."""
        scorings = self._scoring(rankings)
        explained = []
        for hit in hits:
            best, members = best_hits(members_of(hit)), members_of(hit)
            collections = {member.entry.collection for member in members}
            parts = [scoring.part(name, best) for name, scoring in scorings.items() if name in collections]
            explained.append(ScoreParts(tuple(parts), Combined.RANK))
        return explained

    def _rank_entries(self, rankings: Rankings) -> list[Candidate]:
        """Applies stage 1, and returns a candidate for each entry.

        Moments grow around the entries with the best ranks, at equal ranks around those that more channels found.
        """
        candidates: list[Candidate] = []
        timed: list[tuple[float, float, str, str, Candidate]] = []
        for collection, scoring in self._scoring(rankings).items():
            ranked = _rank_collection(rankings, scoring)
            if collection not in TIMED_COLLECTIONS:
                candidates += ranked
                continue
            timed += [
                (
                    -scoring.weight / (self._k + rank),
                    -channel_agreement(candidate.found_by),
                    collection,
                    candidate.best.id,
                    candidate,
                )
                for rank, candidate in enumerate(ranked, start=1)
            ]
        timed.sort(key=lambda row: row[:-1])
        return [*candidates, *(candidate for *_, candidate in timed)]

    def _rank_candidates(self, candidates: Sequence[Candidate], rankings: Rankings) -> list[tuple[float, Candidate]]:
        """Applies stages 2 and 3."""
        scorings = self._scoring(rankings)
        kinds: dict[Collection | None, list[tuple[float, Candidate]]] = defaultdict(list)
        moments: list[Candidate] = []
        for candidate in candidates:
            if candidate.best.collection in TIMED_COLLECTIONS:
                moments.append(candidate)
            else:
                kinds[candidate.best.collection].append((candidate.score, candidate))
        kinds[None] = _rank_moments(moments, scorings)
        rows = [
            (
                -max(scorings[collection].weight for collection in candidate.collections) / (self._k + rank),
                -score,  # kinds of equal weight tie at every rank: the candidate that more channels found goes first
                candidate.best.collection,  # the rest of the key only makes the order deterministic
                candidate.best.id,
                candidate,
            )
            for kind in kinds.values()
            for rank, (score, candidate) in enumerate(kind, start=1)
        ]
        rows.sort(key=lambda row: row[:-1])
        return [(-row[0], row[-1]) for row in rows]

    def _scoring(self, rankings: Rankings) -> dict[Collection, _Scoring]:
        """Returns the constants of each collection that a channel answered for, in the order of `channel_order`."""
        channels_of: dict[Collection, list[Channel]] = defaultdict(list)
        for channel in sorted(rankings.by_channel, key=channel_order):
            channels_of[channel.collection].append(channel)
        return {
            collection: _Scoring(
                self._weights.get(collection, 1.0),
                channel_weights(channels, rankings.spaces),
                self._k,
                rankings.depths[collection],
            )
            for collection, channels in channels_of.items()
        }


def channel_agreement(hits: Iterable[ChannelHit]) -> float:
    """Returns a number that grows with each channel that found an entry, and with its rank there."""
    return math.fsum(1 / (1 + hit.rank) for hit in hits)


@dataclass(frozen=True, slots=True)
class _Scoring:
    """The constants of one collection, and the weights of its channels in the order of `channel_order`."""

    weight: float
    channel_weights: Mapping[Channel, float]
    k: int
    depth: int

    def part(self, collection: Collection, hits: Mapping[str, ChannelHit]) -> CollectionPart:
        """Returns the sum of stage 1 with its terms; a channel without the hit has the rank after its last."""
        parts = []
        for channel, weight in self.channel_weights.items():
            hit = hits.get(str(channel))
            value = 1 / (self.k + (hit.rank if hit else self.depth + 1))
            rank, score = (hit.rank, hit.score) if hit else (None, None)
            parts.append(ChannelPart(channel, rank, score, value, weight, weight * value))
        total = math.fsum(part.part for part in parts)
        return CollectionPart(collection, tuple(parts), 0.0, total, total * self.weight)

    def rrf_score(self, hits: Iterable[ChannelHit]) -> float:
        """Returns the sum of stage 1, without intermediate rounding: equal ranks in another order have equal scores."""
        ranks = {hit.channel: hit.rank for hit in hits}
        return math.fsum(
            weight / (self.k + ranks.get(channel, self.depth + 1)) for channel, weight in self.channel_weights.items()
        )


def _rank_collection(rankings: Rankings, scoring: _Scoring) -> list[Candidate]:
    """Stage 1: returns the entries of one collection by score."""
    entries: dict[str, Entry] = {}
    hits_of: dict[str, list[ChannelHit]] = defaultdict(list)
    for channel in scoring.channel_weights:
        for rank, scored in enumerate(rankings.by_channel[channel], start=1):
            entries[scored.entry.id] = scored.entry
            hits_of[scored.entry.id].append(ChannelHit(channel, rank, scored.score))
    candidates = [
        Candidate((MomentMember(entries[entry_id], tuple(hits)),), tuple(hits), scoring.rrf_score(hits))
        for entry_id, hits in hits_of.items()
    ]
    return sorted(candidates, key=lambda candidate: _sort_key(candidate.score, candidate.found_by, candidate))


def _rank_moments(
    moments: Sequence[Candidate], scorings: Mapping[Collection, _Scoring]
) -> list[tuple[float, Candidate]]:
    """Stage 2: returns moments, and entries outside any moment, best first, with the sums of their stage 1 scores."""
    reciprocals: list[list[float]] = [[] for _ in moments]
    scores: list[list[float]] = [[] for _ in moments]
    for collection, scoring in scorings.items():
        if collection not in TIMED_COLLECTIONS:
            continue
        matches = []
        for number, moment in enumerate(moments):
            if hits := moment.found_in(collection):
                score = scoring.rrf_score(hits)
                scores[number].append(score)
                matches.append((_sort_key(score, hits, moment), number))
        ranks = {number: rank for rank, (_, number) in enumerate(sorted(matches), start=1)}
        for number, terms in enumerate(reciprocals):
            terms.append(scoring.weight / (scoring.k + ranks.get(number, len(ranks) + 1)))
    rows = [
        (-math.fsum(terms), -math.fsum(of_moment), moment.best.collection, moment.best.id, moment)
        for terms, of_moment, moment in zip(reciprocals, scores, moments, strict=True)
    ]
    rows.sort(key=lambda row: row[:-1])
    return [(-score, moment) for _, score, *_, moment in rows]


def _sort_key(
    score: float, hits: Sequence[ChannelHit], candidate: Candidate
) -> tuple[float, list[tuple[int, int]], str]:
    """Returns a key: highest score, then best rank in the most important channel, then id, to be deterministic."""
    ranks = [(channel_order(hit.channel)[1], hit.rank) for hit in hits]
    return -score, ranks, candidate.best.id
