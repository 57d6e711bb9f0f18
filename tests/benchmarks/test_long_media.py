from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from benchmarks import long_media as long
from benchmarks.long_media import LongPlan, bench_long
from penstock.media.av.audio import AudioTrack
from tools.reference_models.speech_synthesis import RATE_HZ


def test_clips_are_three_seconds_of_different_sentences() -> None:
    clips = [long._clip(number) for number in range(4)]
    assert {len(clip) for clip in clips} == {3 * RATE_HZ}
    assert len({clip.tobytes() for clip in clips}) == 4


def test_the_recording_lasts_as_long_as_it_should(tmp_path: Path) -> None:
    file = long._write(tmp_path / "talk.ogg", long._talk(20.0))
    with closing(AudioTrack(file)) as sound:
        heard_s = sum(len(block.samples) for block in sound.blocks()) / RATE_HZ
    assert 20.0 <= heard_s < 26.0


@pytest.mark.services
@pytest.mark.exhaustive
def test_clips_and_a_recording_are_measured() -> None:
    lines: list[str] = []
    figures = bench_long(LongPlan("null:8", minutes=10.0, clips=10, per_s=5.0), lines.append)
    assert 0 < figures["clips_alone_p95_s"] < 30
    assert figures["clips_ratio"] == pytest.approx(figures["clips_beside_p95_s"] / figures["clips_alone_p95_s"])
    assert 0 < figures["long_minutes_beside"] < 10
    assert figures["long_peak_mb"] > 100
