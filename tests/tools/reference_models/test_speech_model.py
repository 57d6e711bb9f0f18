"""Tests that the shipped speech model reaches the figures of its card, in the words and voice that it knows."""

from __future__ import annotations

from contextlib import closing

import pytest

from penstock.encoders.load import load_transcriber
from penstock.encoders.profiles import load_profile
from penstock.encoders.reference.speech_model import SPEECH_DIR
from penstock.encoders.whisper import WhisperTranscriber
from penstock.media.av.audio import RATE_HZ
from penstock.media.av.reader import AVReader
from penstock.media.av.vad import VadOptions
from penstock.samples.timed_media import sample_timed_media
from tools.reference_models.evaluate_speech import Figures, evaluate, word_errors


@pytest.fixture(scope="module")
def transcriber() -> WhisperTranscriber:
    loaded = load_transcriber(load_profile("reference"), device="cpu")
    assert isinstance(loaded, WhisperTranscriber)
    return loaded


@pytest.fixture(scope="module")
def figures(transcriber: WhisperTranscriber) -> Figures:
    return evaluate(transcriber, 60)


def test_it_transcribes_sentences_that_are_not_in_its_training_data(figures: Figures) -> None:
    assert figures.sentence_errors < 0.01


def test_its_times_are_right(figures: Figures) -> None:
    assert figures.start_off_s <= 0.04
    assert figures.end_off_s <= 0.04
    assert figures.off_95_s <= 0.1


def test_it_transcribes_minutes_through_the_detector(figures: Figures) -> None:
    assert figures.minute_errors < 0.02


def test_it_writes_nothing_where_there_is_no_speech(figures: Figures) -> None:
    assert figures.words_in_noise == 0


def test_it_transcribes_the_sample_media(transcriber: WhisperTranscriber) -> None:
    for sample in sample_timed_media():
        with closing(AVReader(sample.file.read_bytes(), VadOptions(), None)) as reader:
            windows = reader.read().windows
        transcripts = transcriber.transcribe([window.samples for window in windows])
        texts = [segment.text for transcript in transcripts for segment in transcript.segments]
        starts = [
            window.start / RATE_HZ + segment.start_s
            for window, transcript in zip(windows, transcripts, strict=True)
            for segment in transcript.segments
        ]
        assert texts == [sentence.label for sentence in sample.sentences], sample.key
        assert starts == pytest.approx([sentence.start_s for sentence in sample.sentences], abs=0.25)


def test_it_is_small() -> None:
    assert sum(file.stat().st_size for file in SPEECH_DIR.iterdir()) < 10_000_000


@pytest.mark.parametrize(
    ("spoken", "transcribed", "errors"),
    [("a b c", "a b c", 0), ("a b c", "a x c", 1), ("a b c", "a c", 1), ("a b", "a b c", 1), ("", "a", 1)],
)
def test_errors_are_words_changed_inserted_or_removed(spoken: str, transcribed: str, errors: int) -> None:
    assert word_errors(spoken.split(), transcribed.split()) == errors
