"""Estimates the relevance of hits: the probability that a hit answers the question.

Log-odds of a calibration compare entries of one question. Whether the best of them answers the question at all depends
on the question, too. So relevance adds features of the question to them, each for one collection:

    lead            deviations that the best score of its first dense channel is above the mean of this question
    level           deviations that it is above the mean of the labelled questions
    lexical_level   the same of its lexical channel
    words           log(1 + number of different terms in the question)
    rivals          log Σ exp(log-odds) of all entries but the best: the less it stands out, the less certain it is
    coverage        share of the question's terms that the best entry contains

They shift all entries of a collection by the same amount: relevance never contradicts the order within a collection.
The relevance of a moment is that of its best entry. It is not known for questions that are not words alone, and where
the channels of an entry have no calibration: then it is None.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from penstock.analysis import query_terms, terms
from penstock.errors import QueryError
from penstock.query.fusion.calibration import Calibration, QuestionFeatures
from penstock.query.fusion.normalise import Float64
from penstock.query.fusion.scales import ChannelShares, LogOddsScale
from penstock.query.fusion.tables import CollectionTable, collection_tables
from penstock.query.group import entry_ids
from penstock.query.types import Hit, Query, Rankings
from penstock.records import Channel, Collection, Entry, Field

# A best entry whose rivals together have e^-10 of its odds stands alone.
_NO_RIVALS = 10.0


@dataclass(frozen=True, slots=True)
class CollectionEvidence:
    """Describes the entries of one collection by their log-odds, and the question by its features.

    Attributes:
        entries: n in number.
        log_odds: float64[n], by the calibration.
        features: of the question.
    """

    entries: Sequence[Entry]
    log_odds: Float64
    features: QuestionFeatures


@dataclass(frozen=True, slots=True)
class JudgedHits:
    """The hits with their relevance, and whether any of them answers the question.

    Attributes:
        hits: best first.
        nothing_found: whether no hit reaches the floor.
        why: the reason in words; None if something was found.
    """

    hits: list[Hit]
    nothing_found: bool
    why: str | None


def check_min_relevance(query: Query, calibration: Calibration | None) -> None:
    """Raises QueryError if the query demands a relevance that is not known for it."""
    if query.min_relevance is None:
        return
    if calibration is None:
        raise QueryError(
            "min_relevance needs a calibration, and this index has none: `penstock train calibration` makes one",
            field="/min_relevance",
        )
    if query.text is None:
        raise QueryError("the relevance of hits is known for queries in words alone", field="/min_relevance")


def check_relevance_known(query: Query, calibration: Calibration | None, channels: Sequence[Channel]) -> None:
    """Raises QueryError if the query demands a relevance and no hit can have one.

    Args:
        query: in words.
        calibration: valid for this index.
        channels: that are about to be searched.
    """
    if query.min_relevance is None or not channels:
        return
    if calibration is None or not any(_gives_relevance(calibration, channel) for channel in channels):
        raise QueryError(
            f"min_relevance needs a calibration of what is searched, and {', '.join(map(str, channels))} have none: "
            "`penstock train calibration` makes one",
            field="/min_relevance",
        )


def judge(hits: Sequence[Hit], relevances: Mapping[str, float], query: Query, *, floor: float) -> JudgedHits:
    """Adds relevance to the hits of a question.

    1. Hits below the floor are marked. They stay, for they are the best there is.
    2. Hits below `min_relevance` of the request are cut, and with it those of unknown relevance.

    Args:
        hits: best first.
        relevances: of entries, by id, see `relevance_of_entries`.
        query: the question.
        floor: below it a hit does not count as found.
    """
    judged = with_relevance(hits, relevances, floor=floor)  # 1
    best = max((hit.relevance for hit in judged if hit.relevance is not None), default=None)
    known_low = best is not None and best < floor and all(hit.relevance is not None for hit in judged)
    why = "no entry matches the question and its filter" if not judged else None
    if known_low:
        why = f"the best hit has a relevance of {best:.2f}, and the floor is {floor:.2f} (query.relevance_floor)"
    if query.min_relevance is not None:  # 2
        kept = [hit for hit in judged if hit.relevance is not None and hit.relevance >= query.min_relevance]
        if judged and not kept and why is None:
            why = f"no hit has the relevance of {query.min_relevance:.2f} that the request demands"
            if best is None:
                why = "the relevance of no hit is known, and min_relevance cuts those; what is calibrated found nothing"
        judged = kept
    return JudgedHits(judged, why is not None, why)


class QuestionEvidence:
    """Computes tables and evidence of the rankings of one question, for fusion and relevance together.

    Args:
        text: of the question; None: there is no evidence.
        calibration: valid for this index.

    Attributes:
        text: as given.
    """

    def __init__(self, text: str | None, calibration: Calibration) -> None:
        self.text = text
        self._calibration = calibration
        self._computed: list[tuple[Rankings, list[CollectionTable], Mapping[Collection, CollectionEvidence]]] = []

    def of(self, rankings: Rankings) -> tuple[list[CollectionTable], Mapping[Collection, CollectionEvidence]]:
        """Returns the tables of the calibrated channels, and the evidence of each collection with entries."""
        for known, tables, evidence in self._computed:
            if known is rankings:
                return tables, evidence
        tables = calibrated_tables(rankings, self._calibration)
        evidence = {} if self.text is None else evidence_of_tables(tables, rankings, self.text, self._calibration)
        self._computed.append((rankings, tables, evidence))
        return tables, evidence


def relevance_of_entries(
    rankings: Rankings,
    text: str | None,
    calibration: Calibration | None,
    *,
    deeper: Rankings | None = None,
    computed: QuestionEvidence | None = None,
) -> dict[str, float]:
    """Returns the relevance of every entry, by id, whose collection has a map for it.

    Args:
        rankings: of the first search, which the features of the question are taken from.
        text: of the question; None: it is an image.
        calibration: valid for this index; None: there is none, and no relevance is known.
        deeper: of a deeper search. Their further entries are added, none of them above the last of the first search.
        computed: the evidence of this question; None: it is computed here.
    """
    relevances: dict[str, float] = {}
    if calibration is None:
        return relevances
    if text is None:
        return relevances
    computed = QuestionEvidence(text, calibration) if computed is None else computed
    first = computed.of(rankings)[1]
    further = {} if deeper is None else computed.of(deeper)[1]
    for collection, evidence in first.items():
        if (relevance_map := calibration.collections[collection].relevance) is None:
            continue
        if collection in further:
            of_deeper = further[collection]
            log_odds = np.minimum(of_deeper.log_odds, evidence.log_odds.min())
            relevances |= _by_id(of_deeper.entries, relevance_map.relevance(log_odds, evidence.features))
        relevances |= _by_id(evidence.entries, relevance_map.relevance(evidence.log_odds, evidence.features))
    return relevances


def _by_id(entries: Sequence[Entry], values: Float64) -> dict[str, float]:
    return {entry.id: value for entry, value in zip(entries, values.tolist(), strict=True)}


def evidence_by_collection(
    rankings: Rankings, text: str | None, calibration: Calibration
) -> Mapping[Collection, CollectionEvidence]:
    """Returns the evidence of each collection with entries that calibrated channels returned for a text."""
    if text is None:
        return {}
    return evidence_of_tables(calibrated_tables(rankings, calibration), rankings, text, calibration)


def calibrated_tables(rankings: Rankings, calibration: Calibration) -> list[CollectionTable]:
    """Returns the table of each collection, of the channels that are calibrated for questions in words."""
    covered = {
        channel: ranking
        for channel, ranking in rankings.by_channel.items()
        if calibration.covers(channel) and rankings.in_words(channel)
    }
    return collection_tables(replace(rankings, by_channel=covered))


def evidence_of_tables(
    tables: Sequence[CollectionTable], rankings: Rankings, text: str, calibration: Calibration
) -> Mapping[Collection, CollectionEvidence]:
    """Returns the evidence of each collection with entries, of tables whose channels are all calibrated."""
    question = frozenset(query_terms(text))
    return {table.collection: _evidence(table, rankings, question, calibration) for table in tables if table.entries}


def _gives_relevance(calibration: Calibration, channel: Channel) -> bool:
    return calibration.covers(channel) and calibration.collections[channel.collection].relevance is not None


def _evidence(
    table: CollectionTable, rankings: Rankings, question: frozenset[str], calibration: Calibration
) -> CollectionEvidence:
    scale = LogOddsScale(calibration)
    shares = ChannelShares.of(table.channels, rankings.spaces, {})
    equal = replace(shares, weights=np.ones(len(table.channels)))
    log_odds = scale.combine(table.collection, table.channels, table.values(scale), equal)
    best = int(log_odds.argmax())
    dense = _best_of(table.channels, rankings, lexical=False)
    lexical = _best_of(table.channels, rankings, lexical=True)
    features = QuestionFeatures(
        lead=0.0 if dense is None else _deviations(dense.scores.max(), dense.scores.mean(), dense.scores.std()),
        level=_level(dense, calibration),
        lexical_level=_level(lexical, calibration),
        words=math.log1p(len(question)),
        rivals=_log_sum(np.delete(log_odds, best), floor=float(log_odds[best])),
        coverage=_coverage(question, table.entries[best]),
    )
    return CollectionEvidence(table.entries, log_odds, features)


@dataclass(frozen=True, slots=True)
class _ReturnedScores:
    """The scores of a channel, float64[n], n ≥ 1."""

    channel: Channel
    scores: Float64


def _best_of(channels: Sequence[Channel], rankings: Rankings, *, lexical: bool) -> _ReturnedScores | None:
    """Returns the scores of the first channel, lexical or dense, that returned any."""
    for channel in channels:
        if (channel.field is Field.LEXICAL) == lexical and (ranking := rankings.by_channel[channel]):
            return _ReturnedScores(channel, np.array([scored.score for scored in ranking]))
    return None


def _level(returned: _ReturnedScores | None, calibration: Calibration) -> float:
    if returned is None:
        return 0.0
    usual = calibration.channels[returned.channel]
    return _deviations(returned.scores.max(), usual.score_mean, usual.score_deviation)


def _deviations(score: float, mean: float, deviation: float) -> float:
    return float(score - mean) / (float(deviation) or 1.0)


def _log_sum(log_odds: Float64, *, floor: float) -> float:
    """Returns log Σ exp; a single entry without rivals has ones of far lower odds than its own."""
    lowest = floor - _NO_RIVALS
    return lowest if not len(log_odds) else max(lowest, float(np.logaddexp.reduce(log_odds)))


def _coverage(question: frozenset[str], entry: Entry) -> float:
    return len(question.intersection(terms(entry.text))) / len(question) if question and entry.text else 0.0


def with_relevance(hits: Sequence[Hit], relevances: Mapping[str, float], *, floor: float) -> list[Hit]:
    """Returns the hits with their relevance, and marks those below the floor; arguments as of `judge`."""
    return [_with_relevance(hit, relevances, floor) for hit in hits]


def _with_relevance(hit: Hit, relevances: Mapping[str, float], floor: float) -> Hit:
    """Returns a hit with the relevance of its best entry, and its `others` with theirs."""
    own = replace(hit, others=()) if hit.others else hit
    relevance = max((relevances[entry_id] for entry_id in entry_ids(own) if entry_id in relevances), default=None)
    others = tuple(_with_relevance(other, relevances, floor) for other in hit.others)
    return replace(hit, relevance=relevance, below_floor=relevance is not None and relevance < floor, others=others)
