"""The records that explain the place of a hit by channels, ranks and features of the question."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from penstock.records import Channel, Collection


class Combined(StrEnum):
    """Names how the values of the collections of a hit become its score."""

    SUM = "sum"  # the value of its one collection, weighted
    EITHER = "either"  # log Σ exp of the weighted values: either is right
    MEAN = "mean"  # their weighted mean, with the lowest value of a collection in which it was not found
    MIX = "mix"  # α·text + (1-α)·image
    RANK = "rank"  # by its rank among the hits of its kind
    PLACE = "place"  # by its place in the collection: there are calibrated scores within it and not across


@dataclass(frozen=True, slots=True)
class ChannelPart:
    """The part of one channel in the value of a hit.

    Attributes:
        channel: the channel.
        rank, score: as in `Hit.found_by`; None: it did not return the hit.
        value: the score on the scale of the fusion; of method rrf 1 / (k + rank).
        weight: of the channel within its collection.
        part: what it adds to the value of its collection.
    """

    channel: Channel
    rank: int | None
    score: float | None
    value: float
    weight: float
    part: float


@dataclass(frozen=True, slots=True)
class CollectionPart:
    """The value of a hit in one collection.

    Attributes:
        collection: the collection.
        channels: all that were searched and answered.
        constant: what any hit has there.
        value: the sum of the constant and all parts.
        weighted: the value with the weight of the collection.
    """

    collection: Collection
    channels: tuple[ChannelPart, ...]
    constant: float
    value: float
    weighted: float


@dataclass(frozen=True, slots=True)
class ScoreParts:
    """The value of a hit in each collection that found it, and how these become its score."""

    collections: tuple[CollectionPart, ...]
    combined: Combined


@dataclass(frozen=True, slots=True)
class HitExplanation:
    """The reasons for the place of a hit.

    Attributes:
        score_parts: what its score consists of.
        fused_score: from the fusion, before any step moved the hit.
        fused_rank: from 1, by the fusion; a promoted hit is first.
        reranked_rank: after reranking; None: nothing was reranked.
        rank: in the answer, counted over all pages.
        relevance_parts: what adds up to the log-odds of its relevance: each channel, `prior`, the features of the
            question, `cap` for what only a deeper search found, and `clicked` for what people chose; None: the
            relevance is not known.
    """

    score_parts: ScoreParts
    fused_score: float
    fused_rank: int
    reranked_rank: int | None
    rank: int
    relevance_parts: Mapping[str, float] | None = None

    def share(self, channel: Channel) -> float:
        """Returns the part of a channel in all that raises the hit, 0 to 1."""
        parts = {part.channel: max(part.part, 0.0) for value in self.score_parts.collections for part in value.channels}
        total = sum(parts.values())
        return parts.get(channel, 0.0) / total if total > 0 else 0.0
