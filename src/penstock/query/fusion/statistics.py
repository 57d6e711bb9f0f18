"""Running statistics: mean and deviation of the scores that each channel returned for the last thousand questions.

They make scores of channels comparable without any label (z-by-channel): a question whose best image is no better than
what images usually get does not have its answer among the images. They hold numbers only, no questions and no entries.

The last questions are kept as blocks, each with the number of its questions and of their scores, and the sums of scores
and squared scores. A block is full when it has as many scores as a hundred questions with full lists, and the oldest
one is dropped when an eleventh begins. So a question that found one entry displaces one score, and not fifty.

The scores of a question are counted before it is ranked, so that the first question of an index is normalised by its
own scores: over the first ten questions of a mixed index nDCG@10 is 22.2, and 24.4 with settled statistics. In an index
of a few entries these say little. So a calibration that was fitted with the same encoders gives a prior, which counts
as much as `PRIOR_SCORES` scores. A heavier one is worse on an index of another kind (20 questions: 21.3).
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from penstock.query.parts.inputs import COMPOSED
from penstock.query.types import Rankings
from penstock.records import Channel, ScoredEntry

BLOCK_QUESTIONS = 100  # with full lists
MAX_BLOCKS = 10
PRIOR_SCORES = 50

ChannelName: TypeAlias = str
"""A channel and the encoder of its queries, such as `image.joint by passage.text`: an image gets other scores there."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean and standard deviation of scores."""

    mean: float
    deviation: float


@dataclass(slots=True)
class ScoreSums:
    """Holds the sums over some questions.

    Attributes:
        questions: that the channel returned at least one entry for.
        scores: number of scores.
        total, squares: sum of the scores, and of their squares.
    """

    questions: int = 0
    scores: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, ranking: Sequence[ScoredEntry]) -> None:
        """Adds the scores of one question."""
        scores = [scored.score for scored in ranking]
        self.questions += 1
        self.scores += len(scores)
        self.total += math.fsum(scores)
        self.squares += math.fsum(score * score for score in scores)


class ChannelStatistics:
    """The running statistics of all channels of one replica. Safe to use from several threads.

    Args:
        blocks: the statistics to continue with: of each channel the sums of its blocks, the oldest first.
    """

    def __init__(self, blocks: Mapping[ChannelName, Sequence[ScoreSums]] | None = None) -> None:
        self._blocks = {name: deque(sums, MAX_BLOCKS) for name, sums in (blocks or {}).items()}
        self._lock = threading.Lock()
        self._questions = 0

    @property
    def questions(self) -> int:
        """The number of questions that this object has counted."""
        return self._questions

    def blocks(self) -> dict[ChannelName, list[ScoreSums]]:
        """Returns a copy of all sums."""
        with self._lock:
            return {name: [replace(sums) for sums in blocks] for name, blocks in self._blocks.items()}

    def observe(self, rankings: Rankings, depth: int) -> None:
        """Adds the scores of one question. Not meant for questions with a condition: it chose their entries, too.

        Scores of composed vectors are not counted: each mix of parts has a level of its own.

        Args:
            rankings: of the channels that answered.
            depth: how many entries of each channel count: those that a deeper search returned are lower.
        """
        with self._lock:
            self._questions += 1
            for channel, ranking in rankings.by_channel.items():
                if not ranking or rankings.encoders.get(channel) == COMPOSED:
                    continue
                name = channel_name(channel, rankings.encoders.get(channel))
                blocks = self._blocks.setdefault(name, deque(maxlen=MAX_BLOCKS))
                if not blocks or blocks[-1].scores >= BLOCK_QUESTIONS * depth:
                    blocks.append(ScoreSums())
                blocks[-1].add(ranking[:depth])

    def spread(self, channel: Channel, encoder: str | None, prior: Spread | None = None) -> Spread:
        """Returns the spread of a channel's scores; mean 0 and deviation 0 if nothing is known.

        Args:
            channel: the channel.
            encoder: of its queries.
            prior: what is known beforehand.
        """
        name = channel_name(channel, encoder)
        with self._lock:
            known = total(self._blocks.get(name, ()))
        if not known.scores:
            return prior or Spread(0.0, 0.0)
        mean, square = known.total / known.scores, known.squares / known.scores
        if prior is not None:
            share = known.scores / (known.scores + PRIOR_SCORES)
            mean = share * mean + (1 - share) * prior.mean
            square = share * square + (1 - share) * (prior.deviation**2 + prior.mean**2)
        return Spread(mean, math.sqrt(max(square - mean * mean, 0.0)))


def channel_name(channel: Channel, encoder: str | None) -> ChannelName:
    """Returns the name under which a channel's statistics are kept."""
    return str(channel) if encoder is None else f"{channel} by {encoder}"


def total(blocks: Sequence[ScoreSums] | deque[ScoreSums]) -> ScoreSums:
    """Returns the sums over all blocks."""
    return ScoreSums(
        sum(block.questions for block in blocks),
        sum(block.scores for block in blocks),
        math.fsum(block.total for block in blocks),
        math.fsum(block.squares for block in blocks),
    )
