"""Fusion with choices: an entry is right if either its channels or what people chose says so.

Both are log-odds of the same calibration, and are combined as independent reasons (noisy-or, Pearl, 1988):

    1 - P = (1 - P(right | channels)) · (1 - P(right | choices))

So a choice never lowers an entry, and where nothing was chosen the order is that of the channels. Ranks know no
probabilities: by reciprocal ranks the closest question of the memory has as much weight as the best passage, however
distant it is, and what was never chosen sinks. Choices are therefore fused where everything is calibrated, or not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from penstock.query.explanations import ScoreParts
from penstock.query.fusion.base import Candidate, ExplainingFusion, MomentRules
from penstock.query.types import Hit, MomentMember, Rankings
from penstock.records import ClickedEntry

# The log-odds beyond which a probability is 1 in floating point.
_CERTAIN = 500.0


class ClickedFusion:
    """A `Fusion` that adds what people chose to one whose scores are log-odds.

    Args:
        fusion: ranks what the channels returned.
        weight: of choices, above 0; adds its logarithm to their log-odds, as weights of collections do.
    """

    def __init__(self, fusion: ExplainingFusion, weight: float = 1.0) -> None:
        self._fusion = fusion
        self._shift = math.log(weight)

    def rank(self, rankings: Rankings, rules: MomentRules, limit: int) -> list[tuple[float, Candidate]]:
        """See `Fusion.rank`. All candidates are composed, as the last one may become the first."""
        entries = sum(len(ranking) for ranking in rankings.by_channel.values())
        clicked = {choice.entry.id: choice for choice in rankings.clicked}
        ranked: list[tuple[float, Candidate]] = []
        seen: set[str] = set()
        for score, candidate in self._fusion.rank(rankings, rules, max(entries, limit)):
            ids = [member.entry.id for member in candidate.members if member.entry.id in clicked]
            seen.update(ids)
            raised = max((self._either(score, clicked[id_]) for id_ in ids), default=score)
            ranked.append((raised, candidate))
        ranked += [(self._weighted(choice), _alone(choice)) for id_, choice in clicked.items() if id_ not in seen]
        ranked.sort(key=lambda scored: -scored[0])  # stable: equal scores keep their order
        return ranked[:limit]

    def explain(self, rankings: Rankings, hits: Sequence[Hit]) -> list[ScoreParts]:
        """See `ExplainingFusion.explain`: the parts of the channels. `Hit.clicked` has what choices add."""
        return self._fusion.explain(rankings, hits)

    def _weighted(self, choice: ClickedEntry) -> float:
        return choice.log_odds + self._shift

    def _either(self, score: float, choice: ClickedEntry) -> float:
        return either(score, self._weighted(choice))


def either(first: float, second: float) -> float:
    """Returns the log-odds that at least one of two independent reasons holds."""
    if max(first, second) > _CERTAIN:
        return max(first, second)
    against = math.log1p(math.exp(first)) + math.log1p(math.exp(second))
    return against + math.log(-math.expm1(-against)) if against > 0 else max(first, second)


def with_clicked_relevance(relevances: Mapping[str, float], clicked: Sequence[ClickedEntry]) -> dict[str, float]:
    """Returns the relevance of entries, by id, with what people chose; that of an entry of choices alone is theirs."""
    combined = dict(relevances)
    for choice in clicked:
        chosen = 1.0 / (1.0 + math.exp(-max(choice.log_odds, -_CERTAIN)))
        combined[choice.entry.id] = 1.0 - (1.0 - relevances.get(choice.entry.id, 0.0)) * (1.0 - chosen)
    return combined


def _alone(choice: ClickedEntry) -> Candidate:
    """Returns the candidate of an entry that no channel returned."""
    return Candidate((MomentMember(choice.entry, ()),), (), choice.log_odds)
