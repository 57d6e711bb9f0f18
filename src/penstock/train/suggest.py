"""Suggests the questions that are most worth labelling: frequent ones, about which the channels disagree.

Where all channels return the same entries, a label says little about how to weigh them. Disagreement is the mean, over
pairs of channels, of 1 - the overlap of their first ten (Jaccard); a question counts log2(1 + its frequency)
times as much.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from penstock.errors import UsageError
from penstock.evaluate.offline import SetRankings
from penstock.records import Channel, ScoredEntry

SHOWN = 10


@dataclass(frozen=True, slots=True)
class QuestionToLabel:
    """A question that is worth a label.

    Attributes:
        row: of the set's query.
        text: the question.
        times: how often it occurs.
        disagreement: of the channels, 0 to 1.
    """

    row: int
    text: str
    times: int
    disagreement: float

    @property
    def worth(self) -> float:
        """Returns what the questions are ordered by."""
        return self.disagreement * float(np.log2(1 + self.times))


def suggest_questions(rankings: SetRankings, rows: npt.NDArray[np.int64], count: int) -> list[QuestionToLabel]:
    """Returns the questions that are most worth labelling, the best first. Equal worth keeps the order of the set.

    Args:
        rankings: of all questions of a set.
        rows: int64[n], the questions to choose from; equal texts count as one that occurs that often.
        count: how many.

    Raises:
        UsageError: only one channel answers, so nothing can disagree.
    """
    if len(rankings.by_channel) < 2:
        raise UsageError(f"set {rankings.dataset.name} is searched by one channel only: channels cannot disagree")
    first_row: dict[str, int] = {}
    times: dict[str, int] = {}
    for row in rows.tolist():
        text = rankings.dataset.queries[row].text
        if text:
            first_row.setdefault(text, row)
            times[text] = times.get(text, 0) + 1
    questions = [
        QuestionToLabel(row, text, times[text], disagreement(rankings.of_query(row).by_channel))
        for text, row in first_row.items()
    ]
    return sorted(questions, key=lambda question: -question.worth)[:count]


def disagreement(by_channel: Mapping[Channel, Sequence[ScoredEntry]]) -> float:
    """Returns the mean over pairs of channels of 1 - the overlap of their first ten entries.

    It is 0 for a single channel.
    """
    first = [{scored.entry.id for scored in ranking[:SHOWN]} for ranking in by_channel.values()]
    apart = [1 - len(ids & others) / max(1, len(ids | others)) for ids, others in itertools.combinations(first, 2)]
    return float(np.mean(apart)) if apart else 0.0
