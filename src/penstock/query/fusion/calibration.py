"""Calibrations: for each channel, how likely an entry is right given the score that the channel gave it.

Scores of two channels cannot be compared; probabilities can. `penstock train calibration` fits a calibration on
questions with labels, and writes it as JSON. It holds only as long as the scores mean the same: it records the
encoders, the index types and the analyzer that produced them, and `Calibration.matches` refuses others.

The terms, for an entry with scores s1 and s2 in the two channels of its collection:

    log-odds of a channel        LO1 = logit P(right | s1), from a logistic map or, with many labels, an isotonic one
    log-odds of a collection     prior + gain · ((LO1 - prior) + (LO2 - prior)) + offset

The prior is the log-odds of a candidate of the collection before any score is known. The channels of a collection agree
more often than independent evidence would. `gain` and `offset` correct the sum for that, so that entries of collections
with one and with three channels can be compared.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError

from penstock.errors import ConfigError
from penstock.records import FIELDS_OF, Channel, Collection, Field

Float64: TypeAlias = npt.NDArray[np.float64]

# The distance of an entry that a channel did not return to the last one that it did. nDCG@10 on two sets of texts, for
# 0, 0.5, 1, 2 and 3: 61.1, 61.8, 62.0, 61.9, 61.5 and 85.3, 85.3, 85.3, 85.1, 84.7. The share of right ones among all
# entries that a channel did not return, whatever its last score, gives 61.4 and 85.2.
ABSENT_MARGIN = 1.0
# Which calibration serves a collection without labelled questions.
BORROWED = {Collection.SPEECH: Collection.TEXT, Collection.FRAME: Collection.IMAGE, Collection.PAGE: Collection.IMAGE}


@dataclass(frozen=True, slots=True)
class LogisticMap:
    """Log-odds as a linear function of the score (Platt, 1999). The slope is above 0: order is kept."""

    slope: float
    intercept: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.intercept) and 0 < self.slope < math.inf):
            raise ValueError(f"slope {self.slope} is not above 0, or intercept {self.intercept} is not a number")

    def log_odds(self, scores: Float64) -> Float64:
        """Returns float64[n] for scores float64[n]."""
        return self.slope * scores + self.intercept


@dataclass(frozen=True, slots=True)
class IsotonicMap:
    """Log-odds interpolated between knots, and a line beyond the first and last of them. Both columns increase.

    Attributes:
        scores: at which the knots are.
        values: log-odds at the knots.
        slope: of the lines beyond the knots, above 0.
    """

    scores: tuple[float, ...]
    values: tuple[float, ...]
    slope: float

    def __post_init__(self) -> None:
        if len(self.scores) != len(self.values) or not self.scores:
            raise ValueError("an isotonic map needs as many values as scores, and at least one")
        for column in (self.scores, self.values):
            if any(not low < high for low, high in itertools.pairwise(column)):
                raise ValueError("the scores and the values of an isotonic map must increase")
        if not 0 < self.slope < math.inf:
            raise ValueError(f"slope {self.slope} is not above 0")

    def log_odds(self, scores: Float64) -> Float64:
        """Returns float64[n] for scores float64[n]."""
        beyond = np.minimum(scores - self.scores[0], 0.0) + np.maximum(scores - self.scores[-1], 0.0)
        return np.interp(scores, self.scores, self.values) + self.slope * beyond


ScoreMap: TypeAlias = LogisticMap | IsotonicMap


@dataclass(frozen=True, slots=True)
class ChannelCalibration:
    """The calibration of one channel.

    Attributes:
        score_map: from score to log-odds.
        absent_log_odds: of an entry that other channels of the collection returned, where this one returned none.
        score_mean, score_deviation: of all scores that the channel returned for the labelled questions.
        encoder: identifies what the scores compare: the fingerprint of the vectors' encoder, or the analyzer of a
            lexical channel.
        index_type: of the searched field, such as HNSW: an approximate index returns other scores at its end.
    """

    score_map: ScoreMap
    absent_log_odds: float
    score_mean: float
    score_deviation: float
    encoder: str
    index_type: str


class QuestionFeatures(NamedTuple):
    """The features of a question for one collection, or their weights. `query.relevance` explains each."""

    lead: float = 0.0
    level: float = 0.0
    lexical_level: float = 0.0
    words: float = 0.0
    rivals: float = 0.0
    coverage: float = 0.0


@dataclass(frozen=True, slots=True)
class RelevanceMap:
    """Relevance from the log-odds of an entry and from what is known of the question (`query.relevance`).

    logit(relevance) = gain · log-odds + intercept + the weighted features. The gain is above 0: relevance and log-odds
    order the entries of a collection in the same way.

    Attributes:
        gain, intercept: as above.
        weights: of the features of the question.
    """

    gain: float
    intercept: float
    weights: QuestionFeatures

    def __post_init__(self) -> None:
        if not 0 < self.gain < math.inf:
            raise ValueError(f"gain {self.gain} is not above 0")

    def relevance(self, log_odds: Float64, features: QuestionFeatures) -> Float64:
        """Returns float64[n], 0 to 1, of entries with these log-odds, float64[n]."""
        return np.asarray(1 / (1 + np.exp(-np.clip(self.gain * log_odds + self.shift(features), -500, 500))))

    def shift(self, features: QuestionFeatures) -> float:
        """Returns what the question adds to the log-odds of relevance of all entries."""
        return self.intercept + sum(w * feature for w, feature in zip(self.weights, features, strict=True))


@dataclass(frozen=True, slots=True)
class CollectionCalibration:
    """Corrects the sum of the log-odds of a collection's channels. The gain is above 0.

    Attributes:
        prior_log_odds: of a candidate of this collection whose scores are not known.
        gain, offset: see the module.
        relevance: of an entry; None: it is not known.
    """

    prior_log_odds: float
    gain: float = 1.0
    offset: float = 0.0
    relevance: RelevanceMap | None = None

    def __post_init__(self) -> None:
        if not 0 < self.gain < math.inf:
            raise ValueError(f"gain {self.gain} is not above 0")


@dataclass(frozen=True, slots=True)
class Provenance:
    """The data behind a calibration, for its card.

    Attributes:
        sets: hash of each set of questions, by name.
        labels: number of questions with labels.
        seed: of the split.
        profile: whose encoders were used.
        borrowed: collections without labelled questions that use the calibration of another one.
    """

    sets: Mapping[str, str]
    labels: int
    seed: int
    profile: str
    borrowed: Mapping[Collection, Collection] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Calibration:
    """The calibrations of all channels and collections that had labelled questions.

    Attributes:
        channels, collections: by name.
        provenance: the data behind it.
        clicked: of the click memory, from the cosine of two questions; None: choices do not count.
    """

    channels: Mapping[Channel, ChannelCalibration]
    collections: Mapping[Collection, CollectionCalibration]
    provenance: Provenance
    clicked: ChannelCalibration | None = None

    def covers(self, channel: Channel) -> bool:
        """Returns whether the channel and its collection are calibrated."""
        return channel in self.channels and channel.collection in self.collections

    def log_odds(self, channel: Channel, scores: Float64) -> Float64:
        """Returns the log-odds, float64[n], of entries that the channel returned with these scores, float64[n]."""
        return self.channels[channel].score_map.log_odds(scores)

    def absent_log_odds(self, channel: Channel, scores: Float64) -> float:
        """Returns the log-odds of an entry that the channel did not return, below the last one that it did.

        Args:
            channel: that was searched and answered.
            scores: float64[n], all that it returned; n may be 0.
        """
        if not len(scores):
            return self.channels[channel].absent_log_odds
        return float(self.log_odds(channel, scores).min()) - ABSENT_MARGIN

    def combine(self, collection: Collection, log_odds: Mapping[Channel, Float64]) -> Float64:
        """Returns the log-odds, float64[n], of n entries of a collection from those of each channel that answered.

        With one channel these are its own, so that a missing channel leaves the others comparable.
        """
        terms = list(log_odds.values())
        if len(terms) == 1:
            return terms[0]
        calibration = self.collections[collection]
        prior = calibration.prior_log_odds
        evidence = np.sum(terms, axis=0) - len(terms) * prior
        return np.asarray(prior + calibration.gain * evidence + calibration.offset)

    def with_borrowed(self, encoders: Mapping[Channel, str]) -> Calibration:
        """Returns a calibration that holds for `BORROWED` collections without labelled questions, too.

        One borrows where the same encoders score the entries of the two collections.

        Args:
            encoders: what each channel compares, as `ChannelCalibration.encoder`.
        """
        channels, collections = dict(self.channels), dict(self.collections)
        borrowed = dict(self.provenance.borrowed)
        for collection, lender in BORROWED.items():
            if collection in collections or lender not in collections:
                continue
            of_fields = {channel.field: channels[channel] for channel in channels if channel.collection is lender}
            for name in FIELDS_OF[collection]:
                channel = Channel(collection, name)
                if name in of_fields and encoders.get(channel) == of_fields[name].encoder:
                    channels[channel] = of_fields[name]
                    borrowed[collection] = lender
                    collections[collection] = collections[lender]
        return replace(
            self, channels=channels, collections=collections, provenance=replace(self.provenance, borrowed=borrowed)
        )

    def matches(
        self, encoders: Mapping[Channel, str], index_types: Mapping[Channel, str], questions: str | None = None
    ) -> str | None:
        """Returns why this calibration is not valid for an index, in one line; None if it is.

        Args:
            encoders: what each channel compares, as `ChannelCalibration.encoder`.
            index_types: of each channel. Channels that one of the two sides does not have are not compared.
            questions: the encoder of questions, which the click memory compares; None: it is not compared.
        """
        if self.clicked is not None and questions not in (None, self.clicked.encoder):
            return f"its choices were compared by {self.clicked.encoder}, and questions are encoded by {questions}"
        for channel, calibration in sorted(self.channels.items()):
            ours = (("encoder", calibration.encoder, encoders), ("index type", calibration.index_type, index_types))
            for noun, recorded, present in ours:
                if present.get(channel, recorded) != recorded:
                    return f"it was fitted with {noun} {recorded} of {channel}, and the index has {present[channel]}"
        return None


# --- files -----------------------------------------------------------------------------------------------------------


class _Document(BaseModel):
    """The JSON of a calibration, whose channels are named as in `image.joint`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: Literal[1] = 1
    channels: Mapping[str, ChannelCalibration]
    collections: Mapping[Collection, CollectionCalibration]
    provenance: Provenance
    clicked: ChannelCalibration | None = None


def write_calibration(calibration: Calibration, file: Path) -> None:
    """Replaces the file by a calibration as JSON, atomically; equal calibrations give equal bytes."""
    document = _Document(
        channels={str(channel): calibration.channels[channel] for channel in sorted(calibration.channels)},
        collections={name: calibration.collections[name] for name in sorted(calibration.collections)},
        provenance=calibration.provenance,
        clicked=calibration.clicked,
    )
    without = {"clicked"} if calibration.clicked is None else None
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f"{file.name}.tmp")
    temporary.write_text(document.model_dump_json(indent=1, exclude=without) + "\n", encoding="utf-8")
    temporary.replace(file)


def read_calibration(file: Path) -> Calibration:
    """Reads a calibration.

    Raises:
        ConfigError: the file is missing or not a calibration; one line that says what to do.
    """
    try:
        document = _Document.model_validate_json(file.read_bytes())
        channels = {_channel(name): calibration for name, calibration in document.channels.items()}
    except OSError as exc:
        raise ConfigError(f"the calibration {file} cannot be read: {exc.strerror}") from exc
    except ValueError as exc:
        raise ConfigError(
            f"{file} is not a calibration ({_first_problem(exc)}). `penstock train calibration` writes a new one"
        ) from exc
    return Calibration(channels, dict(document.collections), document.provenance, document.clicked)


def _channel(name: str) -> Channel:
    collection, _, of_collection = name.partition(".")
    return Channel(Collection(collection), Field(of_collection))


def _first_problem(exc: ValueError) -> str:
    if not isinstance(exc, ValidationError):
        return str(exc)
    problem = exc.errors()[0]
    name = ".".join(str(part) for part in problem["loc"]) or "the file"
    return f"{name}: {problem['msg']}"
