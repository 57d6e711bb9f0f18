"""Speech of many short clips: windows of all of them in one batch, beside faster-whisper's own pipeline file by file.

The same loaded model, sound and beam for both; each finds the speech first, by the same detector.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any, TypeAlias

import numpy as np

from benchmarks.statistics import median
from penstock.encoders.load import load_transcriber
from penstock.encoders.profiles import load_profile
from penstock.encoders.whisper import DecodingOptions, WhisperTranscriber
from penstock.errors import ConfigError
from penstock.media.av.audio import AudioTrack, Block
from penstock.media.av.vad import SileroVAD, SpeechSegmenter, SpeechWindow, VadOptions
from penstock.records import Float32, Modality
from penstock.samples.timed_media import sample_timed_media

Reporter: TypeAlias = Callable[[str], None]

CLIPS = 40
_MIN_GAIN = 0.7  # gain: so that no clip is another's copy


def bench_transcription(profile: str, *, clips: int, rounds: int, threads: int, report: Reporter) -> dict[str, Any]:
    """Clips per second both ways, medians of interleaved rounds, and words that were heard of all that were spoken.

    Raises:
        ConfigError: the profile has no speech model that faster-whisper runs, or its weights are not to be had.
    """
    transcriber = load_transcriber(load_profile(profile), threads=threads or os.cpu_count())
    if not isinstance(transcriber, WhisperTranscriber):
        raise ConfigError(f"profile {profile} hears hashes; take reference, small or gpu")
    sounds = _clips(clips)
    ways: dict[str, Callable[[], int]] = {
        "across files": lambda: _across(transcriber, sounds),
        "file by file": lambda: _by_file(transcriber, sounds),
    }
    took: dict[str, list[float]] = {way: [] for way in ways}
    words: dict[str, int] = {}
    for number in range(rounds + 1):  # the first warms up
        for way, hear in ways.items():
            began_s = time.perf_counter()
            words[way] = hear()
            if number:
                took[way].append(time.perf_counter() - began_s)
        if number:
            told = ", ".join(f"{clips / seconds[-1]:.1f} clips/s {way}" for way, seconds in took.items())
            report(f"round {number}: {told}")
    across_s, by_file_s = (median(seconds) for seconds in took.values())
    ratios = [slow / fast for fast, slow in zip(*took.values(), strict=True)]
    return {
        "hearing_across_per_s": clips / across_s,
        "hearing_by_file_per_s": clips / by_file_s,
        "hearing_ratio": median(ratios),
        "hearing_words": words,
    }


def _clips(count: int) -> list[Float32]:
    """The shipped clips, each again and again a little more quietly: float32[n] at 16 kHz."""
    samples = sample_speech()
    gains = np.linspace(1.0, _MIN_GAIN, count, dtype=np.float32)
    return [samples[number % len(samples)] * gain for number, gain in enumerate(gains)]


def sample_speech() -> list[Float32]:
    """The clips that ship with the package: float32[n] at 16 kHz."""
    return [_samples(recording.file) for recording in sample_timed_media() if recording.modality is Modality.AUDIO]


def _samples(file: Any) -> Float32:
    with closing(AudioTrack(file)) as sound:
        return np.concatenate([block.samples for block in sound.blocks()])


def _across(transcriber: WhisperTranscriber, sounds: Sequence[Float32]) -> int:
    """As the pipeline does it: windows of all clips to the transcriber at once. Returns the words."""
    detector, rules = SileroVAD(), VadOptions()
    windows: list[SpeechWindow] = []
    for samples in sounds:
        finder = SpeechSegmenter(detector, rules)
        windows += [*finder.add(Block(0, samples)), *finder.end()]
    heard = transcriber.transcribe([window.samples for window in windows])
    return sum(len(segment.text.split()) for transcript in heard for segment in transcript.segments)


def _by_file(transcriber: WhisperTranscriber, sounds: Sequence[Float32]) -> int:
    """One clip after the other through faster-whisper's batched pipeline. Returns the words."""
    from faster_whisper import BatchedInferencePipeline

    pipeline = BatchedInferencePipeline(transcriber.model)
    words = 0
    for samples in sounds:
        segments, _ = pipeline.transcribe(
            samples, language="en", beam_size=DecodingOptions().beam_size, without_timestamps=False, vad_filter=True
        )
        words += sum(len(segment.text.split()) for segment in segments)
    return words
