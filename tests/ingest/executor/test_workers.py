from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from penstock.config import Settings, load_settings
from penstock.encoders.base import Fingerprint
from penstock.encoders.deferred import DeferredEncoder, DeferredTranscriber
from penstock.encoders.null import NullTranscriber
from penstock.encoders.profiles import PASSAGE_TEXT, SPEECH
from penstock.errors import Reason
from penstock.ingest.executor.hosted_models import host_encoder, host_transcriber
from penstock.ingest.executor.workers import (
    EncodeWorkerFactory,
    MediaWorkerFactory,
    TranscribeWorker,
    known_good_events,
)
from penstock.records import TIMED_MODALITIES, Collection, EncoderInput, Float32, Modality, Transcript
from tests.ingest.builders import event


def test_the_known_good_event_of_every_modality_is_taken_by_healthy_workers(tmp_path: Path) -> None:
    settings = load_settings(profile="null", data_dir=tmp_path)
    worker = MediaWorkerFactory(settings)(0)
    for modality, sample in known_good_events(settings).items():
        if modality in TIMED_MODALITIES:
            continue
        role = "passage.text" if modality is Modality.TEXT else "joint.image"
        decoded, batch = worker.fetch_and_decode([sample], [role])
        assert (decoded.rejected, len(decoded.pending)) == ((), 1)
        assert EncodeWorkerFactory(settings, role)(0).encode(batch).failed == ()


def test_the_known_good_audio_and_video_use_all_workers_of_timed_media(tmp_path: Path) -> None:
    settings = load_settings(profile="null", data_dir=tmp_path, ingest={"modalities": ["audio", "video"]})
    worker = MediaWorkerFactory(settings)(0)
    samples = known_good_events(settings)
    sliced, pictures, speech = worker.decode_segments(list(samples.values()), (), ["joint.image", "speech"], False)
    assert (len(pictures), len(speech)) == (2, 2)
    transcripts, left = transcriber(settings).transcribe(speech, 0, False)
    assert left is None
    decoded, passages = worker.compose(sliced, transcripts)
    assert decoded.rejected == ()
    assert decoded.checkpoints == ()
    assert len(passages) == 2
    assert {draft.collection for draft in decoded.pending} == {Collection.FRAME, Collection.SPEECH}


def test_a_transcriber_takes_a_batch_without_speech(tmp_path: Path) -> None:
    settings = load_settings(profile="null", data_dir=tmp_path)
    assert transcriber(settings).transcribe(EncoderInput("speech", ()), 0, False) == ((), None)


def test_a_transcriber_takes_some_windows_at_a_time(tmp_path: Path) -> None:
    worker = transcriber(load_settings(profile="null", data_dir=tmp_path))
    sounds = tuple(np.full(100, number, np.float32) for number in range(19))
    batch = EncoderInput("speech", tuple(map(str, range(19))), waveforms=sounds)
    transcripts, calls = list[Transcript](), 0
    start: int | None = 0
    while start is not None:
        some, start = worker.transcribe(batch, start, False)
        transcripts += some
        calls += 1
    assert calls == 3
    assert transcripts == [
        transcript for first in (0, 8, 16) for transcript in worker.transcribe(batch, first, False)[0]
    ]
    assert len({transcript.segments[0].text for transcript in transcripts}) == 19


@pytest.mark.parametrize(
    ("window_s", "portions"),
    [
        pytest.param([0.01], [1, 2, 4, 8, 8, 8, 8, 1], id="as many as take the time, and as the model takes at once"),
        pytest.param([0.03], [1, 2, *[3] * 12, 1], id="as many as take the time"),
        pytest.param([0.2], [1] * 40, id="one, where that takes too long already"),
        pytest.param([0.01] * 15 + [0.04], [1, 2, 4, 8, 8, *[2] * 8, 1], id="fewer, when they get slower"),
    ],
)
def test_long_media_occupy_the_transcriber_no_longer_than_clips_can_wait(
    window_s: list[float], portions: list[int]
) -> None:
    double = SlowTranscriber(window_s)
    worker = TranscribeWorker(double, chunk_s=None, clock=lambda: double.now_s)
    transcribe_all(worker, 40)
    assert double.calls == portions
    worker.transcribe(silences(40), 0, False)
    assert double.calls[-1] == 8


def test_the_remainder_of_a_segment_does_not_reduce_the_next_calls() -> None:
    double = SlowTranscriber([0.01])
    worker = TranscribeWorker(double, chunk_s=0.055, clock=lambda: double.now_s)
    for windows in (13, 1, 13):
        transcribe_all(worker, windows)
    assert double.calls == [1, 2, 4, 5, 1, 1, 5, 5, 3]


def test_a_batch_without_speech_leaves_a_deferred_model_unloaded() -> None:
    def fail() -> NullTranscriber:
        raise AssertionError("loaded")

    worker = TranscribeWorker(DeferredTranscriber("speech", Fingerprint("n", "0", "0"), fail), chunk_s=None)
    assert worker.transcribe(silences(0), 0, False) == ((), None)
    with pytest.raises(AssertionError, match="loaded"):
        worker.transcribe(silences(1), 0, False)


@pytest.mark.parametrize("role", [SPEECH, PASSAGE_TEXT])
def test_models_that_canaries_need_are_loaded_at_the_start_and_others_when_needed(role: str, tmp_path: Path) -> None:
    settings = load_settings(profile="null:8", data_dir=tmp_path, ingest={"preload": False})
    if role == SPEECH:
        assert isinstance(host_transcriber(settings), DeferredTranscriber)
        preloaded = load_settings(profile="null:8", data_dir=tmp_path)
        assert not isinstance(host_transcriber(preloaded), DeferredTranscriber)
    else:
        assert not isinstance(host_encoder(role, settings), DeferredEncoder)


def test_a_slow_call_reduces_the_next_ones_whatever_was_planned() -> None:
    double = SlowTranscriber([*[0.01] * 15, 0.3, 0.01])
    worker = TranscribeWorker(double, chunk_s=0.1, clock=lambda: double.now_s)
    for windows in (15, 1, 4):
        transcribe_all(worker, windows)
    assert double.calls == [1, 2, 4, 8, 1, 1, 2, 1]


def test_workers_of_long_media_have_the_lowest_priority(tmp_path: Path) -> None:
    settings = f"load_settings(profile='null', data_dir={str(tmp_path)!r}, metrics={{'enabled': False}})"
    code = f"""
import os
from penstock.config import load_settings
from penstock.ingest.executor.workers import init_long_media_process, init_media_process
init_media_process({settings}, "decode")
before = os.nice(0)
init_long_media_process({settings}, "long_media")
print(before, os.nice(0))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == [str(os.nice(0)), "19"]


def transcribe_all(worker: TranscribeWorker, windows: int) -> None:
    start: int | None = 0
    while start is not None:
        _, start = worker.transcribe(silences(windows), start, True)


def silences(count: int) -> EncoderInput:
    return EncoderInput("speech", tuple(map(str, range(count))), waveforms=(np.zeros(100, np.float32),) * count)


class SlowTranscriber:
    """A transcriber that takes the given seconds for each window in turn, the last of them for all others."""

    max_windows = 8
    chunk_s = 0.1
    now_s = 0.0

    def __init__(self, window_s: list[float]) -> None:
        self.calls: list[int] = []
        self._window_s = window_s

    def transcribe(self, windows: Sequence[Float32]) -> tuple[Transcript, ...]:
        for number in range(sum(self.calls), sum(self.calls) + len(windows)):
            self.now_s += self._window_s[min(number, len(self._window_s) - 1)]
        self.calls.append(len(windows))
        return (Transcript("en", 1.0, ()),) * len(windows)


def transcriber(settings: Settings) -> TranscribeWorker:
    worker = EncodeWorkerFactory(settings, "speech")(0)
    assert isinstance(worker, TranscribeWorker)
    return worker


def test_a_batch_that_was_rejected_as_a_whole_still_passes_the_encoder(tmp_path: Path) -> None:
    settings = load_settings(profile="reference", data_dir=tmp_path)
    worker = MediaWorkerFactory(settings)(0)
    decoded, batch = worker.fetch_and_decode([event(0, data=b"\x89PNG\r\n\x1a\n and no image")], ["joint.image"])
    assert [rejection.reason for rejection in decoded.rejected] == [Reason.WRONG_TOPIC]
    assert len(batch) == 0
    assert EncodeWorkerFactory(settings, "joint.image")(0).encode(EncoderInput("joint.image", ())).vectors.shape == (
        0,
        384,
    )
