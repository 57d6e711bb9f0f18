"""Mixes two channels to one, where they do not cancel each other out."""

from __future__ import annotations

from penstock.records import Float32

# A microphone wired the wrong way round makes the right channel the negative of the left one, and their mean silence.
# Two voices or two microphones in a room have at least a half of the louder channel's power in their mean.
_CANCELLED = 0.05  # the share of the louder channel's power below which the mean is not used,
_RESTORED = 0.15  # and above which it is used again


class MonoMix:
    """Turns stereo into mono: the mean of both channels, or the louder one where their mean cancels out.

    It decides by pieces of a quarter of a second. The louder channel does no harm where they cancel out by chance.
    """

    def __init__(self) -> None:
        self._cancelled = False

    def mono(self, samples: Float32) -> Float32:
        """Returns float32[n] of float32[n, channels]. One channel remains as it is."""
        if samples.shape[1] == 1:
            return samples[:, 0]
        mean: Float32 = samples.mean(axis=1)
        left, right, mixed = (float((channel**2).sum()) for channel in (samples[:, 0], samples[:, 1], mean))
        self._cancelled = mixed < (_RESTORED if self._cancelled else _CANCELLED) * max(left, right)
        if not self._cancelled:
            return mean
        return samples[:, 0] if left >= right else samples[:, 1]
