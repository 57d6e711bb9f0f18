"""Passages of speech, composed of scripted transcripts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from penstock.errors import Reason
from penstock.media.av.audio import RATE_HZ
from penstock.records import (
    Collection,
    Float32,
)
from tests.media.media_files import write_video
from tests.media.segments.harness import SCENES, DecoderHarness, FetchedOf, clip, talk


def test_audio_without_speech_is_one_entry_found_by_its_title(
    harness: DecoderHarness, fetched_of: FetchedOf, tmp_path: Path
) -> None:
    event = harness.add(clip(tmp_path, fetched_of, np.zeros(5 * RATE_HZ, np.float32), title="Rain"))
    decoded, texts = harness.decode(event)
    [entry] = decoded.pending
    assert (entry.collection, entry.text, entry.start_ms, entry.end_ms) == (Collection.SPEECH, "", 0, 0)
    assert texts.texts == ("Rain",)


def test_long_silence_is_one_entry(harness: DecoderHarness, fetched_of: FetchedOf, tmp_path: Path) -> None:
    segments, checkpoints = harness.decode_all(
        harness.add(clip(tmp_path, fetched_of, np.zeros(50 * RATE_HZ, np.float32)))
    )
    assert [len(decoded.pending) for decoded in segments] == [0] * (len(segments) - 1) + [1]
    assert len(segments) > 2
    assert checkpoints[-1].counts == {Collection.SPEECH: 1}


def test_an_asset_whose_transcription_fails_is_rejected_as_a_whole(
    harness: DecoderHarness, fetched_of: FetchedOf, spoken: Float32, tmp_path: Path
) -> None:
    video = harness.add(fetched_of(write_video(tmp_path / "video.mp4", SCENES[:1]).read_bytes()))
    bad = harness.add(clip(tmp_path, fetched_of, talk(spoken, 10)))
    decoded, texts = harness.decode(video, bad, failed="the model fails on it")
    assert [event.asset for event in decoded.indexable] == [video.asset]
    assert {entry.event.asset for entry in decoded.pending} == {video.asset}
    [rejected] = decoded.rejected
    assert (rejected.position, rejected.step, rejected.reason) == (bad.position, "encode", Reason.ENCODER_FAILED)
    assert len(texts) == 0


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ("{}", {"speech_language": "en"}),
        ('{"camera":"x100"}', {"speech_language": "en", "camera": "x100"}),
        ('{"speech_language":"cy"}', {"speech_language": "cy"}),
    ],
)
def test_an_entry_has_the_language_of_its_speech_unless_the_producer_said_it(
    *,
    own: str,
    expected: dict[str, str],
    harness: DecoderHarness,
    fetched_of: FetchedOf,
    spoken: Float32,
    tmp_path: Path,
) -> None:
    fetched = clip(tmp_path, fetched_of, talk(spoken, 10))
    event = harness.add(replace(fetched, event=replace(fetched.event, attributes_json=own)))
    decoded, _ = harness.decode(event)
    assert decoded.pending
    assert all(json.loads(entry.attributes_json) == expected for entry in decoded.pending)
