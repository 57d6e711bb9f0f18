"""Damaged and unusual audio and video among good ones: a clear outcome for each, and the audit balances."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import av
import numpy as np
import pytest

from penstock.broker.base import Message
from penstock.errors import Reason
from penstock.media.av.audio import RATE_HZ
from penstock.records import Float32
from penstock.samples.timed_media import sample_timed_media
from tests.e2e.stack import Stack
from tests.media.media_files import scene_image, write_audio, write_video
from tools.reference_models.audio_writer import write_speech
from tools.reference_models.speech_synthesis import SpeechSynthesizer

pytestmark = [pytest.mark.services, pytest.mark.exhaustive, pytest.mark.timeout(1_800)]

AUDIO, VIDEO = "media.audio", "media.video"
_MOST_GROWTH_MB = 300  # with a video and an audio file in progress, each of any length
RECORDINGS = {medium.key: medium for medium in sample_timed_media()}


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    environment = {
        "PENSTOCK_PROFILE": "null:8",
        "PENSTOCK_QUERY__PORT": "0",
        "PENSTOCK_INGEST__MODALITIES": '["audio", "video"]',
        "PENSTOCK_LONG_MEDIA__FIRST_SEGMENT_S": "10",
        "PENSTOCK_LONG_MEDIA__SEGMENT_S": "15",
    }
    stack = Stack(tmp_path / "data", environment)
    try:
        stack.start()
        yield stack
    finally:
        stack.close()


def talk(minutes: float) -> Float32:
    """A sentence every twelve seconds."""
    samples = np.zeros(round(minutes * 60 * RATE_HZ), np.float32)
    sentence = SpeechSynthesizer().synthesize("the captain carries a silver anchor").samples
    for start in range(RATE_HZ, len(samples) - len(sentence), 12 * RATE_HZ):
        samples[start : start + len(sentence)] = sentence
    return samples


def bad_ones(folder: Path) -> Mapping[tuple[str, str], tuple[bytes, Reason]]:
    """By topic and key the bytes, and why they are refused."""
    film = RECORDINGS["animals"].file.read_bytes()
    clip = write_audio(folder / "clip.webm", talk(0.2)).read_bytes()
    return {
        (VIDEO, "cut off before its table of contents"): (film[: len(film) // 2], Reason.CORRUPT),
        (VIDEO, "a picture under a film's name"): (b"\x89PNG\r\n\x1a\n" + bytes(64), Reason.WRONG_TOPIC),
        (AUDIO, "a film among sounds"): (film, Reason.WRONG_TOPIC),
        (AUDIO, "of a codec that nobody has"): (clip.replace(b"A_OPUS", b"A_OPAL"), Reason.UNSUPPORTED),
        (AUDIO, "noise with the head of an MP3"): (b"ID3\x04" + np.random.default_rng(0).bytes(5_000), Reason.CORRUPT),
        (VIDEO, "empty"): (b"", Reason.CORRUPT),
    }


def good_ones(folder: Path) -> Mapping[tuple[str, str], bytes]:
    """Odd, and yet to be indexed."""
    lying = bytearray(write_audio(folder / "lying.wav", talk(0.5)).read_bytes())
    at = lying.index(b"data") + 4
    lying[at : at + 4] = (0x7FFFFFF0).to_bytes(4, "little")  # more than eighteen hours
    cut = write_video(folder / "cut.mkv", [(6.0, scene_image(1)), (6.0, scene_image(2))]).read_bytes()
    flicker = [(0.1, scene_image(number, (64, 36))) for number in range(600)]
    return {
        (AUDIO, "its header lies about its length"): bytes(lying),
        (AUDIO, "long"): write_audio(folder / "long.mp3", talk(2)).read_bytes(),
        (AUDIO, "long and silent"): write_audio(
            folder / "silent.flac", np.zeros(90 * RATE_HZ, np.float32)
        ).read_bytes(),
        (VIDEO, "cut off in its midst"): cut[: len(cut) * 2 // 3],
        (VIDEO, "ten cuts a second"): write_video(folder / "flicker.mp4", flicker).read_bytes(),
        (VIDEO, "animals"): RECORDINGS["animals"].file.read_bytes(),
    }


def test_each_ends_as_it_should_and_the_audit_balances(stack: Stack, tmp_path: Path) -> None:
    bad, good = bad_ones(tmp_path), good_ones(tmp_path)
    messages = [Message(topic, key.encode(), data) for (topic, key), data in good.items()]
    messages[3:3] = [Message(topic, key.encode(), data) for (topic, key), (data, _) in bad.items()]
    stack.produce(messages)
    stack.settle()
    for (topic, key), (_, reason) in bad.items():
        [letter] = stack.dead_letters(key)
        assert (letter.origin.topic, letter.reason) == (topic, reason), letter.detail
    parts = {key: stack.stored(key) for _, key in good}
    assert len(parts["its header lies about its length"]) == 3
    assert len(parts["long"]) == 10
    assert [entry.text for entry in parts["long and silent"]] == [""]
    assert len(parts["cut off in its midst"]) >= 1
    assert 60 <= len(parts["ten cuts a second"]) <= 121
    stack.json("audit")  # which exits with 1 if it does not balance
    stack.produce([messages[1]])
    stack.settle()
    assert len(stack.stored("long")) == 10
    stack.json("audit")


def test_ten_hours_of_silence_and_ten_thousand_cuts_end_as_they_should(stack: Stack, tmp_path: Path) -> None:
    cuts = 10_000
    flicker = write_video(tmp_path / "cuts.mp4", [(0.1, scene_image(number, (64, 36))) for number in range(cuts)])
    silence = tmp_path / "silence.flac"
    with av.open(str(silence), "w") as container:
        minutes = (np.zeros(60 * RATE_HZ, np.float32) for _ in range(600))
        write_speech(container, container.add_stream("flac", rate=RATE_HZ, layout="mono"), minutes)
    before_mb, peak_mb = stack.ingest_mb(), 0.0
    stack.produce([Message(AUDIO, b"silence", silence.read_bytes()), Message(VIDEO, b"cuts", flicker.read_bytes())])
    while not stack.settled():
        peak_mb = max(peak_mb, stack.ingest_mb())
    assert peak_mb < before_mb + _MOST_GROWTH_MB
    assert [entry.text for entry in stack.stored("silence")] == [""]
    shots = stack.stored("cuts")
    assert cuts * 0.1 <= len(shots) <= cuts * 0.2  # no shot is shorter than video.min_shot_ms
    assert shots[-1].end_ms == pytest.approx(cuts * 100, abs=1_000)
    stack.json("audit")
