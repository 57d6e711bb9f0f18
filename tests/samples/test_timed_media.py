"""The films and clips that ship: what their list says is what is seen and spoken in them."""

from __future__ import annotations

from contextlib import closing

import pytest

from penstock.media.av.audio import RATE_HZ
from penstock.media.av.reader import AVReader
from penstock.media.av.vad import VadOptions
from penstock.media.av.video import ShotOptions
from penstock.media.sniff import sniff
from penstock.records import Modality
from penstock.samples import load_concepts
from penstock.samples.timed_media import SampleTimedMedia, sample_timed_media
from tools.reference_models.grammar import VOCABULARY

RECORDINGS = {one.key: one for one in sample_timed_media()}


@pytest.mark.parametrize("recording", RECORDINGS.values(), ids=RECORDINGS)
def test_a_recording_is_what_the_list_says(recording: SampleTimedMedia) -> None:
    data = recording.file.read_bytes()
    assert sniff(data, declared=None).modality is recording.modality
    with closing(AVReader(data, VadOptions(min_silence_ms=1_000), ShotOptions())) as reel:
        found = reel.read()
    assert len(found.shots) == len(recording.scenes)
    for shot, scene in zip(found.shots, recording.scenes, strict=True):
        assert shot.start_ms / 1000 == pytest.approx(scene.start_s, abs=0.15)
        assert shot.end_ms / 1000 == pytest.approx(scene.end_s, abs=0.15)
    assert len(found.windows) == len(recording.sentences)
    for window, sentence in zip(found.windows, recording.sentences, strict=True):
        assert window.start / RATE_HZ == pytest.approx(sentence.start_s, abs=0.4)
        assert (window.start + len(window.samples)) / RATE_HZ == pytest.approx(sentence.end_s, abs=0.5)


def test_what_is_shown_and_said_is_known_to_the_reference_models() -> None:
    concepts = {concept.id for concept in load_concepts()}
    for recording in RECORDINGS.values():
        assert {scene.label for scene in recording.scenes} <= concepts
        for sentence in recording.sentences:
            assert set(sentence.label.split()) <= set(VOCABULARY)
        assert bool(recording.scenes) == (recording.modality is Modality.VIDEO)
