from __future__ import annotations

import itertools

import numpy as np
import pytest

from penstock.errors import ConfigError
from tools.reference_models.speech_synthesis import RATE_HZ, SpeechSynthesizer


def test_every_word_is_named_and_has_its_time() -> None:
    spoken = SpeechSynthesizer().synthesize("The red bicycle stands, beside the old bridge.")
    assert [word.text for word in spoken.words] == ["The", "red", "bicycle", "stands", "beside", "the", "old", "bridge"]
    assert all(first.end_s == second.start_s for first, second in itertools.pairwise(spoken.words))
    assert spoken.words[-1].end_s == spoken.duration_s
    assert 2 < spoken.duration_s < 5


def test_phonemes_fill_the_time_of_their_words() -> None:
    spoken = SpeechSynthesizer().synthesize("two foxes")
    assert all(first.end_s <= second.start_s + 1e-9 for first, second in itertools.pairwise(spoken.phonemes))
    of_second_word = [phoneme.text for phoneme in spoken.phonemes if phoneme.start_s >= spoken.words[1].start_s - 0.01]
    assert of_second_word[0] == "f"
    assert len(spoken.phonemes) >= 7


def test_the_audio_is_sixteen_kilohertz_mono_and_not_clipped() -> None:
    samples = SpeechSynthesizer().synthesize("A heron waits in the river.").samples
    assert samples.dtype == np.float32
    assert 0.1 < np.abs(samples).max() <= 1
    spectrum = np.abs(np.fft.rfft(samples)) ** 2
    hertz = np.fft.rfftfreq(len(samples), 1 / RATE_HZ)
    assert spectrum[hertz > 7_800].sum() < 0.01 * spectrum.sum()


def test_a_slower_voice_takes_longer() -> None:
    text = "A heron waits in the river."
    slow, quick = (SpeechSynthesizer(words_per_minute=rate).synthesize(text).duration_s for rate in (110, 200))
    assert slow > 1.3 * quick


def test_an_unknown_voice_is_refused() -> None:
    with pytest.raises(ConfigError, match="no voice 'nobody'"):
        SpeechSynthesizer("nobody")


def test_words_that_are_spoken_as_one_are_reported_one_by_one() -> None:
    text = "in the desert the penguin dances with the rabbit"
    spoken = SpeechSynthesizer().synthesize(text)
    assert " ".join(word.text for word in spoken.words) == text
    assert all(first.start_s < first.end_s == second.start_s for first, second in itertools.pairwise(spoken.words))
    assert spoken.words[-1].end_s == spoken.duration_s
