"""Tests that the sample audio and video show and say what their manifest states."""

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

SAMPLES = {sample.key: sample for sample in sample_timed_media()}


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)
def test_a_file_has_the_scenes_and_sentences_of_the_manifest(sample: SampleTimedMedia) -> None:
    data = sample.file.read_bytes()
    assert sniff(data, declared=None).modality is sample.modality
    with closing(AVReader(data, VadOptions(min_silence_ms=1_000), ShotOptions())) as reader:
        chunk = reader.read()
    assert len(chunk.shots) == len(sample.scenes)
    for shot, scene in zip(chunk.shots, sample.scenes, strict=True):
        assert shot.start_ms / 1000 == pytest.approx(scene.start_s, abs=0.15)
        assert shot.end_ms / 1000 == pytest.approx(scene.end_s, abs=0.15)
    assert len(chunk.windows) == len(sample.sentences)
    for window, sentence in zip(chunk.windows, sample.sentences, strict=True):
        assert window.start / RATE_HZ == pytest.approx(sentence.start_s, abs=0.4)
        assert (window.start + len(window.samples)) / RATE_HZ == pytest.approx(sentence.end_s, abs=0.5)


def test_scenes_and_sentences_are_known_to_the_reference_models() -> None:
    concepts = {concept.id for concept in load_concepts()}
    for sample in SAMPLES.values():
        assert {scene.label for scene in sample.scenes} <= concepts
        for sentence in sample.sentences:
            assert set(sentence.label.split()) <= set(VOCABULARY)
        assert bool(sample.scenes) == (sample.modality is Modality.VIDEO)
