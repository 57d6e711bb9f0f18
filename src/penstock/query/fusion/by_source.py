"""Weighs candidates by the named sources that their entries belong to, after any other fusion.

The weight of a source acts as that of a collection does: it multiplies odds where scores are evidence, as its logarithm
is added to z-scores and log-odds, and else the score itself. An entry of several sources has the product of their
weights, and a moment that of its best entry.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from penstock.config import FusionMethod, Normalisation
from penstock.query.explanations import ScoreParts
from penstock.query.fusion.base import Candidate, ExplainingFusion, MomentRules
from penstock.query.fusion.weighted import LEAST_LOG_WEIGHT
from penstock.query.options import SourceWeight
from penstock.query.types import FuseOptions, Hit, Rankings
from penstock.records import Entry
from penstock.store.filter_semantics import matches

_EVIDENCE = {Normalisation.Z_SCORE, Normalisation.ROBUST, Normalisation.Z_BY_CHANNEL, Normalisation.LOG_ODDS}


class SourceWeightedFusion:
    """A `Fusion` whose candidates are weighed by their sources.

    Args:
        fusion: ranks the candidates.
        options: with the sources, and the method of this fusion.
    """

    def __init__(self, fusion: ExplainingFusion, options: FuseOptions) -> None:
        self._fusion = fusion
        self._sources = options.sources
        self._evidence = options.method is FusionMethod.CALIBRATED or (
            options.method is FusionMethod.WEIGHTED and options.normalise in _EVIDENCE
        )

    def rank(self, rankings: Rankings, rules: MomentRules, limit: int) -> list[tuple[float, Candidate]]:
        """See `Fusion.rank`. All candidates are composed, as the last one may become the first."""
        entries = sum(len(ranking) for ranking in rankings.by_channel.values()) + len(rankings.clicked)
        ranked = self._fusion.rank(rankings, rules, entries)
        weighed = [
            (_weighed(score, weight_of(candidate.best, self._sources), evidence=self._evidence), candidate)
            for score, candidate in ranked
        ]
        weighed.sort(key=lambda scored: -scored[0])  # stable: equal scores keep their order
        return weighed[:limit]

    def explain(self, rankings: Rankings, hits: Sequence[Hit]) -> list[ScoreParts]:
        """See `ExplainingFusion.explain`. The weighted values of collections have the weights of sources as well."""
        explained = self._fusion.explain(rankings, hits)
        return [self._with_sources(parts, hit.entry) for parts, hit in zip(explained, hits, strict=True)]

    def _with_sources(self, parts: ScoreParts, entry: Entry) -> ScoreParts:
        weight = weight_of(entry, self._sources)
        return replace(
            parts,
            collections=tuple(
                replace(part, weighted=_weighed(part.weighted, weight, evidence=self._evidence))
                for part in parts.collections
            ),
        )


def weight_of(entry: Entry, sources: Sequence[SourceWeight]) -> float:
    """Returns the product of the weights of the sources of an entry."""
    return math.prod(source.weight for source in sources if matches(source.condition, entry))


def _weighed(score: float, weight: float, *, evidence: bool) -> float:
    if not evidence:
        return score * weight
    return score + (math.log(weight) if weight > 0 else LEAST_LOG_WEIGHT)
