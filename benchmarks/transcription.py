"""Measures transcription of many short clips: all windows in one batch, and faster-whisper's pipeline file by file.

Both use the same loaded model, audio and beam size, and detect the speech first with the same detector.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from benchmarks.statistics import median
from penstock.cpus import usable_cpus
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
_MIN_GAIN = 0.7  # gain: makes every clip differ


def bench_transcription(profile: str, *, clips: int, rounds: int, threads: int, report: Reporter) -> dict[str, Any]:
    """Measures clips per second both ways, as medians of interleaved rounds, and the number of words transcribed.

    Raises:
        ConfigError: the profile has no speech model that faster-whisper runs, or its weights are not available.
    """
    transcriber = load_transcriber(load_profile(profile), threads=threads or usable_cpus())
    if not isinstance(transcriber, WhisperTranscriber):
        raise ConfigError(f"profile {profile} transcribes by hashes; use reference, small or gpu")
    waveforms = _clips(clips)
    ways: dict[str, Callable[[], int]] = {
        "across files": lambda: _across(transcriber, waveforms),
        "file by file": lambda: _by_file(transcriber, waveforms),
    }
    elapsed_s: dict[str, list[float]] = {way: [] for way in ways}
    words: dict[str, int] = {}
    for number in range(rounds + 1):  # the first warms up
        for way, transcribe in ways.items():
            began_s = time.perf_counter()
            words[way] = transcribe()
            if number:
                elapsed_s[way].append(time.perf_counter() - began_s)
        if number:
            rates = ", ".join(f"{clips / seconds[-1]:.1f} clips/s {way}" for way, seconds in elapsed_s.items())
            report(f"round {number}: {rates}")
    across_s, by_file_s = (median(seconds) for seconds in elapsed_s.values())
    ratios = [slow / fast for fast, slow in zip(*elapsed_s.values(), strict=True)]
    return {
        "hearing_across_per_s": clips / across_s,
        "hearing_by_file_per_s": clips / by_file_s,
        "hearing_ratio": median(ratios),
        "hearing_words": words,
    }


def _clips(count: int) -> list[Float32]:
    """Returns the shipped clips, repeated at a falling gain: float32[n] at 16 kHz."""
    samples = sample_speech()
    gains = np.linspace(1.0, _MIN_GAIN, count, dtype=np.float32)
    return [samples[number % len(samples)] * gain for number, gain in enumerate(gains)]


def sample_speech() -> list[Float32]:
    """Returns the audio clips that ship with the package: float32[n] at 16 kHz."""
    return [_samples(sample.file) for sample in sample_timed_media() if sample.modality is Modality.AUDIO]


def _samples(file: Path) -> Float32:
    with closing(AudioTrack(file)) as track:
        return np.concatenate([block.samples for block in track.blocks()])


def _across(transcriber: WhisperTranscriber, waveforms: Sequence[Float32]) -> int:
    """Transcribes the windows of all clips in one call, as the pipeline does. Returns the number of words."""
    detector, options = SileroVAD(), VadOptions()
    windows: list[SpeechWindow] = []
    for samples in waveforms:
        segmenter = SpeechSegmenter(detector, options)
        windows += [*segmenter.add(Block(0, samples)), *segmenter.end()]
    transcripts = transcriber.transcribe([window.samples for window in windows])
    return sum(len(segment.text.split()) for transcript in transcripts for segment in transcript.segments)


def _by_file(transcriber: WhisperTranscriber, waveforms: Sequence[Float32]) -> int:
    """Transcribes one clip after the other with faster-whisper's batched pipeline. Returns the number of words."""
    from faster_whisper import BatchedInferencePipeline

    pipeline = BatchedInferencePipeline(transcriber.model)
    words = 0
    for samples in waveforms:
        segments, _ = pipeline.transcribe(
            samples, language="en", beam_size=DecodingOptions().beam_size, without_timestamps=False, vad_filter=True
        )
        words += sum(len(segment.text.split()) for segment in segments)
    return words
