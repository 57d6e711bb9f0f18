from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from penstock.media.av.audio import RATE_HZ, Block
from penstock.media.av.vad import (
    FRAME_SAMPLES,
    MAX_WINDOW_SAMPLES,
    SileroVAD,
    SpeechSegmenter,
    SpeechWindow,
    VadOptions,
)
from penstock.records import Float32
from tools.reference_models.speech_synthesis import SpeechSynthesizer

FRAMES_PER_S = RATE_HZ / FRAME_SAMPLES


class ScriptedVAD(SileroVAD):
    """A detector that takes the probability of a frame from the value of its first sample."""

    def __init__(self) -> None:
        self.resets = 0

    def reset(self) -> None:
        self.resets += 1

    def probabilities(self, samples: Float32) -> Float32:
        probabilities: Float32 = samples.reshape(-1, FRAME_SAMPLES)[:, 0]
        return probabilities


def scripted(*parts: tuple[float, float]) -> Float32:
    """Returns samples for pairs of seconds and probability."""
    frames = [np.full(round(seconds * FRAMES_PER_S) * FRAME_SAMPLES, probability) for seconds, probability in parts]
    return np.concatenate(frames).astype(np.float32)


def windows(
    samples: Float32, *, detector: SileroVAD | None = None, options: VadOptions | None = None, block: int = 8_000
) -> list[SpeechWindow]:
    segmenter = SpeechSegmenter(detector or ScriptedVAD(), options or VadOptions())
    results: list[SpeechWindow] = []
    for start in range(0, len(samples), block):
        results += segmenter.add(Block(start, samples[start : start + block]))
    return results + list(segmenter.end())


def end(window: SpeechWindow) -> int:
    return window.start + len(window.samples)


def spans_s(results: Sequence[SpeechWindow]) -> list[tuple[float, float]]:
    return [(window.start / RATE_HZ, end(window) / RATE_HZ) for window in results]


# --- the options, with a scripted detector ----------------------------------------------------------------------------


def test_a_short_pause_stays_inside_a_window_and_a_longer_one_ends_it() -> None:
    results = windows(scripted((2, 0), (1, 0.9), (1.5, 0), (1, 0.9), (3, 0), (1, 0.9), (1, 0)))
    assert spans_s(results) == [pytest.approx((1.8, 5.7), abs=0.05), pytest.approx((8.3, 9.7), abs=0.05)]


def test_a_frame_between_the_two_thresholds_neither_starts_speech_nor_ends_it() -> None:
    assert windows(scripted((5, 0.45))) == []
    assert spans_s(windows(scripted((1, 0), (1, 0.9), (4, 0.45), (1, 0.9), (3, 0)))) == [
        pytest.approx((0.8, 7.2), abs=0.05)
    ]


def test_a_click_is_no_speech() -> None:
    assert windows(scripted((1, 0), (0.064, 0.9), (3, 0))) == []


def test_padded_windows_never_overlap() -> None:
    options = VadOptions(min_silence_ms=100, pad_ms=200)
    results = windows(scripted((1, 0.9), (0.2, 0), (1, 0.9), (1, 0)), options=options)
    assert len(results) == 2
    assert end(results[0]) <= results[1].start


def test_speech_without_a_pause_is_cut_where_it_was_weakest() -> None:
    results = windows(scripted((20, 0.9), (0.3, 0.5), (30, 0.9), (3, 0)))
    assert end(results[0]) == pytest.approx(20.2 * RATE_HZ, abs=0.2 * RATE_HZ)
    assert all(len(window.samples) <= MAX_WINDOW_SAMPLES for window in results)
    assert all(end(window) == after.start for window, after in itertools.pairwise(results))
    assert sum(len(window.samples) for window in results) == pytest.approx(50.5 * RATE_HZ, abs=0.1 * RATE_HZ)


def test_speech_up_to_the_end_is_in_a_window() -> None:
    samples = scripted((1, 0), (2, 0.9))[:-300]
    results = windows(samples)
    assert end(results[-1]) == len(samples)


@pytest.mark.parametrize("quiet_s", [0.992, 1.024, 1.216])
def test_a_word_that_has_just_begun_is_whole_after_resuming(quiet_s: float) -> None:
    samples = scripted((quiet_s, 0), (1, 0.9), (3, 0))
    before = SpeechSegmenter(ScriptedVAD(), VadOptions())
    assert not list(before.add(Block(0, samples[:RATE_HZ])))
    resume = before.resume_sample
    after = SpeechSegmenter(ScriptedVAD(), VadOptions(), start=resume)
    assert after.resume_sample == resume
    [window] = [*after.add(Block(resume, samples[resume:])), *after.end()]
    [whole] = windows(samples)
    assert window.start == pytest.approx(whole.start, abs=FRAME_SAMPLES)
    assert len(window.samples) == pytest.approx(len(whole.samples), abs=FRAME_SAMPLES)


def test_reading_resumes_at_the_end_of_the_latest_window() -> None:
    segmenter = SpeechSegmenter(ScriptedVAD(), VadOptions(min_silence_ms=100, pad_ms=200))
    results = list(segmenter.add(Block(0, scripted((1, 0.9), (0.128, 0)))))
    assert segmenter.resume_sample == end(results[0]), "a window that was returned is not returned again"


def test_a_gap_ends_a_window_and_resets_the_detector() -> None:
    detector, samples = ScriptedVAD(), scripted((1, 0.9))
    segmenter = SpeechSegmenter(detector, VadOptions())
    results = [*segmenter.add(Block(0, samples)), *segmenter.add(Block(10 * RATE_HZ, samples)), *segmenter.end()]
    assert spans_s(results) == [pytest.approx((0, 1), abs=0.05), pytest.approx((10, 11), abs=0.05)]
    assert detector.resets == 2


@pytest.mark.parametrize("block", [1, 500, 7_777, 10**9])
def test_the_windows_do_not_depend_on_the_blocks(block: int) -> None:
    samples = scripted((0.5, 0), (1, 0.9), (2.5, 0), (0.7, 0.6), (0.5, 0))
    expected = windows(samples)
    results = windows(samples, block=block)
    assert spans_s(results) == spans_s(expected)
    assert all(np.array_equal(window.samples, other.samples) for window, other in zip(results, expected, strict=True))


def test_samples_that_no_window_can_contain_are_dropped() -> None:
    segmenter, quiet = SpeechSegmenter(ScriptedVAD(), VadOptions()), scripted((1, 0))
    for second in range(100):
        assert list(segmenter.add(Block(second * len(quiet), quiet))) == []
    assert len(segmenter._samples) < RATE_HZ


# --- with the real detector -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def detector() -> SileroVAD:
    return SileroVAD()


def hiss(seconds: float) -> Float32:
    return (np.random.default_rng(0).standard_normal(round(seconds * RATE_HZ)) * 0.001).astype(np.float32)


def test_windows_have_the_times_of_the_speech(detector: SileroVAD) -> None:
    first = SpeechSynthesizer().synthesize("The red bicycle stands beside the old bridge.").samples
    second = SpeechSynthesizer("en").synthesize("A heron waits in the river.").samples
    results = windows(np.concatenate([hiss(3), first, hiss(4), second, hiss(5)]), detector=detector)
    begins_s = (3, 7 + len(first) / RATE_HZ)
    ends_s = (begins_s[0] + len(first) / RATE_HZ, begins_s[1] + len(second) / RATE_HZ)
    assert spans_s(results) == [pytest.approx(span, abs=0.35) for span in zip(begins_s, ends_s, strict=True)]


@pytest.mark.parametrize("kind", ["silence", "hiss", "noise", "tone"])
def test_other_audio_has_no_windows(kind: str, detector: SileroVAD) -> None:
    times_s = np.arange(20 * RATE_HZ) / RATE_HZ
    noises = {
        "silence": np.zeros_like(times_s),
        "hiss": hiss(20),
        "noise": np.random.default_rng(1).standard_normal(len(times_s)) * 0.1,
        "tone": 0.3 * np.sin(2 * np.pi * 440 * times_s) * (1 + np.sin(2 * np.pi * 3 * times_s)),
    }
    assert windows(noises[kind].astype(np.float32), detector=detector) == []


def test_probabilities_are_the_same_in_one_call_and_in_many(detector: SileroVAD) -> None:
    samples = SpeechSynthesizer().synthesize("One piece or many, it is the same sound.").samples
    samples = samples[: len(samples) // FRAME_SAMPLES * FRAME_SAMPLES]
    detector.reset()
    whole = detector.probabilities(samples)
    detector.reset()
    pieces = [
        detector.probabilities(samples[start : start + 3 * FRAME_SAMPLES])
        for start in range(0, len(samples), 3 * FRAME_SAMPLES)
    ]
    assert np.allclose(whole, np.concatenate(pieces), atol=1e-4)
    assert whole.max() > 0.9
