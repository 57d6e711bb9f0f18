"""Step 5 in stages: deeper searches add hits to those of the first search, and change none of them.

The first search of every channel has the same depth, `query.candidates`, whatever the limit of the request: what it
returns decides the order and the relevance of the first hits. If these are fewer than the limit, the channels are
searched deeper, and what only a deeper search finds comes after them. So the hits of a smaller limit are the first of a
larger one, and neither their order nor their relevance depends on it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from penstock.query.explanations import ScoreParts
from penstock.query.fusion.base import Candidate, MomentRules
from penstock.query.fusion.choose import FusionChooser
from penstock.query.fusion.clicked import with_clicked_relevance
from penstock.query.fusion.moments import compose_hit
from penstock.query.fusion.pins import FusionPins
from penstock.query.group import entry_ids, group_hits, moment_rules
from penstock.query.relevance import QuestionEvidence, relevance_of_entries
from penstock.query.retrieve import Retrieval
from penstock.query.trace import Trace
from penstock.query.types import GroupBy, Hit, Kind, Query, Rankings
from penstock.records import Collection


@dataclass(frozen=True, slots=True)
class StagedHits:
    """The hits of all searches so far.

    Attributes:
        hits: best first.
        relevances: of the entries that were found, by id, see `relevance_of_entries`.
        first: how many of the hits the first search gave, for any limit.
    """

    hits: list[Hit]
    relevances: Mapping[str, float]
    first: int


class HitStages:
    """Makes the hits of one query from its rankings.

    Args:
        fusions: makes the fusion of the query.
        rules: of moments.
        query: with the options of its fusion, which apply to its channels.
        pins: note what the order depends on, or have it from an earlier page.
        shares: of each kind in the index, which choose the first hit; None: they do not.
    """

    def __init__(
        self,
        fusions: FusionChooser,
        rules: MomentRules,
        query: Query,
        pins: FusionPins,
        shares: Mapping[Kind, float] | None,
    ) -> None:
        self._fusions = fusions
        self._rules = moment_rules(query.hits.group_by, rules)
        self._query = query
        self._pins = pins
        self._shares = shares
        calibration = fusions.calibration
        self._evidence = None if calibration is None else QuestionEvidence(query.text, calibration)
        self._ranked: list[tuple[Rankings, frozenset[str]]] = []

    @property
    def rankings(self) -> list[Rankings]:
        """Returns the rankings of the first search and of each deeper one."""
        return [rankings for rankings, _ in self._ranked]

    @property
    def text(self) -> str | None:
        """Returns the words of the query."""
        return self._query.text

    def explain(self, hits: Sequence[Hit]) -> dict[str, ScoreParts]:
        """Returns the parts of the score of each hit, by the id of its entry."""
        parts: dict[str, ScoreParts] = {}
        for rankings, ids in self._ranked:
            of_search = [hit for hit in hits if hit.entry.id in ids]
            fusion = self._fusions.choose(self._query.fuse, rankings, None, self._pins, evidence=self._evidence)
            explained = fusion.explain(rankings, of_search) if of_search else ()
            parts |= {hit.entry.id: part for hit, part in zip(of_search, explained, strict=True)}
        return parts

    def first(self, rankings: Rankings, count: int) -> StagedHits:
        """Returns the best `count` hits of the first search, or all that there are."""
        limit = _entries(rankings) if self._may_shrink(rankings) else count
        # On a later page the pins decide, whether shares are known by now or not.
        ranked = self._rank(rankings, limit, (self._shares or {}) if self._pins.noted else self._shares)
        hits = [compose_hit(candidate, score, rankings) for score, candidate in ranked]
        hits = group_hits(hits, self._query.hits.group_by)[:count]
        if self._counts_clicks(rankings):
            hits = self._with_choices(hits, rankings)
        self._ranked.append((rankings, frozenset(hit.entry.id for hit in hits)))
        relevances = self._relevances(rankings)
        return StagedHits(hits, relevances, len(hits))

    async def deepen(self, staged: StagedHits, retrieval: Retrieval, count: int, trace: Trace) -> StagedHits:
        """Adds hits of deeper searches until there are `count`, as where many entries become few moments.

        Args:
            staged: of the first search, fewer than `count`.
            retrieval: whose first search it was.
            count: of hits, in all.
            trace: to which the searches are added.
        """
        first = retrieval.rankings
        while len(staged.hits) < count and retrieval.has_more(count):
            deeper = await retrieval.search_deeper()
            trace.end("search")
            # In a thread, as ranking 800 entries of each of six channels takes 13 to 18 ms of computing time.
            staged = await asyncio.to_thread(self._with_deeper, staged, first, deeper)
        return staged

    def _with_deeper(self, staged: StagedHits, first: Rankings, deeper: Rankings) -> StagedHits:
        further = self._relevances(first, deeper)
        hits = self.add_deeper(staged.hits, deeper)
        return replace(staged, hits=hits, relevances={**further, **staged.relevances})

    def add_deeper(self, hits: list[Hit], rankings: Rankings) -> list[Hit]:
        """Returns the hits, and after them one for each candidate that has none of their entries.

        A candidate with one of their entries is a moment that the hits show already, perhaps with fewer members.
        """
        known = {id_ for hit in hits for id_ in entry_ids(hit)}
        further, lowest = [], hits[-1].score if hits else float("inf")
        for score, candidate in self._rank(rankings, _entries(rankings)):
            if known.isdisjoint(member.entry.id for member in candidate.members):
                lowest = min(lowest, score)
                further.append(compose_hit(candidate, lowest, rankings))
        further = group_hits(further, self._query.hits.group_by, known=hits)
        self._ranked.append((rankings, frozenset(hit.entry.id for hit in further)))
        return [*hits, *further]

    def _relevances(self, first: Rankings, deeper: Rankings | None = None) -> dict[str, float]:
        text, calibration = self._query.text, self._fusions.calibration
        relevances = relevance_of_entries(first, text, calibration, deeper=deeper, computed=self._evidence)
        return with_clicked_relevance(relevances, first.clicked) if self._counts_clicks(first) else relevances

    def _may_shrink(self, rankings: Rankings) -> bool:
        """Returns whether hits are grouped, so that more entries are ranked than hits are wanted."""
        if self._query.hits.group_by is not GroupBy.MOMENT:
            return self._query.hits.group_by is GroupBy.ASSET
        return any(ranking for channel, ranking in rankings.by_channel.items() if channel.collection is Collection.PAGE)

    def _counts_clicks(self, rankings: Rankings) -> bool:
        return bool(rankings.clicked) and self._fusions.counts_clicks(self._query.fuse)

    def _with_choices(self, hits: Sequence[Hit], rankings: Rankings) -> list[Hit]:
        """Returns the hits, those that people chose with the probability that follows from it."""
        chosen = {choice.entry.id: 1 / (1 + math.exp(-choice.log_odds)) for choice in rankings.clicked}
        return [
            replace(hit, clicked=max((chosen[id_] for id_ in entry_ids(hit) if id_ in chosen), default=None))
            for hit in hits
        ]

    def _rank(
        self, rankings: Rankings, limit: int, shares: Mapping[Kind, float] | None = None
    ) -> list[tuple[float, Candidate]]:
        return self._fusions.choose(self._query.fuse, rankings, shares, self._pins, evidence=self._evidence).rank(
            rankings, self._rules, limit
        )


def _entries(rankings: Rankings) -> int:
    return sum(len(ranking) for ranking in rankings.by_channel.values()) + len(rankings.clicked)
