"""Takes the value of a hit apart: what each channel adds to it.

Every scale combines the values of channels by a sum with weights and a constant. So both follow from what it makes of
the reference value alone, and of one value above it at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from penstock.query.explanations import ChannelPart, CollectionPart
from penstock.query.fusion.normalise import Float64
from penstock.query.fusion.scales import ChannelShares, Scale
from penstock.query.fusion.tables import CollectionTable
from penstock.query.types import ChannelHit, Hit, MomentMember


@dataclass(frozen=True, slots=True)
class CollectionParts:
    """Takes values of one collection apart.

    Args:
        table: its entries, n in number.
        scale: that combined the values.
        shares: of its channels.
        values: float64[channels, n].
    """

    table: CollectionTable
    scale: Scale
    shares: ChannelShares
    values: Float64

    def of(self, members: Sequence[MomentMember]) -> CollectionPart | None:
        """Returns the value of these entries, of which each channel's best one counts; None if none is in the table."""
        table, scale = self.table, self.scale
        columns = [table.column(member.entry.id) for member in members]
        present = [column for column in columns if column is not None]
        if not present:
            return None
        reference = scale.reference(table.collection)
        values = self.values[:, present].max(axis=1)
        size = len(table.channels)
        probes = np.full((size, size + 1), reference)
        probes[:, 1:] += np.eye(size)
        constant, *above = scale.combine(table.collection, table.channels, probes, self.shares).tolist()
        hits = best_hits(members)
        parts = []
        for channel, value, raised in zip(table.channels, values.tolist(), above, strict=True):
            hit, weight = hits.get(str(channel)), raised - constant
            parts.append(
                ChannelPart(
                    channel,
                    hit.rank if hit else None,
                    hit.score if hit else None,
                    value,
                    weight,
                    weight * (value - reference),
                )
            )
        value = constant + sum(part.part for part in parts)
        return CollectionPart(table.collection, tuple(parts), constant, value, value)


def members_of(hit: Hit) -> Sequence[MomentMember]:
    """Returns the entries of a hit with the channels that found each."""
    return hit.moment.members if hit.moment is not None else (MomentMember(hit.entry, hit.found_by),)


def best_hits(members: Sequence[MomentMember]) -> dict[str, ChannelHit]:
    """Returns the best rank that each channel gave one of these entries, by the name of the channel."""
    best: dict[str, ChannelHit] = {}
    for hit in (hit for member in members for hit in member.found_by):
        name = str(hit.channel)
        if name not in best or hit.rank < best[name].rank:
            best[name] = hit
    return best
