"""Ranks hits from rankings of channels, in the steps of `QueryPipeline`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from penstock.query.fusion.base import Fusion, MomentRules
from penstock.query.fusion.moments import compose_hit
from penstock.query.fusion.rrf import ReciprocalRankFusion
from penstock.query.types import Hit, Rankings
from penstock.records import Channel, Collection, ScoredEntry

K = 10
DEPTH = 50


def rank_hits(
    by_channel: Mapping[Channel, Sequence[ScoredEntry]],
    *,
    spaces: Mapping[Channel, str],
    weights: Mapping[Collection, float] | None = None,
    moments: MomentRules,
    limit: int = 1_000,
    fusion: Fusion | None = None,
) -> list[Hit]:
    """Returns hits, best first, of channels that were each searched for `DEPTH` entries; by ranks without a fusion."""
    fusion = fusion or ReciprocalRankFusion(weights or {}, k=K)
    rankings = Rankings(by_channel, {}, dict.fromkeys(Collection, DEPTH), spaces)
    return [compose_hit(candidate, score, rankings) for score, candidate in fusion.rank(rankings, moments, limit)]
