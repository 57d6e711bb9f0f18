"""Scales: turn the scores of channels into values that can be added, and add them.

A scale of *evidence* (z-scores, log-odds) has no bounds: values of several spaces add up, and of two collections the
better one decides. On a scale *within a question* (min-max, raw scores) the result is a mean, as no value says more
than that an entry was among the better ones.

An entry that a channel did not return has a score below the lowest returned one, by an unknown amount. On a scale
of evidence it is taken to be one unit below. Measured on WordNet (nDCG@10, z-by-channel): 0 units below gives 62.8, one
gives 63.7, two give 63.7. It also decides what a rare word is worth that a single entry contains.

A lexical channel that returns fewer entries than it was searched for has returned all that share a word with the
question. Its list is a *bonus* for these entries and says nothing about the others: on scales of evidence they get
`BONUS_SHARE` of their distance from an entry that was not returned. With an equal share instead, the texts that share
no word fall behind the images of the same question: on the mixed set nDCG@10 is 25.2 and not 26.4, and 41.5 and not
43.1 if the texts contain the words of the questions.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from typing import Protocol, Self

import numpy as np

from penstock.config import Normalisation
from penstock.query.explanations import Combined
from penstock.query.fusion import normalise
from penstock.query.fusion.base import channel_weights
from penstock.query.fusion.calibration import Calibration
from penstock.query.fusion.normalise import Float64
from penstock.records import Channel, Collection

ABSENT_MARGIN = 1.0
BONUS_SHARE = 0.7


@dataclass(frozen=True, slots=True)
class ChannelValues:
    """The scores of one channel on a scale.

    Attributes:
        returned: float64[n], of the entries that the channel returned, in their order.
        absent: of an entry that it did not return, at most the lowest of the others.
    """

    returned: Float64
    absent: float


@dataclass(frozen=True, slots=True)
class ChannelShares:
    """Holds how much each channel of a collection counts.

    Attributes:
        weights: float64[channels], ≥ 0.
        spread: the standard deviation of the weighted sum of values that have a deviation of 1 each, are equal within
            a space and independent between spaces.
        bonuses: float64[channels], ≥ 0: the share of the value of a channel that is added to the sum.
    """

    weights: Float64
    spread: float
    bonuses: Float64

    @classmethod
    def of(
        cls,
        channels: Sequence[Channel],
        spaces: Mapping[Channel, str],
        factors: Mapping[Channel, float],
        *,
        silent: Set[Channel] = frozenset(),
        bonus: Set[Channel] = frozenset(),
    ) -> Self:
        """Returns equal shares for each space, and within it for each of its channels, times the channel's factor.

        Args:
            channels: of one collection.
            spaces: of the channels.
            factors: 1 where a channel is absent.
            silent: channels that have no share, and leave theirs to the others.
            bonus: channels that have no share either, and whose values are added as a bonus.
        """
        shares = channel_weights([channel for channel in channels if channel not in silent | bonus], spaces)
        weights = [shares.get(channel, 0.0) * factors.get(channel, 1.0) for channel in channels]
        of_space: dict[str, float] = defaultdict(float)
        for channel, weight in zip(channels, weights, strict=True):
            of_space[spaces[channel]] += weight
        bonuses = [BONUS_SHARE * factors.get(channel, 1.0) if channel in bonus else 0.0 for channel in channels]
        return cls(np.array(weights), math.hypot(*of_space.values()), np.array(bonuses))


class Scale(Protocol):
    """Brings scores to values and combines those of the channels of one collection."""

    @property
    def evidence(self) -> bool:
        """Returns whether the values are evidence, see the module."""

    @property
    def silence_counts(self) -> bool:
        """Returns whether an entry that no channel could have overlooked is evidence by being absent.

        If not, a channel that found nothing has no share, and one that found a few gives these a bonus.
        """

    @property
    def moments_combined(self) -> Combined:
        """Returns how `combine_moments` does it."""

    def reference(self, collection: Collection) -> float:
        """Returns the value that says nothing for or against an entry of a collection."""

    def values(self, channel: Channel, scores: Float64) -> ChannelValues:
        """Returns the values of scores float64[n], n ≥ 0, in descending order."""

    def combine(
        self, collection: Collection, channels: Sequence[Channel], values: Float64, shares: ChannelShares
    ) -> Float64:
        """Returns float64[n], one value for each entry.

        Args:
            collection: of the channels.
            channels: that answered, at least one.
            values: float64[channels, n].
            shares: how much each channel counts.
        """

    def combine_moments(self, collections: Sequence[Collection], scores: Float64) -> Float64:
        """Returns float64[n], one value for each moment.

        Args:
            collections: the timed ones that have entries.
            scores: float64[collections, n], what `combine` gives for the best entries of a moment in each; -inf if it
                has none there.
        """


class QuestionScale:
    """Normalises the scores of each channel among themselves: min-max, theoretical-min, z-score, robust or none.

    Args:
        method: one of these.
    """

    def __init__(self, method: Normalisation) -> None:
        self._method = method
        self.evidence = method in (Normalisation.Z_SCORE, Normalisation.ROBUST)
        self.silence_counts = False
        self.moments_combined = Combined.EITHER if self.evidence else Combined.MEAN

    def reference(self, collection: Collection) -> float:
        """See `Scale.reference`."""
        return 0.0

    def values(self, channel: Channel, scores: Float64) -> ChannelValues:
        """See `Scale.values`."""
        lowest = normalise.lowest_score(channel)
        returned = _QUESTION_SCALES[self._method](lowest)(scores)
        if self.evidence:
            return ChannelValues(returned, _below(returned))
        if self._method is Normalisation.MIN_MAX:
            return ChannelValues(returned, 0.0)
        absent = float(returned.min()) if returned.size else 0.0
        # A lexical channel that found an entry with any word would have returned it: the others score 0.
        return ChannelValues(returned, min(absent, 0.0) if lowest == 0 else absent)

    def combine(
        self, collection: Collection, channels: Sequence[Channel], values: Float64, shares: ChannelShares
    ) -> Float64:
        """See `Scale.combine`."""
        return (stouffer if self.evidence else mean)(values, shares)

    def combine_moments(self, collections: Sequence[Collection], scores: Float64) -> Float64:
        """See `Scale.combine_moments`."""
        return either(scores) if self.evidence else np.asarray(with_lowest(scores).mean(axis=0))


class StatisticsScale:
    """Normalises by what each channel returned for earlier questions: z-by-channel.

    Args:
        moments_of: returns mean and standard deviation of a channel's scores.
    """

    evidence = True
    silence_counts = False
    moments_combined = Combined.EITHER

    def __init__(self, moments_of: Callable[[Channel], tuple[float, float]]) -> None:
        self._moments_of = moments_of

    def reference(self, collection: Collection) -> float:
        """See `Scale.reference`."""
        return 0.0

    def values(self, channel: Channel, scores: Float64) -> ChannelValues:
        """See `Scale.values`."""
        returned = normalise.standardise(scores, *self._moments_of(channel))
        return ChannelValues(returned, _below(returned))

    def combine(
        self, collection: Collection, channels: Sequence[Channel], values: Float64, shares: ChannelShares
    ) -> Float64:
        """See `Scale.combine`."""
        return stouffer(values, shares)

    def combine_moments(self, collections: Sequence[Collection], scores: Float64) -> Float64:
        """See `Scale.combine_moments`."""
        return either(scores)


class LogOddsScale:
    """Normalises to log-odds by a calibration.

    Args:
        calibration: of every channel that it is used for.
    """

    evidence = True
    silence_counts = True
    moments_combined = Combined.EITHER

    def __init__(self, calibration: Calibration) -> None:
        self._calibration = calibration

    def reference(self, collection: Collection) -> float:
        """See `Scale.reference`."""
        return self._calibration.collections[collection].prior_log_odds

    def values(self, channel: Channel, scores: Float64) -> ChannelValues:
        """See `Scale.values`."""
        returned = self._calibration.log_odds(channel, scores)
        return ChannelValues(returned, self._calibration.absent_log_odds(channel, scores))

    def combine(
        self, collection: Collection, channels: Sequence[Channel], values: Float64, shares: ChannelShares
    ) -> Float64:
        """See `Scale.combine`. A channel that counts less than another one has its distance from the prior reduced."""
        prior = self._calibration.collections[collection].prior_log_odds
        relative = shares.weights / (shares.weights.max() or 1.0)
        tempered = prior + relative[:, np.newaxis] * (values - prior)
        return self._calibration.combine(collection, dict(zip(channels, tempered, strict=True)))

    def combine_moments(self, collections: Sequence[Collection], scores: Float64) -> Float64:
        """See `Scale.combine_moments`."""
        return either(scores)


def mean(values: Float64, shares: ChannelShares) -> Float64:
    """Returns the weighted mean of values float64[channels, n]: float64[n]; 0 if no channel counts."""
    total = float(shares.weights.sum())
    return shares.weights @ values / total if total > 0 else np.zeros(values.shape[1])


def stouffer(values: Float64, shares: ChannelShares) -> Float64:
    """Returns the weighted sum of z-scores float64[channels, n] at a deviation of 1 again (Stouffer, 1949): float64[n].

    A mean would pull collections with several spaces towards 0, and a sum would spread them more than others. Bonuses
    are added to it.
    """
    weights = shares.weights / shares.spread if shares.spread > 0 else shares.weights
    return (weights + shares.bonuses) @ values


def either(scores: Float64) -> Float64:
    """Returns float64[n], the evidence that either of float64[collections, n] is right: log(exp(first) + exp(second)).

    So a moment that is spoken and shown stands above one that is as good in one of them, and one that is not in a
    collection (audio has no frames) loses nothing by it.
    """
    return np.asarray(np.logaddexp.reduce(scores, axis=0))


def with_lowest(scores: Float64) -> Float64:
    """Returns float64[collections, n] with the lowest score of a collection where it has -inf."""
    lowest = np.where(np.isfinite(scores), scores, np.inf).min(axis=1, keepdims=True)
    return np.where(np.isfinite(scores), scores, lowest)


def _below(values: Float64) -> float:
    return float(values.min()) - ABSENT_MARGIN if values.size else 0.0


_QUESTION_SCALES: Mapping[Normalisation, Callable[[float], Callable[[Float64], Float64]]] = {
    Normalisation.MIN_MAX: lambda _: normalise.min_max,
    Normalisation.THEORETICAL_MIN: lambda lowest: partial(normalise.theoretical_min, lowest=lowest),
    Normalisation.Z_SCORE: lambda _: normalise.z_score,
    Normalisation.ROBUST: lambda _: normalise.robust,
    Normalisation.NONE: lambda _: lambda scores: scores,
}
