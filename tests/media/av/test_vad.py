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


class Scripted(SileroVAD):
    """A detector that says of each frame what it was told to say, and is told in the loudness of its samples."""

    def __init__(self) -> None:
        self.resets = 0

    def reset(self) -> None:
        self.resets += 1

    def probabilities(self, samples: Float32) -> Float32:
        found: Float32 = samples.reshape(-1, FRAME_SAMPLES)[:, 0]
        return found


def scripted(*parts: tuple[float, float]) -> Float32:
    """Samples of (seconds, probability)."""
    frames = [np.full(round(seconds * FRAMES_PER_S) * FRAME_SAMPLES, probability) for seconds, probability in parts]
    return np.concatenate(frames).astype(np.float32)


def windows(
    samples: Float32, *, detector: SileroVAD | None = None, rules: VadOptions | None = None, block: int = 8_000
) -> list[SpeechWindow]:
    finder = SpeechSegmenter(detector or Scripted(), rules or VadOptions())
    found: list[SpeechWindow] = []
    for start in range(0, len(samples), block):
        found += finder.add(Block(start, samples[start : start + block]))
    return found + list(finder.end())


def spans_s(found: Sequence[SpeechWindow]) -> list[tuple[float, float]]:
    return [(one.start / RATE_HZ, (one.start + len(one.samples)) / RATE_HZ) for one in found]


# --- the rules, with a detector that does as it is told ---------------------------------------------------------------


def test_a_pause_shorter_than_the_rule_stays_inside_and_a_longer_one_parts() -> None:
    found = windows(scripted((2, 0), (1, 0.9), (1.5, 0), (1, 0.9), (3, 0), (1, 0.9), (1, 0)))
    assert spans_s(found) == [pytest.approx((1.8, 5.7), abs=0.05), pytest.approx((8.3, 9.7), abs=0.05)]


def test_a_frame_between_the_two_thresholds_neither_begins_speech_nor_ends_it() -> None:
    assert windows(scripted((5, 0.45))) == []
    assert spans_s(windows(scripted((1, 0), (1, 0.9), (4, 0.45), (1, 0.9), (3, 0)))) == [
        pytest.approx((0.8, 7.2), abs=0.05)
    ]


def test_a_click_is_no_speech() -> None:
    assert windows(scripted((1, 0), (0.064, 0.9), (3, 0))) == []


def test_padding_never_hears_the_same_twice() -> None:
    rules = VadOptions(min_silence_ms=100, pad_ms=200)
    found = windows(scripted((1, 0.9), (0.2, 0), (1, 0.9), (1, 0)), rules=rules)
    assert len(found) == 2
    assert found[0].start + len(found[0].samples) <= found[1].start


def test_speech_without_a_pause_is_cut_where_it_was_weakest() -> None:
    found = windows(scripted((20, 0.9), (0.3, 0.5), (30, 0.9), (3, 0)))
    assert found[0].start + len(found[0].samples) == pytest.approx(20.2 * RATE_HZ, abs=0.2 * RATE_HZ)
    assert all(len(one.samples) <= MAX_WINDOW_SAMPLES for one in found)
    assert all(one.start + len(one.samples) == other.start for one, other in itertools.pairwise(found))
    assert sum(len(one.samples) for one in found) == pytest.approx(50.5 * RATE_HZ, abs=0.1 * RATE_HZ)


def test_who_speaks_to_the_end_is_heard_to_the_end() -> None:
    samples = scripted((1, 0), (2, 0.9))[:-300]
    found = windows(samples)
    assert found[-1].start + len(found[-1].samples) == len(samples)


@pytest.mark.parametrize("quiet_s", [0.992, 1.024, 1.216])
def test_a_word_that_has_just_begun_where_reading_was_left_is_whole_with_its_padding(quiet_s: float) -> None:
    samples = scripted((quiet_s, 0), (1, 0.9), (3, 0))
    first = SpeechSegmenter(Scripted(), VadOptions())
    assert not list(first.add(Block(0, samples[:RATE_HZ])))
    left = first.resume_sample
    then = SpeechSegmenter(Scripted(), VadOptions(), start=left)
    assert then.resume_sample == left
    [window] = [*then.add(Block(left, samples[left:])), *then.end()]
    [whole] = windows(samples)
    assert window.start == pytest.approx(whole.start, abs=FRAME_SAMPLES)
    assert len(window.samples) == pytest.approx(len(whole.samples), abs=FRAME_SAMPLES)


def test_what_was_heard_is_settled_but_for_the_padding_of_what_may_follow() -> None:
    finder = SpeechSegmenter(Scripted(), VadOptions(min_silence_ms=100, pad_ms=200))
    found = list(finder.add(Block(0, scripted((1, 0.9), (0.128, 0)))))
    assert finder.resume_sample == found[0].start + len(found[0].samples), "what is out does not come again"


def test_a_gap_ends_a_window_and_the_detector_begins_anew() -> None:
    detector, samples = Scripted(), scripted((1, 0.9))
    finder = SpeechSegmenter(detector, VadOptions())
    found = [*finder.add(Block(0, samples)), *finder.add(Block(10 * RATE_HZ, samples)), *finder.end()]
    assert spans_s(found) == [pytest.approx((0, 1), abs=0.05), pytest.approx((10, 11), abs=0.05)]
    assert detector.resets == 2


@pytest.mark.parametrize("block", [1, 500, 7_777, 10**9])
def test_how_the_sound_is_cut_into_blocks_changes_nothing(block: int) -> None:
    samples = scripted((0.5, 0), (1, 0.9), (2.5, 0), (0.7, 0.6), (0.5, 0))
    expected = windows(samples)
    found = windows(samples, block=block)
    assert spans_s(found) == spans_s(expected)
    assert all(np.array_equal(one.samples, other.samples) for one, other in zip(found, expected, strict=True))


def test_what_no_window_can_want_is_let_go() -> None:
    finder, quiet = SpeechSegmenter(Scripted(), VadOptions()), scripted((1, 0))
    for second in range(100):
        assert list(finder.add(Block(second * len(quiet), quiet))) == []
    assert finder.held_samples < RATE_HZ


# --- with the real detector -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def detector() -> SileroVAD:
    return SileroVAD()


def hiss(seconds: float) -> Float32:
    return (np.random.default_rng(0).standard_normal(round(seconds * RATE_HZ)) * 0.001).astype(np.float32)


def test_speech_is_found_where_it_is(detector: SileroVAD) -> None:
    first = SpeechSynthesizer().synthesize("The red bicycle stands beside the old bridge.").samples
    second = SpeechSynthesizer("en").synthesize("A heron waits in the river.").samples
    found = windows(np.concatenate([hiss(3), first, hiss(4), second, hiss(5)]), detector=detector)
    begins_s = (3, 7 + len(first) / RATE_HZ)
    ends_s = (begins_s[0] + len(first) / RATE_HZ, begins_s[1] + len(second) / RATE_HZ)
    assert spans_s(found) == [pytest.approx(span, abs=0.35) for span in zip(begins_s, ends_s, strict=True)]


@pytest.mark.parametrize("kind", ["silence", "hiss", "noise", "tone"])
def test_what_is_no_speech_has_no_windows(kind: str, detector: SileroVAD) -> None:
    times_s = np.arange(20 * RATE_HZ) / RATE_HZ
    sounds = {
        "silence": np.zeros_like(times_s),
        "hiss": hiss(20),
        "noise": np.random.default_rng(1).standard_normal(len(times_s)) * 0.1,
        "tone": 0.3 * np.sin(2 * np.pi * 440 * times_s) * (1 + np.sin(2 * np.pi * 3 * times_s)),
    }
    assert windows(sounds[kind].astype(np.float32), detector=detector) == []


def test_the_detector_hears_the_same_in_one_piece_and_in_many(detector: SileroVAD) -> None:
    samples = SpeechSynthesizer().synthesize("One piece or many, it is the same sound.").samples
    samples = samples[: len(samples) // FRAME_SAMPLES * FRAME_SAMPLES]
    detector.reset()
    at_once = detector.probabilities(samples)
    detector.reset()
    pieces = [
        detector.probabilities(samples[start : start + 3 * FRAME_SAMPLES])
        for start in range(0, len(samples), 3 * FRAME_SAMPLES)
    ]
    assert np.allclose(at_once, np.concatenate(pieces), atol=1e-4)
    assert at_once.max() > 0.9
