"""Fusion by relevance: kinds are compared by the probability that a hit answers the question.

Log-odds of a calibration order the entries of one collection. Between collections they mislead: how likely the best
image of a question is right depends on the question, and not on its score alone. Relevance has features of the question
for each collection (`query.relevance`), and keeps the order within it. nDCG@10 on `mixed` of the profiles shelf and
reference is 32.7 and 27.0 by relevance, 27.1 and 22.5 by log-odds, and 31.8 and 25.8 by z-by-channel.

Channels without a calibration that found nothing are left out: no words were read in the images, and that says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from penstock.query.explanations import ScoreParts
from penstock.query.fusion.base import Candidate, Leader, MomentRules
from penstock.query.fusion.calibration import Calibration
from penstock.query.fusion.normalise import Float64
from penstock.query.fusion.scales import ChannelShares, LogOddsScale
from penstock.query.fusion.tables import CollectionTable
from penstock.query.fusion.weighted import WeightedFusion
from penstock.query.relevance import QuestionEvidence
from penstock.query.types import FuseOptions, Hit, Rankings
from penstock.records import Channel, Collection


class RelevanceScale(LogOddsScale):
    """A `Scale` of the log-odds of relevance for one question.

    Args:
        calibration: of every collection that it is used for, with its relevance.
        shifts: of each collection, what the features of the question add.
    """

    def __init__(self, calibration: Calibration, shifts: Mapping[Collection, float]) -> None:
        super().__init__(calibration)
        self._shifts = shifts

    def combine(
        self, collection: Collection, channels: Sequence[Channel], values: Float64, shares: ChannelShares
    ) -> Float64:
        """See `Scale.combine`."""
        relevance = self._calibration.collections[collection].relevance
        if relevance is None:
            raise ValueError(f"the relevance of {collection} is not calibrated")
        log_odds = super().combine(collection, channels, values, shares)
        return np.asarray(relevance.gain * log_odds + self._shifts.get(collection, relevance.intercept))


class RelevanceFusion:
    """A `Fusion` by relevance.

    Args:
        options: weights of collections and channels.
        calibration: with the relevance of all collections that returned entries.
        text: of the question.
        leader: chooses the kind of the first candidate by relevance; None: the most relevant one is first.
        evidence: of this question, if another step computes it, too.
    """

    def __init__(
        self,
        options: FuseOptions,
        calibration: Calibration,
        text: str,
        leader: Leader | None = None,
        *,
        evidence: QuestionEvidence | None = None,
    ) -> None:
        self._options = options
        self._calibration = calibration
        self._leader = leader
        self._evidence = QuestionEvidence(text, calibration) if evidence is None else evidence

    def rank(self, rankings: Rankings, rules: MomentRules, limit: int) -> list[tuple[float, Candidate]]:
        """See `Fusion.rank`."""
        tables, of_covered, fusion = self._by_tables(rankings)
        leader = None if self._leader is None else _by_log_odds(self._leader)
        return fusion.rank_tables(tables, of_covered, rules, limit, leader)

    def explain(self, rankings: Rankings, hits: Sequence[Hit]) -> list[ScoreParts]:
        """See `ExplainingFusion.explain`. The score is the log-odds of relevance, with the weight of the collection."""
        tables, of_covered, fusion = self._by_tables(rankings)
        return fusion.explain_tables(tables, of_covered, hits)

    def _by_tables(self, rankings: Rankings) -> tuple[list[CollectionTable], Rankings, WeightedFusion]:
        """Returns the tables and rankings of the calibrated channels, and the fusion of this question."""
        calibration = self._calibration
        tables, by_collection = self._evidence.of(rankings)
        channels = {channel for table in tables for channel in table.channels}
        covered = {channel: ranking for channel, ranking in rankings.by_channel.items() if channel in channels}
        of_covered = replace(rankings, by_channel=covered)
        shifts = {
            collection: relevance.shift(evidence.features)
            for collection, evidence in by_collection.items()
            if (relevance := calibration.collections[collection].relevance) is not None
        }
        return tables, of_covered, WeightedFusion(self._options, RelevanceScale(calibration, shifts))


def _by_log_odds(leader: Leader) -> Leader:
    return lambda log_odds: leader({kind: 1 / (1 + math.exp(-max(value, -500.0))) for kind, value in log_odds.items()})
