"""Chooses an index: the cheapest whose recall meets the target in every direction of every channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from penstock.config import VectorIndexSettings
from penstock.tune.measure import Point, index_name


@dataclass(frozen=True, slots=True)
class IndexCandidate:
    """One setting of index and search, with what it gave in every channel.

    Attributes:
        index: the setting.
        points: one for each channel.
    """

    index: VectorIndexSettings
    points: Sequence[Point]

    @property
    def name(self) -> str:
        """The index in words."""
        return index_name(self.index)

    @property
    def least_recall(self) -> float:
        """The recall of the direction that it serves worst."""
        return min(point.least_recall for point in self.points)

    @property
    def cost_ms(self) -> float:
        """The median search of the slowest direction."""
        return max(point.cost_ms for point in self.points)

    @property
    def bytes(self) -> int:
        """The bytes of a vector, of the channels together."""
        return sum(point.bytes for point in self.points)

    def recalls(self) -> Mapping[str, float]:
        """Returns the recall of every direction by its name."""
        return {name: figures.recall for point in self.points for name, figures in point.figures.items()}


def candidates(points: Sequence[Point]) -> list[IndexCandidate]:
    """Returns the settings that were tried in every channel, in the order of the first one.

    All channels share the settings of the index, so one that was not tried somewhere cannot be chosen.
    """
    channels = list(dict.fromkeys(point.channel for point in points))
    by_index: dict[VectorIndexSettings, list[Point]] = {}
    for point in points:
        by_index.setdefault(point.index, []).append(point)
    return [IndexCandidate(index, of_index) for index, of_index in by_index.items() if len(of_index) == len(channels)]


def cheapest(tried: Sequence[IndexCandidate], target_recall: float) -> IndexCandidate | None:
    """Returns the fastest candidate that meets the target in every direction, and at equal time the smallest.

    Times that differ by less than a tenth are equal: two runs of the same search differ by that.

    Returns:
        None if none meets it; FLAT always does.
    """
    meeting = [candidate for candidate in tried if candidate.least_recall >= target_recall]
    if not meeting:
        return None
    fastest_ms = min(candidate.cost_ms for candidate in meeting)
    close = [candidate for candidate in meeting if candidate.cost_ms <= 1.1 * fastest_ms]
    return min(close, key=lambda candidate: (candidate.bytes, candidate.cost_ms, candidate.name))


def pareto_front(tried: Sequence[IndexCandidate]) -> list[IndexCandidate]:
    """Returns the candidates that no other beats in both recall and time, by ascending time."""
    front: list[IndexCandidate] = []
    for candidate in sorted(tried, key=lambda point: (point.cost_ms, -point.least_recall)):
        if not front or candidate.least_recall > front[-1].least_recall:
            front.append(candidate)
    return front
