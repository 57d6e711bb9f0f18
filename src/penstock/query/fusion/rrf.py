"""Step 5, fuse: the rankings of several channels become one.

Reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009) in three stages, because an entry lives in one
collection and can only be found by the channels of that one:

    1 within a collection   evidence of an entry = Σ over the channels of share / (k + rank in the channel)
    2 among moments         evidence of a moment = Σ over speech and frame of weight / (k + place in the collection)
    3 across kinds          score of a hit       = weight of its collection / (k + place among texts, images or moments)

The paper fuses rankings of everything; a channel here returns its best `depth` entries. One that it does not return is
no worse than next: it counts as rank depth + 1, not as nothing. Otherwise the first of one channel would stand behind
whatever two channels find by chance at their ends, which in a small collection is most of it. A moment that one of two
collections did not find is no worse than next to the last that it did: a sound recording has no pictures, and in a
small index every film is found by some of its own.

In stage 1 the spaces of a collection share alike, and channels of one space split the share of that space. So the
collection weighs the same however many channels it has, and a channel that is missing leaves its share to its siblings.
In stage 2 what was found of a recording close together in time is one moment (`query.moments`). Its place in a
collection is by the best of its entries in each channel: so what is seen and said at once stands before what is only
seen or only said, and a long film does not win by the number of its poor hits.
In stage 3 the best of each kind meet as equals. In a single stage they would not: an entry that two of three channels
find would score below the fiftieth entry of a collection whose one channel holds the whole weight, and any moment that
is seen and said would score above the best text, though nothing says that they are worse.

Pure functions of ranks: cosines and BM25 are not comparable, and are passed on only to explain a hit.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from penstock.query.fusion.moments import MomentRules, group, has_times, span_ms
from penstock.query.types import ChannelHit, Hit, Member, Moment
from penstock.records import (
    FIELDS_OF,
    TIMED_COLLECTIONS,
    Channel,
    Collection,
    Entry,
    ScoredEntry,
)

_NEARLY = 0.8  # of the way from the last score of a channel to the best entry's
_AS_GOOD = 0.95  # of the best entry's score


def fuse(
    rankings: Mapping[Channel, Sequence[ScoredEntry]],
    *,
    spaces: Mapping[Channel, str],
    weights: Mapping[Collection, float],
    k: int,
    depths: Mapping[Collection, int],
    moments: MomentRules,
    limit: int,
) -> list[Hit]:
    """The best texts, images and moments of all rankings, best first. The order of `rankings` does not matter.

    Args:
        rankings: what each channel that answered found, best first, every entry at most once.
        spaces: the space that each of these channels compares in.
        weights: of collections; one that is not named weighs 1. A moment weighs as much as the heavier of its two.
        k: the constant of reciprocal rank fusion: the larger, the less the first ranks stand out.
        depths: how many entries each channel of a collection was asked for.
        moments: what is one moment.
        limit: how many hits at most; a moment is one.
    """
    by_collection: dict[Collection, dict[Channel, Sequence[ScoredEntry]]] = defaultdict(dict)
    for channel in sorted(rankings, key=_importance):
        by_collection[channel.collection][channel] = rankings[channel]
    terms = {
        collection: _Terms(weights.get(collection, 1.0), shares(ranked, spaces), k, depths[collection])
        for collection, ranked in by_collection.items()
    }
    entries = {collection: _fuse_collection(ranked, terms[collection]) for collection, ranked in by_collection.items()}
    recorded = {collection: found for collection, found in entries.items() if collection in TIMED_COLLECTIONS}
    kinds = [found for collection, found in entries.items() if collection not in TIMED_COLLECTIONS]
    kinds.append(_fuse_moments(recorded, terms, moments))
    fused = [
        (max(terms[collection].weight for collection in candidate.collections) / (k + place), candidate)
        for kind in kinds
        for place, candidate in enumerate(kind, start=1)
    ]
    # Two kinds of one weight tie at every place. The one whose channels agree more goes first; the rest of the key only
    # makes the order the same every time.
    fused.sort(key=lambda pair: (-pair[0], -pair[1].evidence, pair[1].best.collection, pair[1].best.id))
    last = {channel: ranking[-1].score for channel, ranking in rankings.items() if ranking}
    return [_hit(candidate, score, last) for score, candidate in fused[:limit]]


def shares(channels: Iterable[Channel], spaces: Mapping[Channel, str]) -> dict[Channel, float]:
    """What each channel of one collection counts for; together 1. Spaces share alike, and split theirs evenly."""
    channels_of: dict[str, list[Channel]] = defaultdict(list)
    for channel in channels:
        channels_of[spaces[channel]].append(channel)
    return {
        channel: 1.0 / (len(channels_of) * len(siblings)) for siblings in channels_of.values() for channel in siblings
    }


@dataclass(frozen=True, slots=True)
class _Terms:
    """What holds for one collection."""

    weight: float
    share_of: Mapping[Channel, float]
    k: int
    depth: int

    def evidence(self, hits: Iterable[ChannelHit]) -> float:
        """Stage 1. Summed without rounding in between, so that equal ranks in another order are equal evidence."""
        ranks = {hit.channel: hit.rank for hit in hits}
        return math.fsum(
            share / (self.k + ranks.get(channel, self.depth + 1)) for channel, share in self.share_of.items()
        )


@dataclass(frozen=True, slots=True)
class _Candidate:
    """An entry, or the entries of a moment, while they are fused.

    Attributes:
        members: the best first.
        found_by: the best hit of each channel, in the order of importance.
        evidence: of stage 1, summed over the collections that found it.
    """

    members: tuple[Member, ...]
    found_by: tuple[ChannelHit, ...]
    evidence: float

    @property
    def best(self) -> Entry:
        return self.members[0].entry

    @property
    def collections(self) -> set[Collection]:
        return {member.entry.collection for member in self.members}

    @property
    def agreement(self) -> float:
        """Grows with each channel that found it, and with its rank there."""
        return math.fsum(1 / (1 + hit.rank) for hit in self.found_by)

    def found_in(self, collection: Collection) -> list[ChannelHit]:
        return [hit for hit in self.found_by if hit.channel.collection is collection]


def _fuse_collection(rankings: Mapping[Channel, Sequence[ScoredEntry]], terms: _Terms) -> list[_Candidate]:
    """Stage 1: the entries of one collection by evidence. `rankings` are in the order of importance."""
    entries: dict[str, Entry] = {}
    hits_of: dict[str, list[ChannelHit]] = defaultdict(list)
    for channel, ranking in rankings.items():
        for rank, found in enumerate(ranking, start=1):
            entries[found.entry.id] = found.entry
            hits_of[found.entry.id].append(ChannelHit(channel, rank, found.score))
    candidates = [
        _Candidate((Member(entries[entry_id], tuple(hits)),), tuple(hits), terms.evidence(hits))
        for entry_id, hits in hits_of.items()
    ]
    return sorted(candidates, key=lambda candidate: _by_evidence(candidate.evidence, candidate.found_by, candidate))


def _fuse_moments(
    found: Mapping[Collection, Sequence[_Candidate]], terms: Mapping[Collection, _Terms], rules: MomentRules
) -> list[_Candidate]:
    """Stage 2: the moments of all recordings by evidence, and entries that are part of none."""
    moments = _grouped(found, terms, rules)
    parts: list[list[float]] = [[] for _ in moments]  # of the evidence of each
    for collection in found:
        of_collection = terms[collection]
        places = _places(moments, collection, of_collection)
        unfound = len(places) + 1
        for number, of_moment in enumerate(parts):
            of_moment.append(of_collection.weight / (of_collection.k + places.get(number, unfound)))
    keyed = [
        (-math.fsum(of_moment), -moment.evidence, moment.best.collection, moment.best.id, moment)
        for of_moment, moment in zip(parts, moments, strict=True)
    ]
    return [moment for *_, moment in sorted(keyed, key=lambda key: key[:-1])]


def _grouped(
    found: Mapping[Collection, Sequence[_Candidate]], terms: Mapping[Collection, _Terms], rules: MomentRules
) -> list[_Candidate]:
    """Moments grow around the entries with the best places, of whichever collection; of two first ones around the one
    that more channels agree on.
    """
    placed = [
        (-terms[collection].weight / (terms[collection].k + place), -candidate.agreement, collection, candidate)
        for collection, candidates in found.items()
        for place, candidate in enumerate(candidates, start=1)
    ]
    placed.sort(key=lambda key: (*key[:-1], key[-1].best.id))
    candidate_of = {candidate.best.id: candidate for *_, candidate in placed}
    return [
        _joined([candidate_of[entry.id] for entry in entries], terms)
        for entries in group([candidate.best for *_, candidate in placed], rules)
    ]


def _joined(entries: Sequence[_Candidate], terms: Mapping[Collection, _Terms]) -> _Candidate:
    """Entries, the best first, as one moment."""
    if len(entries) == 1:
        return entries[0]
    best: dict[Channel, ChannelHit] = {}
    for hit in (hit for entry in entries for hit in entry.found_by):
        if hit.channel not in best or hit.rank < best[hit.channel].rank:
            best[hit.channel] = hit
    found_by = tuple(best[channel] for channel in sorted(best, key=_importance))
    joined = _Candidate(tuple(member for entry in entries for member in entry.members), found_by, 0.0)
    evidence = math.fsum(terms[collection].evidence(joined.found_in(collection)) for collection in joined.collections)
    return replace(joined, evidence=evidence)


def _places(moments: Sequence[_Candidate], collection: Collection, terms: _Terms) -> dict[int, int]:
    """The places, from 1, of the moments that a collection found, by their numbers."""
    ranked = []
    for number, moment in enumerate(moments):
        hits = moment.found_in(collection)
        if hits:
            ranked.append((_by_evidence(terms.evidence(hits), hits, moment), number))
    return {number: place for place, (_, number) in enumerate(sorted(ranked), start=1)}


def _by_evidence(
    evidence: float, hits: Sequence[ChannelHit], candidate: _Candidate
) -> tuple[float, list[tuple[int, int]], str]:
    """Most evidence first; then the better rank in the most important channel; then the id, to be the same always."""
    ranks = [(_importance(hit.channel)[1], hit.rank) for hit in hits]
    return -evidence, ranks, candidate.best.id


def _importance(channel: Channel) -> tuple[str, int]:
    """Channels of a collection in the order of `FIELDS_OF`."""
    return channel.collection, FIELDS_OF[channel.collection].index(channel.field)


def _hit(candidate: _Candidate, score: float, last: Mapping[Channel, float]) -> Hit:
    moment = _moment(candidate.members, last) if has_times(candidate.best) else None
    return Hit(candidate.best, score, candidate.found_by, moment)


def _leading(members: Sequence[Member], last: Mapping[Channel, float]) -> list[Member]:
    """The best, and those that one of its channels found nearly as well: where a player should start and stop. Of the
    shots around the one that is asked for, all are found in a small index, with no resemblance at all; and to some
    models any two pictures are as near as 0.7. So what counts is how far above the channel's last an entry is.
    """
    best, *others = members
    enough = {
        hit.channel: min(_AS_GOOD * hit.score, floor + _NEARLY * (hit.score - floor))
        for hit in best.found_by
        if hit.score > 0
        for floor in (max(0.0, last[hit.channel]),)
    }
    alike = [
        member for member in others if any(hit.score >= enough.get(hit.channel, math.inf) for hit in member.found_by)
    ]
    return [best, *alike]


def _moment(members: Sequence[Member], last: Mapping[Channel, float]) -> Moment:
    start_ms, end_ms = span_ms(member.entry for member in _leading(members, last))
    frames = [member.entry for member in members if member.entry.collection is Collection.FRAME]
    in_time = sorted(members, key=lambda member: (member.entry.start_ms, member.entry.end_ms, member.entry.id))
    return Moment(start_ms, end_ms, tuple(in_time), frames[0] if frames else None)
