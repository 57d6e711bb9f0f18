"""Chooses the fusion of a query by its options and by what is known about the channels that answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np

from penstock.config import FirstPlaceRule, FusionMethod, Normalisation
from penstock.errors import QueryError
from penstock.query.fusion.base import Candidate, ExplainingFusion, Leader, MomentRules
from penstock.query.fusion.by_relevance import RelevanceFusion
from penstock.query.fusion.by_source import SourceWeightedFusion
from penstock.query.fusion.calibration import Calibration
from penstock.query.fusion.clicked import ClickedFusion
from penstock.query.fusion.early import EarlyScale, shared_space
from penstock.query.fusion.first_places import FirstPlaces
from penstock.query.fusion.pins import FusionPins
from penstock.query.fusion.rrf import ReciprocalRankFusion
from penstock.query.fusion.scales import LogOddsScale, QuestionScale, Scale, StatisticsScale
from penstock.query.fusion.statistics import ChannelStatistics, Spread, channel_name
from penstock.query.fusion.tables import CollectionTable
from penstock.query.fusion.weighted import WeightedFusion
from penstock.query.relevance import QuestionEvidence
from penstock.query.types import FuseOptions, Kind, Rankings
from penstock.records import Channel

_UNKNOWN = Spread(0.0, 0.0)


def _has_log_odds(fusion: ExplainingFusion) -> bool:
    """Returns whether the scores of a fusion are log-odds of the calibration, of all that it ranks."""
    return isinstance(fusion, RelevanceFusion) or (isinstance(fusion, WeightedFusion) and fusion.is_calibrated)


class FusionChooser:
    """Makes the fusion of one question.

    Args:
        statistics: of the channels, which include the scores of this question unless it has a condition.
        calibration: of the channels, valid for this index; None: there is none.
        first_places: chooses the kind of the first hit; None: a new one.
    """

    def __init__(
        self,
        statistics: ChannelStatistics,
        calibration: Calibration | None = None,
        first_places: FirstPlaces | None = None,
    ) -> None:
        self.statistics = statistics
        self.calibration = calibration
        self.first_places = first_places or FirstPlaces()

    def applicable(self, options: FuseOptions, rankings: Rankings) -> tuple[FuseOptions, str | None]:
        """Returns the options for these rankings, and a notice if a setting does not apply to them.

        Early fusion and log-odds need what not every question and every index has. A request that demands them is
        refused. A setting must not refuse every request that has no `fuse`: method calibrated takes its place.

        Raises:
            QueryError: the request demands what these channels do not have.
        """
        refusal = self._refusal(options, rankings)
        if refusal is None:
            return options, None
        if options.demanded:
            raise refusal
        setting = "query.fusion = early" if options.method is FusionMethod.EARLY else "query.normalise = log-odds"
        notice = f"The setting {setting} does not apply here, so method calibrated takes its place: {refusal}."
        return replace(options, method=FusionMethod.CALIBRATED), notice

    def choose(
        self,
        options: FuseOptions,
        rankings: Rankings,
        shares: Mapping[Kind, float] | None = None,
        pins: FusionPins | None = None,
        *,
        evidence: QuestionEvidence | None = None,
    ) -> ExplainingFusion:
        """Returns the fusion for the rankings of a question. Raises as `applicable` does.

        Args:
            options: of the query.
            rankings: of the question.
            shares: of the assets in the index, by kind; None: not known, or they say nothing about this question.
            pins: notes what the order depends on, or has it from an earlier page.
            evidence: of this question, if another step computes it, too.
        """
        pins = FusionPins() if pins is None else pins
        options, _ = self.applicable(options, rankings)
        leader = None if options.sources else self._leader(options, shares, pins)
        fusion = self._choose(options, rankings, leader, pins, evidence)
        if rankings.clicked and self.counts_clicks(options) and _has_log_odds(fusion):
            fusion = ClickedFusion(fusion, options.clicked)
        return SourceWeightedFusion(fusion, options) if options.sources else fusion

    def counts_clicks(self, options: FuseOptions) -> bool:
        """Returns whether what people chose counts: the calibration knows how much, and the request wants it."""
        calibrated = self.calibration is not None and self.calibration.clicked is not None
        return calibrated and options.method is FusionMethod.CALIBRATED and options.clicked > 0

    def _choose(
        self,
        options: FuseOptions,
        rankings: Rankings,
        leader: Leader | None,
        pins: FusionPins,
        evidence: QuestionEvidence | None,
    ) -> ExplainingFusion:
        match options.method:
            case FusionMethod.RRF:
                return ReciprocalRankFusion(options.weights, k=options.k)
            case FusionMethod.WEIGHTED:
                return WeightedFusion(options, self._scale(options.normalise, rankings, pins))
            case FusionMethod.EARLY:
                space = shared_space(rankings.spaces) or ""
                return WeightedFusion(options, EarlyScale(options.alpha, space, rankings.spaces))
            case FusionMethod.CALIBRATED:
                return self._calibrated(options, rankings, leader, pins, evidence)

    def _refusal(self, options: FuseOptions, rankings: Rankings) -> QueryError | None:
        """Returns why the options do not apply to these channels; None if they do."""
        if options.method is FusionMethod.EARLY and shared_space(rankings.spaces) is None:
            return QueryError(
                "method early mixes text and image in one space, and nothing that this query searches has both there: "
                "it takes a query in words, a profile whose sentence encoder and image encoder share a space, and "
                "videos",
                field="/fuse/method",
            )
        if options.method is not FusionMethod.WEIGHTED or options.normalise is not Normalisation.LOG_ODDS:
            return None
        missing = [str(channel) for channel in sorted(rankings.by_channel) if not self._covers(channel, rankings)]
        if not missing:
            return None
        return QueryError(
            f"normalise log-odds needs a calibration of each channel, and {', '.join(missing)} has none: "
            "`penstock train calibration` makes one, and method calibrated works without",
            field="/fuse/normalise",
        )

    def _scale(self, normalise: Normalisation, rankings: Rankings, pins: FusionPins) -> Scale:
        if normalise is Normalisation.LOG_ODDS and self.calibration is not None:
            return LogOddsScale(self.calibration)
        if normalise is Normalisation.Z_BY_CHANNEL:
            return self._by_statistics(rankings, pins)
        return QuestionScale(normalise)

    def _calibrated(
        self,
        options: FuseOptions,
        rankings: Rankings,
        leader: Leader | None,
        pins: FusionPins,
        evidence: QuestionEvidence | None,
    ) -> ExplainingFusion:
        """Returns the fusion that needs the most of what is calibrated.

        1. by relevance: entries of several collections, each with relevance, by calibrated channels alone
        2. by log-odds: every channel is calibrated, and one collection has entries, or the words are not known
        3. z-by-channel, with log-odds within the collections that are calibrated
        """
        calibrated = {channel for channel in rankings.by_channel if self._covers(channel, rankings)}
        returned = {channel for channel, ranking in rankings.by_channel.items() if ranking}
        collections = {channel.collection for channel in returned}
        if (
            self.calibration is not None
            and rankings.text is not None
            and len(collections) > 1
            and returned <= calibrated
        ):
            maps = [self.calibration.collections[collection].relevance for collection in collections]
            if None not in maps:
                if evidence is not None and evidence.text != rankings.text:
                    evidence = None  # other words are searched for than those of the request
                return RelevanceFusion(options, self.calibration, rankings.text, leader, evidence=evidence)
        log_odds = None if self.calibration is None else LogOddsScale(self.calibration)
        if log_odds is not None and calibrated.issuperset(rankings.by_channel):
            return WeightedFusion(options, log_odds)
        by_statistics = self._by_statistics(rankings, pins)

        def within(table: CollectionTable) -> Scale:
            return log_odds if log_odds is not None and calibrated.issuperset(table.channels) else by_statistics

        return WeightedFusion(options, by_statistics, within)

    def _leader(self, options: FuseOptions, shares: Mapping[Kind, float] | None, pins: FusionPins) -> Leader | None:
        """Returns what chooses the first kind by shares; None where relevance alone decides, or weights of kinds do."""
        weighted = any(weight != 1.0 for weight in options.weights.values())
        if shares is None or weighted or options.first_places is FirstPlaceRule.RELEVANCE:
            return None
        return pins.leader(partial(self.first_places.choose, shares=shares) if shares else None)

    def _covers(self, channel: Channel, rankings: Rankings) -> bool:
        """Returns whether the calibration, which is fitted to questions in words, holds for this question."""
        return self.calibration is not None and rankings.in_words(channel) and self.calibration.covers(channel)

    def _by_statistics(self, rankings: Rankings, pins: FusionPins) -> StatisticsScale:
        def current(channel: Channel) -> Spread:
            prior = None
            if self.calibration is not None and self._covers(channel, rankings):
                calibrated = self.calibration.channels[channel]
                prior = Spread(calibrated.score_mean, calibrated.score_deviation)
            spread = self.statistics.spread(channel, rankings.encoders.get(channel), prior)
            if spread == _UNKNOWN and (ranking := rankings.by_channel[channel]):
                scores = np.array([scored.score for scored in ranking])
                return Spread(float(scores.mean()), float(scores.std()))
            return spread

        def moments_of(channel: Channel) -> tuple[float, float]:
            name = channel_name(channel, rankings.encoders.get(channel))
            spread = pins.spread(name, lambda: current(channel))
            return spread.mean, spread.deviation

        return StatisticsScale(moments_of)


class RunningFusion:
    """A `Fusion` that counts the scores of each question before it ranks it, as a query plane does.

    Args:
        chooser: makes the fusion of each question, and holds the statistics.
        options: of all questions.
        depth: how many entries of each channel are counted.
        shares: as in `FusionChooser.choose`.
    """

    def __init__(
        self,
        chooser: FusionChooser,
        options: FuseOptions | None = None,
        *,
        depth: int = 50,
        shares: Mapping[Kind, float] | None = None,
    ) -> None:
        self._chooser = chooser
        self._options = options or FuseOptions()
        self._depth = depth
        self._shares = shares

    def rank(self, rankings: Rankings, rules: MomentRules, limit: int) -> list[tuple[float, Candidate]]:
        """See `Fusion.rank`."""
        self._chooser.statistics.observe(rankings, self._depth)
        return self._chooser.choose(self._options, rankings, self._shares).rank(rankings, rules, limit)
