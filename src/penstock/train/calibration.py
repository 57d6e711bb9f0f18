"""Fits a calibration to labelled questions.

    1 channels      P(right | score), logistic or isotonic
    2 collections   the correction of the sum of log-odds, as the channels of a collection are not independent
    3 relevance     P(right | log-odds, question), for questions with and without an answer in the index

In step 3 each question counts twice: as it is, and with its right entries taken out. So relevance is about an index
that has the answer to every second question. Of the hits of such an index with a relevance of 0.8, 80 in 100 are right;
where every question has its answer, more are.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from penstock.query.fusion.calibration import (
    Calibration,
    ChannelCalibration,
    CollectionCalibration,
    Provenance,
    QuestionFeatures,
    RelevanceMap,
    ScoreMap,
)
from penstock.query.relevance import evidence_by_collection
from penstock.records import Channel, Collection
from penstock.train.fitting import Bool, Float64, fit_isotonic_map, fit_logistic, fit_logistic_map, logit
from penstock.train.labels import LabelledQuestion

MIN_ISOTONIC_LABELS = 500
# With fewer questions the features of a question follow chance: relevance then depends on the log-odds alone.
MIN_FEATURE_LABELS = 50
# Entries of each question and collection that relevance is fitted to: those that may be shown.
SHOWN_ENTRIES = 10
# Hits below which a correction would follow chance.
_MIN_HITS = 5


def fit_calibration(
    questions: Sequence[LabelledQuestion],
    encoders: Mapping[Channel, str],
    index_types: Mapping[Channel, str],
    provenance: Provenance,
    *,
    isotonic: bool = False,
) -> Calibration:
    """Fits a calibration of every channel that returned an entry. Equal questions give equal calibrations.

    Args:
        questions: with labels.
        encoders, index_types: of the channels, to be recorded.
        provenance: to be recorded.
        isotonic: fit isotonic maps, which need `MIN_ISOTONIC_LABELS` questions; with fewer the maps are logistic.
            Their steps cost order: nDCG@10 of two sets of texts is 60.2 and 84.7, by logistic maps 61.6 and 85.9.
    """
    isotonic = isotonic and len(questions) >= MIN_ISOTONIC_LABELS
    channels = {
        channel: _fit_channel(channel, questions, encoders[channel], index_types[channel], isotonic=isotonic)  # 1
        for channel in sorted({channel for question in questions for channel in question.rankings.by_channel})
        if any(question.rankings.by_channel.get(channel) for question in questions)
    }
    collections = sorted({channel.collection for channel in channels})
    priors = {collection: CollectionCalibration(_prior(collection, questions)) for collection in collections}
    plain = Calibration(channels, priors, provenance)
    combined = replace(plain, collections=_fit_collections(plain, questions))  # 2
    fitted = replace(combined, collections=_fit_relevance(combined, questions))  # 3
    return fitted.with_borrowed(encoders)


def _fit_channel(
    channel: Channel, questions: Sequence[LabelledQuestion], encoder: str, index_type: str, *, isotonic: bool
) -> ChannelCalibration:
    returned = [question for question in questions if question.rankings.by_channel.get(channel)]
    ranked = [(question, question.rankings.by_channel[channel]) for question in returned]
    scores = np.array([scored.score for _, ranking in ranked for scored in ranking])
    right = np.array([scored.entry.id in question.right for question, ranking in ranked for scored in ranking])
    score_map: ScoreMap = (fit_isotonic_map if isotonic else fit_logistic_map)(scores, right)
    return ChannelCalibration(
        score_map, _absent(channel, questions), float(scores.mean()), float(scores.std()), encoder, index_type
    )


def _absent(channel: Channel, questions: Iterable[LabelledQuestion]) -> float:
    """Returns the log-odds of entries that other channels of the collection returned, and this one did not."""
    count = hits = 0
    for question in questions:
        if channel in question.rankings.by_channel:
            returned = {scored.entry.id for scored in question.rankings.by_channel[channel]}
            others = _ids(channel.collection, question) - returned
            count += len(others)
            hits += len(others & question.right)
    return float(logit((hits + 0.5) / (count + 1.0)))


def _prior(collection: Collection, questions: Iterable[LabelledQuestion]) -> float:
    counts = [(len(ids), len(ids & question.right)) for question in questions for ids in (_ids(collection, question),)]
    count, hits = np.sum(counts, axis=0)
    return float(logit((hits + 0.5) / (count + 1.0)))


def _ids(collection: Collection, question: LabelledQuestion) -> set[str]:
    rankings = question.rankings.by_channel
    return {
        scored.entry.id for name, ranking in rankings.items() if name.collection is collection for scored in ranking
    }


def _fit_collections(
    plain: Calibration, questions: Sequence[LabelledQuestion]
) -> Mapping[Collection, CollectionCalibration]:
    """Fits gain and offset of the collections with several channels. The sum of evidence is that of gain 1."""
    sums: dict[Collection, list[Float64]] = defaultdict(list)
    labels: dict[Collection, list[Bool]] = defaultdict(list)
    for question in questions:
        for collection, evidence in evidence_by_collection(question.rankings, question.text, plain).items():
            sums[collection].append(evidence.log_odds - plain.collections[collection].prior_log_odds)
            labels[collection].append(np.array([entry.id in question.right for entry in evidence.entries]))
    corrected = dict(plain.collections)
    for collection, calibration in plain.collections.items():
        several = sum(channel.collection is collection for channel in plain.channels) > 1
        right = np.concatenate(labels[collection])
        if several and right.sum() >= _MIN_HITS:
            gains, intercept = fit_logistic(np.concatenate(sums[collection])[:, np.newaxis], right)
            if gains[0] > 0:
                offset = intercept - calibration.prior_log_odds
                corrected[collection] = replace(calibration, gain=float(gains[0]), offset=offset)
    return corrected


def _fit_relevance(
    calibration: Calibration, questions: Sequence[LabelledQuestion]
) -> Mapping[Collection, CollectionCalibration]:
    rows: dict[Collection, list[tuple[float, ...]]] = defaultdict(list)
    labels: dict[Collection, list[bool]] = defaultdict(list)
    for version in itertools.chain.from_iterable((question, question.without_answer()) for question in questions):
        for collection, evidence in evidence_by_collection(version.rankings, version.text, calibration).items():
            for place in np.argsort(-evidence.log_odds, kind="stable")[:SHOWN_ENTRIES].tolist():
                rows[collection].append((float(evidence.log_odds[place]), *evidence.features))
                labels[collection].append(evidence.entries[place].id in version.right)
    enough = len(questions) >= MIN_FEATURE_LABELS
    return {
        collection: replace(
            of_collection,
            relevance=_relevance_map(np.array(rows[collection]), np.array(labels[collection]), with_features=enough),
        )
        for collection, of_collection in calibration.collections.items()
    }


def _relevance_map(rows: Float64, right: Bool, *, with_features: bool) -> RelevanceMap:
    """Fits the map of one collection: rows are float64[n, 1 + features], the log-odds first."""
    if with_features and right.sum() >= _MIN_HITS:
        weights, intercept = fit_logistic(rows, right)
        if weights[0] > 0:
            return RelevanceMap(float(weights[0]), intercept, QuestionFeatures(*weights[1:].tolist()))
    alone = fit_logistic_map(rows[:, 0], right)
    return RelevanceMap(alone.slope, alone.intercept, QuestionFeatures())
