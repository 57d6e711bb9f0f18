"""Early fusion: α·text + (1-α)·image, for what has a text and an image in one space.

The fused vector of such a thing is α·t + (1-α)·v, and its inner product with a query q is α·(q·t) + (1-α)·(q·v). So the
cosines of the channels are enough, and no fused vectors need to be stored. It applies where two channels of one space
score the same thing: speech and frames of a moment in a profile whose sentence encoder and image encoder share a space,
or two fields of one entry. Texts, images and audio have one side only, whose cosine counts alone.

A side that its channel did not return has at most the lowest score that the channel returned, and counts with it.
BM25 and sounds have no place in the space: what only these found ranks as not returned by the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from penstock.query.explanations import Combined
from penstock.query.fusion.normalise import Float64
from penstock.query.fusion.scales import ChannelShares, ChannelValues, with_lowest
from penstock.records import TEXT_COLLECTIONS, TIMED_COLLECTIONS, VISUAL_COLLECTIONS, Channel, Collection, Field

LOWEST_COSINE = -1.0


class EarlyScale:
    """A `Scale` of cosines in one space.

    Args:
        alpha: the share of the text, 0 to 1.
        space: as `shared_space` returns it.
        spaces: the space of each channel.
    """

    evidence = False
    silence_counts = True
    moments_combined = Combined.MIX

    def __init__(self, alpha: float, space: str, spaces: Mapping[Channel, str]) -> None:
        self._alpha = alpha
        self._space = space
        self._spaces = spaces

    def reference(self, collection: Collection) -> float:
        """See `Scale.reference`."""
        return 0.0

    def values(self, channel: Channel, scores: Float64) -> ChannelValues:
        """See `Scale.values`."""
        return ChannelValues(scores, float(scores.min()) if scores.size else LOWEST_COSINE)

    def combine(
        self, collection: Collection, channels: Sequence[Channel], values: Float64, shares: ChannelShares
    ) -> Float64:
        """See `Scale.combine`; the shares do not count."""
        rows = {channel.field: row for row, channel in enumerate(channels) if self._in_space(channel)}
        text, image = rows.get(Field.PASSAGE), rows.get(Field.JOINT)
        if text is not None and image is not None:
            return self._mix(values[text], values[image])
        row = image if text is None else text
        lowest = np.full(values.shape[1], LOWEST_COSINE)
        return lowest if row is None else np.asarray(values[row])

    def combine_moments(self, collections: Sequence[Collection], scores: Float64) -> Float64:
        """See `Scale.combine_moments`."""
        known = with_lowest(scores)
        in_space = {channel.collection for channel in self._spaces if self._in_space(channel)}
        rows = [row for row, collection in enumerate(collections) if collection in in_space]
        text = next((row for row in rows if collections[row] in TEXT_COLLECTIONS), None)
        image = next((row for row in rows if collections[row] in VISUAL_COLLECTIONS), None)
        if text is not None and image is not None:
            return self._mix(known[text], known[image])
        row = next((row for row in (text, image, *rows) if row is not None), None)
        return np.full(scores.shape[1], LOWEST_COSINE) if row is None else np.asarray(known[row])

    def _mix(self, text: Float64, image: Float64) -> Float64:
        return np.asarray(self._alpha * text + (1 - self._alpha) * image)

    def _in_space(self, channel: Channel) -> bool:
        return self._spaces[channel] == self._space


def shared_space(spaces: Mapping[Channel, str]) -> str | None:
    """Returns the space in which something has a text and an image; None if there is none.

    Args:
        spaces: of the channels of a query.
    """
    for channel, space in sorted(spaces.items()):
        if channel.field is Field.PASSAGE:
            partners = [channel.collection, *(TIMED_COLLECTIONS if channel.collection in TIMED_COLLECTIONS else ())]
            if any(spaces.get(Channel(collection, Field.JOINT)) == space for collection in partners):
                return space
    return None
