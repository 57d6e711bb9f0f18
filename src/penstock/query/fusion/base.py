"""The interface of fusion, and the candidates that pass between fusion and the grouping of moments.

`query/pipeline.py` calls it: rank entries, group moments, rank candidates. `fusion/rrf.py` is the one in use;
another one is passed to the pipeline in `serve/app.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from penstock.query.types import ChannelHit, MomentMember, Rankings
from penstock.records import FIELDS_OF, Channel, Collection, Entry


@dataclass(frozen=True, slots=True)
class Candidate:
    """An entry, or the entries of a moment, that may become a hit.

    Attributes:
        members: best first.
        found_by: the best rank that each channel gave a member, in the order of `channel_order`.
        score: from `Fusion.rank_entries`, comparable within a collection; of a moment, that of its best member.
    """

    members: tuple[MomentMember, ...]
    found_by: tuple[ChannelHit, ...]
    score: float

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
    """Combines the rankings of several channels into one, before and after entries are grouped into moments.

    Implementations are pure: the same rankings in any order of channels give the same result.
    """

    def rank_entries(self, rankings: Rankings) -> list[Candidate]:
        """Returns a candidate for every entry that a channel returned.

        Entries of one collection are in the order of their rank. Entries of timed collections are, among themselves, in
        the order in which moments grow around them.
        """

    def rank_candidates(self, candidates: Sequence[Candidate], rankings: Rankings) -> list[tuple[float, Candidate]]:
        """Returns all candidates with their final scores, best first.

        Args:
            candidates: as `rank_entries` returned them, those of timed collections grouped into moments.
            rankings: those that were given to `rank_entries`.
        """


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
