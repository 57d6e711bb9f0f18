"""The demo's media and questions."""

from __future__ import annotations

import json
from pathlib import Path

from penstock.cli.demo.questions import sample_queries
from penstock.cli.demo.samples import SampleImage, sample_events, sample_images
from penstock.config import Settings, load_settings
from penstock.records import TIMED_MODALITIES, Modality
from penstock.samples.images import load_concepts
from penstock.samples.texts import sample_texts
from penstock.samples.timed_media import sample_timed_media


def settings_in(folder: Path) -> Settings:
    return load_settings(data_dir=folder)


def test_every_concept_comes_before_any_comes_twice() -> None:
    pictures = sample_images(1000)
    concepts = len(load_concepts())
    assert len({picture.key for picture in pictures}) == 1000
    assert len({picture.concept.id for picture in pictures[:concepts]}) == concepts


def test_recordings_come_first_then_pictures_and_texts_mixed_and_each_once(tmp_path: Path) -> None:
    events = list(sample_events(settings_in(tmp_path), 20, 6))
    recordings = len(sample_timed_media())
    assert {event.message.topic for event in events[:recordings]} == {"media.audio", "media.video"}
    events = events[recordings:]
    topics = [event.message.topic for event in events]
    assert topics[:6] == ["media.image"] * 5 + ["media.text"]
    assert topics.count("media.image") == 20
    assert topics.count("media.text") == 6
    assert len({event.message.key for event in events}) == 26


def test_a_second_run_sends_the_same_media_under_the_same_keys(tmp_path: Path) -> None:
    first = [(event.message.key, event.message.value) for event in sample_events(settings_in(tmp_path / "a"), 3, 1)]
    again = [(event.message.key, event.message.value) for event in sample_events(settings_in(tmp_path / "a"), 3, 1)]
    fresh = [(event.message.key, event.message.value) for event in sample_events(settings_in(tmp_path / "b"), 3, 1)]
    assert first == again == fresh


def test_the_pictures_lie_where_their_events_say(tmp_path: Path) -> None:
    *_, event = sample_events(settings_in(tmp_path), 1, 0)
    headers = dict(event.message.headers)
    file = Path(json.loads(headers["ce_attributes"])["path"])
    assert file.read_bytes() == event.message.value


def test_what_is_searched_of_a_picture_does_not_name_what_it_shows(tmp_path: Path) -> None:
    *_, event = sample_events(settings_in(tmp_path), 1, 0)
    name = sample_images(1)[0].concept.name.split()[-1]
    assert name not in dict(event.message.headers)["ce_title"].decode().lower()


def test_every_question_has_its_right_answer_among_what_is_streamed() -> None:
    pictures = sample_images(1000)
    picture_keys, text_keys = {picture.key for picture in pictures}, {text.key for text in sample_texts()[:200]}
    questions = list(sample_queries(1000, 200))
    assert {question.way for question in questions} == {
        "text → image", "text → text", "image → image", "image → text",
        "text → speech", "image → scene", "voice → speech",
    }  # fmt: skip
    moments = [
        {"key": one.key, "moment": {"start_ms": part.start_s * 1000, "end_ms": part.end_s * 1000}}
        for one in sample_timed_media()
        for part in (*one.scenes, *one.sentences)
    ]
    for question in questions:
        if question.modality in TIMED_MODALITIES:
            assert [question.is_right(hit) for hit in moments].count(True) == 1, question.text
            continue
        keys = picture_keys if question.modality is Modality.IMAGE else text_keys
        assert any(question.is_right({"key": key}) for key in keys), question.text
        assert not all(question.is_right({"key": key}) for key in keys)


def test_pictures_asked_with_are_not_among_those_streamed() -> None:
    streamed = {picture.jpeg() for picture in sample_images(60)}
    asked = [question.picture for question in sample_queries(1000, 200) if question.picture is not None]
    assert asked
    assert not streamed.intersection(asked)
    assert 999 not in {picture.seed for picture in sample_images(5000)}


def test_questions_whose_answers_are_not_streamed_are_not_asked() -> None:
    """Recordings always are."""
    assert {question.modality for question in sample_queries(1, 0)} == TIMED_MODALITIES


def test_a_picture_is_the_same_each_time() -> None:
    concept = load_concepts()[0]
    assert SampleImage(concept, 1).jpeg() == SampleImage(concept, 1).jpeg() != SampleImage(concept, 2).jpeg()
