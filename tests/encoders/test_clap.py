from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from penstock.encoders.base import Fingerprint, Space
from penstock.encoders.batched_encoder import EncoderOptions
from penstock.encoders.clap import ClapAudioEncoder, ClapTextEncoder
from penstock.encoders.profiles import SOUND_AUDIO, SOUND_TEXT, SoundSpec
from penstock.encoders.weights import FolderWeights
from penstock.errors import ConfigError
from penstock.records import EncoderInput, Float32
from tests.encoders.tiny_models import CLAP_DIM, save_clap

OPTIONS = EncoderOptions("cpu", "fp32", cache_size=0, max_items=4)
FINGERPRINT = Fingerprint("tiny/clap", "0" * 16, "0" * 16)


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> SoundSpec:
    folder = tmp_path_factory.mktemp("clap")
    save_clap(folder)
    return spec_of(folder, CLAP_DIM)


def spec_of(folder: Path, dim: int) -> SoundSpec:
    source = FolderWeights(folder, "model.safetensors")
    return SoundSpec("tiny/clap", source, Space("clap", dim), "clap", window_ms=10_000, hop_ms=10_000)


def noise(seed: int, seconds: float) -> Float32:
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * 16_000)).astype(np.float32)


def waveforms(*items: Float32) -> EncoderInput:
    return EncoderInput(SOUND_AUDIO, tuple(f"{number}" for number in range(len(items))), waveforms=items)


def test_windows_and_texts_have_vectors_of_one_space(spec: SoundSpec) -> None:
    audio, text = ClapAudioEncoder(spec, FINGERPRINT, OPTIONS), ClapTextEncoder(spec, FINGERPRINT, OPTIONS)
    sounds = audio.encode(waveforms(noise(1, 10), noise(2, 0.6)))
    written = text.encode(EncoderInput(SOUND_TEXT, ("a", "b"), texts=("a dog barks", "rain " * 500)))
    for encoded in (sounds, written):
        assert encoded.vectors.shape == (2, CLAP_DIM)
        assert np.linalg.norm(encoded.vectors, axis=1) == pytest.approx(1, abs=1e-5)
        assert not encoded.failed


def test_a_window_has_one_vector_whatever_is_beside_it(spec: SoundSpec) -> None:
    encoder = ClapAudioEncoder(spec, FINGERPRINT, OPTIONS)
    alone = encoder.encode(waveforms(noise(1, 3))).vectors[0]
    together = encoder.encode(waveforms(noise(1, 3), noise(2, 9), noise(3, 1))).vectors[0]
    np.testing.assert_allclose(alone, together, atol=1e-4)


def test_other_inputs_and_other_lengths_are_refused(spec: SoundSpec) -> None:
    with pytest.raises(ConfigError, match="takes 1 waveforms and got 0"):
        ClapAudioEncoder(spec, FINGERPRINT, OPTIONS).encode(EncoderInput(SOUND_AUDIO, ("a",), texts=("a",)))
    assert isinstance(spec.source, FolderWeights)
    with pytest.raises(ConfigError, match=f"set dim = {CLAP_DIM} in the profile"):
        ClapTextEncoder(spec_of(spec.source.folder, 7), FINGERPRINT, OPTIONS)
