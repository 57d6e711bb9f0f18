"""Step 5, fuse: the rankings of several channels become one.

Reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009) in two stages, because an entry lives in one
collection and can only be found by the channels of that one:

    1 within a collection   evidence of an entry = Σ over the channels of share / (k + rank in the channel)
    2 across collections    score of an entry    = weight of its collection / (k + place by evidence)

The paper fuses rankings of everything; a channel here returns its best `depth` entries. One that it does not return is
no worse than next: it counts as rank depth + 1, not as nothing. Otherwise the first of one channel would stand behind
whatever two channels find by chance at their ends, which in a small collection is most of it.

In stage 1 the spaces of a collection share alike, and channels of one space split the share of that space. So the
collection weighs the same however many channels it has, and a channel that is missing leaves its share to its siblings.
In stage 2 the best of each collection meet as equals. In a single stage they would not: an entry that two of three
channels find would score below the fiftieth entry of a collection whose one channel holds the whole weight, though
nothing says that it is worse.

Pure functions of ranks: cosines and BM25 are not comparable, and are passed on only to explain a hit.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from penstock.records import FIELDS_OF, Channel, ChannelHit, Collection, Entry, Found, Hit


def fuse(
    rankings: Mapping[Channel, Sequence[Found]],
    *,
    spaces: Mapping[Channel, str],
    weights: Mapping[Collection, float],
    k: int,
    depth: int,
    limit: int,
) -> list[Hit]:
    """The best entries of all rankings, best first. The order of `rankings` does not matter.

    Args:
        rankings: what each channel that answered found, best first, every entry at most once.
        spaces: the space that each of these channels compares in.
        weights: of collections; one that is not named weighs 1.
        k: the constant of reciprocal rank fusion: the larger, the less the first ranks stand out.
        depth: how many entries each channel was asked for.
        limit: how many hits at most.
    """
    by_collection: dict[Collection, dict[Channel, Sequence[Found]]] = defaultdict(dict)
    for channel in sorted(rankings, key=_importance):
        by_collection[channel.collection][channel] = rankings[channel]
    fused = []
    for collection, ranked in by_collection.items():
        weight = weights.get(collection, 1.0)
        for place, candidate in enumerate(_fuse_collection(ranked, spaces, k, depth)[:limit], start=1):
            fused.append((weight / (k + place), candidate))
    # Two collections of one weight tie at every place. The one whose channels agree more goes first; the rest of the
    # key only makes the order the same every time.
    fused.sort(key=lambda pair: (-pair[0], -pair[1].evidence, pair[1].entry.collection, pair[1].entry.id))
    return [Hit(candidate.entry, score, candidate.found_by) for score, candidate in fused[:limit]]


def shares(channels: Iterable[Channel], spaces: Mapping[Channel, str]) -> dict[Channel, float]:
    """What each channel of one collection counts for; together 1. Spaces share alike, and split theirs evenly."""
    channels_of: dict[str, list[Channel]] = defaultdict(list)
    for channel in channels:
        channels_of[spaces[channel]].append(channel)
    return {
        channel: 1.0 / (len(channels_of) * len(siblings)) for siblings in channels_of.values() for channel in siblings
    }


@dataclass(frozen=True, slots=True)
class _Candidate:
    """An entry while its collection is fused."""

    entry: Entry
    found_by: tuple[ChannelHit, ...]
    evidence: float


def _fuse_collection(
    rankings: Mapping[Channel, Sequence[Found]], spaces: Mapping[Channel, str], k: int, depth: int
) -> list[_Candidate]:
    """Stage 1: the entries of one collection by evidence. `rankings` are in the order of importance."""
    share_of = shares(rankings, spaces)
    entries: dict[str, Entry] = {}
    hits_of: dict[str, list[ChannelHit]] = defaultdict(list)
    for channel, ranking in rankings.items():
        for rank, found in enumerate(ranking, start=1):
            entries[found.entry.id] = found.entry
            hits_of[found.entry.id].append(ChannelHit(channel, rank, found.score))
    candidates = [
        _Candidate(entries[entry_id], tuple(hits), _evidence(hits, share_of, k, depth))
        for entry_id, hits in hits_of.items()
    ]
    return sorted(candidates, key=_by_evidence)


def _evidence(hits: Sequence[ChannelHit], share_of: Mapping[Channel, float], k: int, depth: int) -> float:
    """Summed without rounding in between, so that equal ranks in another order are equal evidence."""
    ranks = {hit.channel: hit.rank for hit in hits}
    return math.fsum(share / (k + ranks.get(channel, depth + 1)) for channel, share in share_of.items())


def _by_evidence(candidate: _Candidate) -> tuple[float, list[tuple[int, int]], str]:
    """Most evidence first; then the better rank in the most important channel; then the id, to be the same always."""
    ranks = [(_importance(hit.channel)[1], hit.rank) for hit in candidate.found_by]
    return -candidate.evidence, ranks, candidate.entry.id


def _importance(channel: Channel) -> tuple[str, int]:
    """Channels of a collection in the order of `FIELDS_OF`."""
    return channel.collection, FIELDS_OF[channel.collection].index(channel.field)
