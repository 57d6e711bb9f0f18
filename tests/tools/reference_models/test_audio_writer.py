from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import av
import numpy as np
import pytest

from penstock.media.av.audio import AudioTrack
from penstock.records import Float32
from tools.reference_models.audio_writer import write_speech
from tools.reference_models.speech_synthesis import RATE_HZ


def _written(file: Path, parts: Sequence[Float32]) -> Float32:
    with av.open(str(file), "w") as container:
        write_speech(container, container.add_stream("flac", rate=RATE_HZ, layout="mono"), parts)
    with closing(AudioTrack(file)) as sound:
        return np.concatenate([block.samples for block in sound.blocks()])


@pytest.mark.parametrize("lengths", [[5_000], [1, 2, 3], [1_024, 1_024], [700, 700, 700, 9_999]])
def test_parts_of_any_length_come_one_after_the_other_and_whole(lengths: Sequence[int], tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    parts = [random.uniform(-0.5, 0.5, length).astype(np.float32) for length in lengths]
    np.testing.assert_allclose(_written(tmp_path / "speech.flac", parts), np.concatenate(parts), atol=2e-3)
