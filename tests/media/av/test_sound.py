from __future__ import annotations

import numpy as np

from penstock.media.av.audio import RATE_HZ, Block
from penstock.media.av.sound import SoundCutter, SoundOptions


def block(start_s: float, length_s: float, level: float = 0.5) -> Block:
    return Block(round(start_s * RATE_HZ), np.full(round(length_s * RATE_HZ), level, dtype=np.float32))


def spans(cutter: SoundCutter, end_s: float) -> list[tuple[float, float]]:
    windows = list(cutter.cut(round(end_s * RATE_HZ)))
    assert all(len(window.samples) == window.end - window.start for window in windows)
    return [(window.start / RATE_HZ, window.end / RATE_HZ) for window in windows]


def filled(length_s: float, hop_ms: int = 10_000, level: float = 0.5) -> SoundCutter:
    cutter = SoundCutter(SoundOptions(10_000, hop_ms))
    for start in np.arange(0.0, length_s, 0.5):
        cutter.add(block(start, min(0.5, length_s - start), level))
    return cutter


def test_audio_is_cut_into_windows_with_the_rest_as_a_shorter_one() -> None:
    assert spans(filled(25.0), 25.0) == [(0, 10), (10, 20), (20, 25)]
    assert spans(filled(0.2), 1.0) == [(0, 0.2)]


def test_a_rest_that_is_short_or_in_the_window_before_is_left_out() -> None:
    assert spans(filled(20.25), 30.0) == [(0, 10), (10, 20)]
    assert spans(filled(20.0, hop_ms=5_000), 30.0) == [(0, 10), (5, 15), (10, 20), (15, 20)]
    assert spans(filled(17.0, hop_ms=5_000), 30.0) == [(0, 10), (5, 15), (10, 17)]


def test_windows_end_with_the_segment_and_the_rest_waits_for_the_next_one() -> None:
    cutter = filled(30.0)
    assert spans(cutter, 12.0) == [(0, 10), (10, 12)]
    assert spans(cutter, 12.0) == []
    assert spans(cutter, 30.0) == [(12, 22), (22, 30)]


def test_a_gap_ends_a_window_and_costs_nothing() -> None:
    cutter = SoundCutter(SoundOptions(10_000, 10_000))
    cutter.add(block(0, 3))
    cutter.add(block(3_600, 4))
    assert spans(cutter, 4_000) == [(0, 3), (3_600, 3_604)]


def test_silence_has_no_windows() -> None:
    assert spans(filled(25.0, level=0.0005), 25.0) == []
