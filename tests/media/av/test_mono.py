"""Two channels mixed to one."""

from __future__ import annotations

import numpy as np
import pytest

from penstock.media.av.mono import MonoMix
from penstock.records import Float32

RATE_HZ = 16_000
PIECE = RATE_HZ // 4


def voice(seconds: float, seed: int = 1) -> Float32:
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE_HZ)).astype(np.float32)


def mixed(left: Float32, right: Float32) -> Float32:
    mix, stereo = MonoMix(), np.stack([left, right], axis=1)
    return np.concatenate([mix.mono(stereo[start : start + PIECE]) for start in range(0, len(stereo), PIECE)])


def power(samples: Float32) -> float:
    return float((samples**2).mean())


@pytest.mark.parametrize("quieter", [0.95, 0.9, 0.7])
def test_a_channel_that_is_the_negative_of_the_other_does_not_silence_it(quieter: float) -> None:
    left = voice(3)
    assert np.array_equal(mixed(left, -quieter * left), left)
    assert np.array_equal(mixed(quieter * left, -left), -left)


@pytest.mark.parametrize("right", [voice(3), voice(3, seed=2), 0 * voice(3), 0.3 * voice(3, seed=3)])
def test_other_channels_are_averaged(right: Float32) -> None:
    left = voice(3)
    assert np.array_equal(mixed(left, right), (left + right) / 2)


def test_a_fault_of_phase_that_begins_and_ends_leaves_no_piece_silent() -> None:
    left = voice(9)
    right = left.copy()
    right[3 * RATE_HZ : 6 * RATE_HZ] *= -1
    mono = mixed(left, right)
    pieces = mono[: len(mono) // PIECE * PIECE].reshape(-1, PIECE)
    silent = [number for number, piece in enumerate(pieces) if power(piece) < 0.5 * power(left)]
    assert silent == []
    assert np.array_equal(mono[6 * RATE_HZ :], left[6 * RATE_HZ :])
