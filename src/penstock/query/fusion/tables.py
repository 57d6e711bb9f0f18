"""The rankings of the channels of one collection as one table, and its rows as candidates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence, Set
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from penstock.query.fusion.base import Candidate, channel_order
from penstock.query.fusion.normalise import Float64
from penstock.query.fusion.scales import Scale
from penstock.query.types import ChannelHit, MomentMember, Rankings
from penstock.records import Channel, Collection, Entry

Int64: TypeAlias = NDArray[np.int64]


class CollectionTable:
    """Arranges what each channel of one collection returned.

    Args:
        channels: of the collection, in the order of `channel_order`.
        rankings: the entries of these channels.

    Attributes:
        collection: of all channels.
        channels: as given.
        entries: those that any channel returned, n in number: those of the first channel by rank, then the further ones
            of the second by rank, and so on.
        ranks: int64[channels, n], from 1; 0 where a channel did not return an entry.
    """

    def __init__(self, channels: Sequence[Channel], rankings: Rankings) -> None:
        self.collection: Collection = channels[0].collection
        self.channels = channels
        self.entries: list[Entry] = []
        self._columns: list[Int64] = []
        self._scores: list[list[float]] = []
        self._column_of: dict[str, int] = {}
        column_of = self._column_of
        for channel in channels:
            columns, scores = [], []
            for scored in rankings.by_channel[channel]:  # fifty times for each channel: the hot loop of a fusion
                entry = scored.entry
                column = column_of.get(entry.id)
                if column is None:
                    column = column_of[entry.id] = len(self.entries)
                    self.entries.append(entry)
                columns.append(column)
                scores.append(scored.score)
            self._columns.append(np.array(columns, np.int64))
            self._scores.append(scores)
        self.ranks: Int64 = np.zeros((len(channels), len(self.entries)), np.int64)
        for row, columns_of_channel in enumerate(self._columns):
            self.ranks[row, columns_of_channel] = np.arange(1, len(columns_of_channel) + 1)

    def column(self, entry_id: str) -> int | None:
        """Returns the column of an entry; None if no channel returned it."""
        return self._column_of.get(entry_id)

    def values(self, scale: Scale, bonus: Set[Channel] = frozenset()) -> Float64:
        """Returns float64[channels, n], the scores of all entries on a scale.

        Args:
            scale: of the values.
            bonus: channels whose values are distances from an entry that they did not return.
        """
        values = np.empty(self.ranks.shape)
        for row, channel in enumerate(self.channels):
            on_scale = scale.values(channel, np.array(self._scores[row], np.float64))
            zero = on_scale.absent if channel in bonus else 0.0
            values[row] = on_scale.absent - zero
            values[row, self._columns[row]] = on_scale.returned - zero if zero else on_scale.returned
        return values

    def order(self, scores: Float64) -> Int64:
        """Returns the columns by score, best first; at equal scores by rank in the most important channel.

        The columns have that second order already.
        """
        return np.argsort(-scores, kind="stable")

    def candidate(self, column: int, score: float) -> Candidate:
        """Returns one entry as a candidate."""
        found_by = tuple(
            ChannelHit(channel, rank, scores[rank - 1])
            for channel, rank, scores in zip(self.channels, self.ranks[:, column].tolist(), self._scores, strict=True)
            if rank
        )
        return Candidate((MomentMember(self.entries[column], found_by),), found_by, score)


def collection_tables(rankings: Rankings) -> list[CollectionTable]:
    """Returns the table of each collection that a channel answered for, in the order of the collections' names."""
    channels_of: dict[Collection, list[Channel]] = defaultdict(list)
    for channel in sorted(rankings.by_channel, key=channel_order):
        channels_of[channel.collection].append(channel)
    return [CollectionTable(channels, rankings) for channels in channels_of.values()]
