"""The interface of fusion, and the candidates that it ranks.

`query/pipeline.py` calls it once a search. `fusion/choose.py` chooses the implementation by the options of the query:
`weighted.py` adds normalised scores, `rrf.py` adds reciprocal ranks, and `early.py` mixes text and image in one space.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from penstock.query.explanations import ScoreParts
from penstock.query.types import ChannelHit, Hit, Kind, MomentMember, Rankings
from penstock.records import FIELDS_OF, TIMED_COLLECTIONS, Channel, Collection, Entry

MOMENT: Kind = "moment"

Leader: TypeAlias = Callable[[Mapping[Kind, float]], Kind]
"""Returns the kind whose best hit is first, given the value of the best hit of each kind."""


@dataclass(frozen=True, slots=True)
class MomentRules:
    """The limits of a moment.

    Attributes:
        max_gap_ms: maximum time between an entry and the one that its moment grew around, milliseconds.
        max_ms: maximum length of a moment, milliseconds.
    """

    max_gap_ms: int
    max_ms: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """An entry, or the entries of a moment, that may become a hit.

    Attributes:
        members: best first.
        found_by: the best rank that each channel gave a member, in the order of `channel_order`.
        score: from within its collection, before kinds are compared; of a moment, that of its best member.
        promoted: whether it is first for the share of its kind, see `fusion.first_places`.
    """

    members: tuple[MomentMember, ...]
    found_by: tuple[ChannelHit, ...]
    score: float
    promoted: bool = False

    @property
    def best(self) -> Entry:
        """The best entry."""
        return self.members[0].entry

    @property
    def collections(self) -> set[Collection]:
        """The collections of its entries."""
        return {member.entry.collection for member in self.members}

    def found_in(self, collection: Collection) -> list[ChannelHit]:
        """Returns the hits of the channels of one collection."""
        return [hit for hit in self.found_by if hit.channel.collection is collection]


class Fusion(Protocol):
    """Combines the rankings of several channels into one list of hits, with entries close in time as moments.

    Implementations are pure: the same rankings in any order of channels give the same result.
    """

    def rank(self, rankings: Rankings, rules: MomentRules, limit: int) -> list[tuple[float, Candidate]]:
        """Returns the best candidates with their final scores, best first.

        An entry that a channel returned is part of one candidate: alone, or in a moment with others of timed
        collections. The scores only order the candidates of one search.

        Args:
            rankings: of the channels that answered.
            rules: the limits of a moment.
            limit: maximum number of candidates. Those of a smaller limit are the first of a larger one.
        """


class ExplainingFusion(Fusion, Protocol):
    """A fusion that says what the score of a hit consists of."""

    def explain(self, rankings: Rankings, hits: Sequence[Hit]) -> list[ScoreParts]:
        """Returns the parts of the score of each hit.

        Args:
            rankings: by which `rank` gave the hits.
            hits: as they were composed.
        """


def kind_of(collection: Collection) -> Kind:
    """Returns the kind of the hits that entries of a collection become."""
    return MOMENT if collection in TIMED_COLLECTIONS else collection.value


def channel_order(channel: Channel) -> tuple[str, int]:
    """Returns a sort key: by collection, then in the order of `FIELDS_OF`, the most important field first."""
    return channel.collection, FIELDS_OF[channel.collection].index(channel.field)


def merge(candidates: Sequence[Candidate]) -> Candidate:
    """Returns one candidate with the members of all, which are best first."""
    if len(candidates) == 1:
        return candidates[0]
    best: dict[Channel, ChannelHit] = {}
    for hit in (hit for candidate in candidates for hit in candidate.found_by):
        if hit.channel not in best or hit.rank < best[hit.channel].rank:
            best[hit.channel] = hit
    members = tuple(member for candidate in candidates for member in candidate.members)
    found_by = tuple(best[channel] for channel in sorted(best, key=channel_order))
    return Candidate(members, found_by, candidates[0].score)


def channel_weights(channels: Sequence[Channel], spaces: Mapping[Channel, str]) -> dict[Channel, float]:
    """Returns the weights of the channels of one collection, whose sum is 1.

    The spaces have equal weights, and the channels of one space share its weight equally.
    """
    channels_of: dict[str, list[Channel]] = defaultdict(list)
    for channel in channels:
        channels_of[spaces[channel]].append(channel)
    return {channel: 1.0 / (len(channels_of) * len(channels_of[spaces[channel]])) for channel in channels}
