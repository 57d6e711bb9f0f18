"""Labelled questions with what each channel returned for them: the data that a calibration is fitted to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from penstock.errors import UsageError
from penstock.evaluate.evaluation_set import EvaluationSet
from penstock.evaluate.offline import DEPTH, SetRankings
from penstock.query.types import Rankings
from penstock.records import Channel, ScoredEntry

MIN_LABELS = 10
# Of one set: more change no coefficient by as much as another seed does, and a large set does not outvote the others.
MAX_LABELS_PER_SET = 1_000


@dataclass(frozen=True)
class LabelledRankings:
    """The rankings of a set, and which of its questions are used.

    Attributes:
        rankings: of all questions of the set.
        questions: int64[n], rows of the set's queries.
    """

    rankings: SetRankings
    questions: npt.NDArray[np.int64]

    def __iter__(self) -> Iterator[LabelledQuestion]:
        """Yields each question, in the order of `questions`."""
        dataset, entries = self.rankings.dataset, self.rankings.entries
        for row in self.questions.tolist():
            right = frozenset(entries[document].id for document in dataset.judgements.rows_of(row).tolist())
            further = self.rankings.further_of_query(row)
            yield LabelledQuestion(dataset.queries[row].text, self.rankings.of_query(row), right, further)


@dataclass(frozen=True, slots=True)
class LabelledQuestion:
    """A question, and what each channel returned for it.

    Attributes:
        text: of the question.
        rankings: of the channels.
        right: ids of the right entries.
        further: entries of each channel that come after those of `rankings`.
    """

    text: str
    rankings: Rankings
    right: frozenset[str]
    further: Mapping[Channel, Sequence[ScoredEntry]] = field(default_factory=dict)

    def without_answer(self) -> LabelledQuestion:
        """Returns the same question to an index that lacks its right entries: the next ones take their places."""
        by_channel = {
            channel: [
                scored for scored in (*ranking, *self.further.get(channel, ())) if scored.entry.id not in self.right
            ][: self.rankings.depths[channel.collection]]
            for channel, ranking in self.rankings.by_channel.items()
        }
        return LabelledQuestion(self.text, replace(self.rankings, by_channel=by_channel), frozenset())


def spare_entries(dataset: EvaluationSet) -> int:
    """Returns how many further entries take the places of the right ones of any question, at most `DEPTH`."""
    right = (len(dataset.judgements.rows_of(row)) for row in range(len(dataset.queries)))
    return min(max(right, default=0), DEPTH)


def divide(dataset: EvaluationSet, *, seed: int, labels: int | None = None) -> tuple[npt.NDArray[np.int64], ...]:
    """Returns the rows of the questions to fit to, and of those held out to judge the result by.

    The split of the set decides: train and dev, and test. A set without one is divided in two halves of its groups, so
    that near-duplicates of what was fitted are not held out.

    Args:
        dataset: questions by image are left out: a calibration is about questions in words.
        seed: of the halves, and of the choice where there are too many questions.
        labels: number of questions to fit to; None: all, up to `MAX_LABELS_PER_SET`.

    Raises:
        UsageError: fewer than `MIN_LABELS` are left to fit to.
    """
    rng = np.random.default_rng(seed)
    in_words = np.array([not query.image for query in dataset.queries], dtype=np.bool_)
    if any(dataset.splits):
        to_fit = in_words & np.isin(dataset.query_splits, ("train", "dev"))
        held_out = in_words & (dataset.query_splits == "test")
    else:
        groups, group_of = np.unique(dataset.query_groups, return_inverse=True)
        first_half = rng.permutation(len(groups)) < (len(groups) + 1) // 2
        to_fit, held_out = in_words & first_half[group_of], in_words & ~first_half[group_of]
    rows = rng.permutation(np.flatnonzero(to_fit))[: labels or MAX_LABELS_PER_SET]
    if len(rows) < MIN_LABELS:
        raise UsageError(
            f"set {dataset.name} has {len(rows)} labelled questions to fit to, and a calibration needs at least "
            f"{MIN_LABELS}. Without one, searches compare channels by z-by-channel, which needs no labels"
        )
    return np.sort(rows), rng.permutation(np.flatnonzero(held_out))[:MAX_LABELS_PER_SET]
