"""Explains hits: the parts of their scores and of their relevance, and what moved them.

Nothing here decides on an order. If the request has `explain`, parts are computed again from the rankings for the hits
of one page, and tests compare their sums with the scores and the relevance that the steps gave.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from penstock.query.explanations import HitExplanation
from penstock.query.fusion.calibration import Calibration
from penstock.query.fusion.parts import CollectionParts, members_of
from penstock.query.fusion.scales import ChannelShares, LogOddsScale
from penstock.query.relevance import calibrated_tables, evidence_of_tables
from penstock.query.stages import HitStages, StagedHits
from penstock.query.types import Hit, Rankings
from penstock.records import Collection


@dataclass(frozen=True, slots=True)
class HitOrders:
    """The orders that hits had: ids of entries, best first.

    Attributes:
        fused: by the fusion.
        reranked: after reranking; None: nothing was reranked.
        final: after all steps.
    """

    fused: Sequence[str]
    reranked: Sequence[str] | None
    final: Sequence[str]


def ids_of(hits: Sequence[Hit]) -> list[str]:
    """Returns the ids of the best entries of hits."""
    return [hit.entry.id for hit in hits]


def explain_hits(
    hits: Sequence[Hit], staged: StagedHits, stages: HitStages, orders: HitOrders, calibration: Calibration | None
) -> list[Hit]:
    """Returns the hits of a page with their explanations.

    Args:
        hits: of the page.
        staged: all hits, as the stages returned them.
        stages: that ranked them.
        orders: of all hits.
        calibration: by which relevance was estimated.
    """
    composed = {hit.entry.id: hit for hit in staged.hits}
    fused = [composed[hit.entry.id] for hit in hits]
    fused_rank, final_rank = _ranks(orders.fused), _ranks(orders.final)
    reranked_rank = None if orders.reranked is None else _ranks(orders.reranked)
    parts = stages.explain(fused)
    relevance = _RelevanceParts(stages, staged.relevances, calibration)
    return [
        replace(
            hit,
            explanation=HitExplanation(
                score_parts=parts[hit.entry.id],
                fused_score=before.score,
                fused_rank=fused_rank[hit.entry.id],
                # A deeper search adds hits after those that were reranked, which keep their places.
                reranked_rank=None if reranked_rank is None else reranked_rank.get(hit.entry.id),
                rank=final_rank[hit.entry.id],
                relevance_parts=relevance.of(before),
            ),
        )
        for hit, before in zip(hits, fused, strict=True)
    ]


def _ranks(ids: Sequence[str]) -> dict[str, int]:
    return {entry_id: rank for rank, entry_id in enumerate(ids, start=1)}


class _RelevanceParts:
    """The parts of the relevance of hits; see `query.relevance` for what they are."""

    def __init__(self, stages: HitStages, relevances: Mapping[str, float], calibration: Calibration | None) -> None:
        self._stages = stages
        self._relevances = relevances
        self._calibration = calibration
        self._takers: dict[int, dict[Collection, CollectionParts]] = {}
        self._features: dict[Collection, Mapping[str, float]] = {}
        if calibration is not None and relevances:
            first, text = stages.rankings[0], stages.text or ""
            evidence = evidence_of_tables(calibrated_tables(first, calibration), first, text, calibration)
            for collection, of_question in evidence.items():
                if (relevance := calibration.collections[collection].relevance) is not None:
                    weighted = zip(of_question.features._fields, relevance.weights, of_question.features, strict=True)
                    self._features[collection] = {name: weight * value for name, weight, value in weighted}

    def of(self, hit: Hit) -> dict[str, float] | None:
        """Returns what adds up to the log-odds of the relevance of a hit; None if that is not known."""
        known = [member for member in members_of(hit) if member.entry.id in self._relevances]
        if self._calibration is None or not known:
            return None
        best = max(known, key=lambda member: self._relevances[member.entry.id])
        collection = best.entry.collection
        if collection not in self._calibration.collections:  # people chose it, and no channel is calibrated there
            return None
        relevance = self._calibration.collections[collection].relevance
        for number, rankings in enumerate(self._stages.rankings):
            taker = self._of_rankings(number, rankings, self._calibration).get(collection)
            value = None if taker is None else taker.of([best])
            if value is None or relevance is None:
                continue
            parts = {str(part.channel): relevance.gain * part.part for part in value.channels}
            parts |= {"prior": relevance.gain * value.constant, "intercept": relevance.intercept}
            parts |= self._features.get(collection, {})
            if number:  # a deeper search adds nothing above the last hit of the first one
                parts["cap"] = _logit(self._relevances[best.entry.id]) - sum(parts.values())
            elif hit.clicked is not None:
                parts["clicked"] = _logit(self._relevances[best.entry.id]) - sum(parts.values())
            return parts
        return None

    def _of_rankings(
        self, number: int, rankings: Rankings, calibration: Calibration
    ) -> dict[Collection, CollectionParts]:
        if number not in self._takers:
            scale = LogOddsScale(calibration)
            self._takers[number] = {
                table.collection: CollectionParts(
                    table,
                    scale,
                    replace(
                        ChannelShares.of(table.channels, rankings.spaces, {}), weights=np.ones(len(table.channels))
                    ),
                    table.values(scale),
                )
                for table in calibrated_tables(rankings, calibration)
                if table.entries
            }
        return self._takers[number]


def _logit(probability: float) -> float:
    if not 0 < probability < 1:
        return math.copysign(math.inf, probability - 0.5)
    return math.log(probability / (1 - probability))
