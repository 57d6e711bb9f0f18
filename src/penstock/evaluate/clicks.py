"""Simulates people who choose among the documents of an evaluation set, to measure the click memory offline.

Some concepts are chosen from, the others never. A part of the questions of such a concept comes first, and their right
documents are chosen; the others come later, in other words. All is drawn by a seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from penstock.evaluate.evaluation_set import EvaluationSet
from penstock.query.clicks.guards import ClickRules, click_evidence
from penstock.query.clicks.recall import MAX_CLICKED, MAX_RECALLED
from penstock.query.fusion.base import Candidate, Fusion, MomentRules
from penstock.query.fusion.calibration import ScoreMap
from penstock.query.types import Rankings
from penstock.records import Action, Choice, ClickedEntry, Entry, Float32, Recalled, question_digest
from penstock.records.events import digest_of

ENCODER = "simulated"
_NOW_MS = 1_767_225_600_000


@dataclass(frozen=True)
class AskableSet:
    """An evaluation set whose questions can be remembered.

    Attributes:
        dataset: the set.
        entries: one for each of its documents.
        vectors: float32[queries, dim] of all its queries, L2-normalised.
    """

    dataset: EvaluationSet
    entries: Sequence[Entry] = field(repr=False)
    vectors: Float32 = field(repr=False)


@dataclass(frozen=True)
class SimulatedClicks:
    """Choices of an evaluation set.

    Attributes:
        choices: all of them, with vectors.
        is_past: bool[queries], whether a query came first, and is part of the memory.
        chosen: rows of documents that were chosen.
    """

    choices: Sequence[Choice] = field(repr=False)
    is_past: npt.NDArray[np.bool_] = field(repr=False)
    chosen: frozenset[int] = field(repr=False)


def simulate_clicks(
    askable: AskableSet,
    queries: npt.NDArray[np.int64],
    *,
    clicks: int,
    voters_of_pair: int,
    seed: int,
) -> SimulatedClicks:
    """Returns choices of right documents, drawn without replacement.

    Args:
        askable: the set.
        queries: rows of the queries of which some come first.
        clicks: number of choices, at most.
        voters_of_pair: callers that choose the same document for the same question; each has ten choices on average.
        seed: of all draws.
    """
    rng, dataset = np.random.default_rng(seed), askable.dataset
    groups = np.unique(dataset.query_groups[queries])
    from_concepts = set(rng.permutation(groups)[: round(0.6 * len(groups))].tolist())
    is_past = np.zeros(len(dataset.queries), np.bool_)
    for group in sorted(from_concepts):
        members = queries[dataset.query_groups[queries] == group]
        before = rng.permutation(members)[: max(1, (len(members) + 1) // 2)]
        is_past[before] = True
    pairs = [
        (query, row) for query in np.flatnonzero(is_past) for row in dataset.judgements.rows_of(int(query)).tolist()
    ]
    drawn = [pairs[place] for place in rng.permutation(len(pairs))[: clicks // voters_of_pair].tolist()]
    people = max(voters_of_pair, clicks // 10)
    choices = [
        make_choice(askable, int(query), int(row), f"person {person}", rank=_rank(rng))
        for query, row in drawn
        for person in rng.choice(people, voters_of_pair, replace=False).tolist()
    ]
    remembered = np.zeros(len(dataset.queries), np.bool_)
    remembered[[query for query, _ in drawn]] = True
    return SimulatedClicks(choices, remembered, frozenset(int(row) for _, row in drawn))


def plant_clicks(askable: AskableSet, queries: Sequence[int], target: int, *, clicks: int) -> list[Choice]:
    """Returns the choices of one caller that plants a document for the first of these queries."""
    return [make_choice(askable, query, target, "planter", rank=10) for query in list(queries)[:clicks]]


def make_choice(askable: AskableSet, query: int, row: int, person: str, *, rank: int) -> Choice:
    """Returns the choice of a document for a query."""
    entry = askable.entries[row]
    return Choice(
        asset=entry.asset,
        collection=entry.collection,
        entry_id=entry.id,
        voter=digest_of(person),
        question=question_digest(askable.dataset.queries[query].text),
        vector=askable.vectors[query],
        encoder=ENCODER,
        action=Action.CLICK,
        rank=rank,
        shown=(),
        time_ms=_NOW_MS,
    )


class RememberingFusion:
    """A `Fusion` over the rankings of a set, with what the click memory recalls for each question.

    Args:
        fusion: that counts choices, as `FusionChooser.choose` gives it.
        recalled: of each question, by its words.
    """

    def __init__(self, fusion: Fusion, recalled: Mapping[str, tuple[ClickedEntry, ...]]) -> None:
        self._fusion = fusion
        self._recalled = recalled

    def rank(self, rankings: Rankings, rules: MomentRules, limit: int) -> list[tuple[float, Candidate]]:
        """See `Fusion.rank`."""
        clicked = self._recalled.get(rankings.text or "", ())
        return self._fusion.rank(replace(rankings, clicked=clicked), rules, limit)


def recall_offline(
    askable: AskableSet, choices: Sequence[Choice], score_map: ScoreMap, rules: ClickRules
) -> dict[str, tuple[ClickedEntry, ...]]:
    """Returns what the click memory recalls for each query of a set, by its words, as `ClickMemory` does."""
    by_id = {entry.id: entry for entry in askable.entries}
    if not choices:
        return {}
    bank = np.stack([choice.vector for choice in choices])
    recalled: dict[str, tuple[ClickedEntry, ...]] = {}
    for query, vector in zip(askable.dataset.queries, askable.vectors, strict=True):
        cosines = bank @ vector
        closest = np.argsort(-cosines, kind="stable")[:MAX_RECALLED].tolist()
        matches = [Recalled(choices[place], float(cosines[place])) for place in closest]
        evidence = click_evidence(matches, score_map, rules, _NOW_MS)
        best = sorted(evidence, key=lambda id_: (-evidence[id_].log_odds, id_))[:MAX_CLICKED]
        recalled[query.text] = tuple(
            ClickedEntry(by_id[id_], evidence[id_].log_odds, evidence[id_].voters) for id_ in best
        )
    return recalled


def _rank(rng: np.random.Generator) -> int:
    """Returns a rank as people choose them: the first most often."""
    return int(min(10, rng.geometric(0.35)))
