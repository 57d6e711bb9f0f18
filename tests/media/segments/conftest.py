from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.records import Float32
from tests.media.segments.harness import DecoderHarness
from tools.reference_models.speech_synthesis import SpeechSynthesizer


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[DecoderHarness]:
    harness = DecoderHarness(tmp_path, first_segment_s=20, segment_s=15)
    yield harness
    harness.decoder.close()


@pytest.fixture(scope="session")
def spoken() -> Float32:
    return SpeechSynthesizer().synthesize("the captain carries a golden violin").samples
