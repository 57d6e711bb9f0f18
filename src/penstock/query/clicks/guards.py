"""Turns remembered choices into evidence, so that no one person decides what others find.

    1 a choice that was taken back counts for nothing, and neither does one of a question that says nothing
    2 a choice counts by its rank (`propensity`) and its age (`decay`)
    3 of the choices of a voter for an entry only the best counts
    4 the strongest voters of an entry, one fewer than `min_voters`, are left out: what they say, others have to say
    5 the others are combined as independent reasons: an entry is wrong only if all of them are

By 4 a voter can bring an entry no further than others bring it without that voter. Where one voter is enough, it
may speak for one entry of each question only: then no other entry loses more than one rank to it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from penstock.query.fusion.calibration import ScoreMap
from penstock.records import Action, Recalled

# People click what is on top. How much more often is known for one page alone, by exchanging hits at random; this
# exponent is gentle: a click on the first hit counts 0.63 of one on the tenth, which takes a search.
_PROPENSITY_EXPONENT = 0.2
_LAST_RANK = 10
_DAY_MS = 86_400_000
# Of the calibrated log-odds of one choice. Below, many distant questions together would look like evidence.
MIN_LOG_ODDS = -4.0
_MOST_CERTAIN = 1.0 - 1e-6


@dataclass(frozen=True, slots=True)
class ClickRules:
    """The rules by which choices count.

    Attributes:
        min_voters: callers whose choices have to agree.
        half_life_days: age at which a choice counts half.
    """

    min_voters: int
    half_life_days: float


@dataclass(frozen=True, slots=True)
class ClickEvidence:
    """Sums up the choices of an entry.

    Attributes:
        log_odds: that the entry answers the question, by choices alone.
        voters: callers that chose it for a close question.
    """

    log_odds: float
    voters: int


def click_evidence(
    recalled: Sequence[Recalled], score_map: ScoreMap, rules: ClickRules, now_ms: int
) -> dict[str, ClickEvidence]:
    """Returns the evidence of each entry that enough voters chose, by its id; the steps are those of the module.

    Args:
        recalled: choices of questions close to the present one.
        score_map: from the cosine of two questions to the log-odds that what was chosen for one answers the other.
        rules: by which they count.
        now_ms: milliseconds since the epoch.
    """
    best = _best_of_voters(recalled, score_map, rules, now_ms)
    if rules.min_voters == 1:
        best = _one_entry_of_each_voter(best)
    evidence: dict[str, ClickEvidence] = {}
    for entry_id, by_voter in best.items():
        counted = sorted(by_voter.values(), reverse=True)[rules.min_voters - 1 :]  # 4
        if counted:
            wrong = math.prod(1.0 - probability for probability in counted)  # 5
            right = min(1.0 - wrong, _MOST_CERTAIN)
            evidence[entry_id] = ClickEvidence(math.log(right / (1.0 - right)), len(by_voter))
    return evidence


def propensity(rank: int) -> float:
    """Returns how much a choice at a rank counts, 0 to 1."""
    return float((min(rank, _LAST_RANK) / _LAST_RANK) ** _PROPENSITY_EXPONENT)


def decay(age_ms: float, half_life_days: float) -> float:
    """Returns how much a choice of an age counts, 0 to 1."""
    return float(0.5 ** (max(age_ms, 0.0) / (half_life_days * _DAY_MS)))


def _best_of_voters(
    recalled: Sequence[Recalled], score_map: ScoreMap, rules: ClickRules, now_ms: int
) -> dict[str, dict[str, float]]:
    """Returns the probability by which each voter speaks for each entry: steps 1 to 3."""
    best: dict[str, dict[str, float]] = defaultdict(dict)
    log_odds = score_map.log_odds(np.array([match.cosine for match in recalled], np.float64)) if recalled else ()
    for match, value in zip(recalled, log_odds, strict=True):
        choice = match.choice
        if choice.action is Action.DISLIKE or value < MIN_LOG_ODDS:  # 1
            continue
        weight = propensity(choice.rank) * decay(now_ms - choice.time_ms, rules.half_life_days)  # 2
        probability = weight / (1.0 + math.exp(-float(value)))
        by_voter = best[choice.entry_id]
        by_voter[choice.voter] = max(probability, by_voter.get(choice.voter, 0.0))  # 3
    return best


def _one_entry_of_each_voter(best: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    entry_of: dict[str, tuple[float, str]] = {}
    for entry_id, by_voter in best.items():
        for voter, probability in by_voter.items():
            entry_of[voter] = max((probability, entry_id), entry_of.get(voter, (0.0, "")))
    kept: dict[str, dict[str, float]] = defaultdict(dict)
    for voter, (probability, entry_id) in entry_of.items():
        kept[entry_id][voter] = probability
    return kept
