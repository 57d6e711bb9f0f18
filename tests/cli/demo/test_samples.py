"""Tests the demo's sample media."""

from __future__ import annotations

import json
from pathlib import Path

from penstock.cli.demo.samples import SampleImage, sample_events, sample_images
from penstock.config import Settings, load_settings
from penstock.samples.documents import sample_documents
from penstock.samples.images import load_concepts
from penstock.samples.timed_media import sample_timed_media


def settings_in(folder: Path) -> Settings:
    return load_settings(data_dir=folder)


def test_every_concept_comes_before_any_comes_twice() -> None:
    images = sample_images(1000)
    concepts = len(load_concepts())
    assert len({image.key for image in images}) == 1000
    assert len({image.concept.id for image in images[:concepts]}) == concepts


def test_long_media_come_first_then_images_and_texts_mixed_and_each_once(tmp_path: Path) -> None:
    events = list(sample_events(settings_in(tmp_path), 20, 6, packaged=False))
    timed_media = len(sample_timed_media())
    assert {event.message.topic for event in events[:timed_media]} == {"media.audio", "media.video"}
    documents, events = events[timed_media : timed_media + len(sample_documents())], events[timed_media + 3 :]
    assert [event.message.value for event in documents] == [sample.file.read_bytes() for sample in sample_documents()]
    assert {event.message.topic for event in documents} == {"media.document"}
    topics = [event.message.topic for event in events]
    assert topics[:6] == ["media.image"] * 5 + ["media.text"]
    assert topics.count("media.image") == 20
    assert topics.count("media.text") == 6
    assert len({event.message.key for event in events}) == 26


def test_a_second_run_sends_the_same_media_under_the_same_keys(tmp_path: Path) -> None:
    first = [
        (event.message.key, event.message.value)
        for event in sample_events(settings_in(tmp_path / "a"), 3, 1, packaged=False)
    ]
    again = [
        (event.message.key, event.message.value)
        for event in sample_events(settings_in(tmp_path / "a"), 3, 1, packaged=False)
    ]
    fresh = [
        (event.message.key, event.message.value)
        for event in sample_events(settings_in(tmp_path / "b"), 3, 1, packaged=False)
    ]
    assert first == again == fresh


def test_the_images_are_stored_at_the_paths_in_their_events(tmp_path: Path) -> None:
    *_, event = sample_events(settings_in(tmp_path), 1, 0, packaged=False)
    headers = dict(event.message.headers)
    file = Path(json.loads(headers["ce_attributes"])["path"])
    assert file.read_bytes() == event.message.value


def test_the_searchable_title_of_an_image_does_not_name_its_concept(tmp_path: Path) -> None:
    *_, event = sample_events(settings_in(tmp_path), 1, 0, packaged=False)
    name = sample_images(1)[0].concept.name.split()[-1]
    assert name not in dict(event.message.headers)["ce_title"].decode().lower()


def test_an_image_is_the_same_each_time() -> None:
    concept = load_concepts()[0]
    assert SampleImage(concept, 1).jpeg() == SampleImage(concept, 1).jpeg() != SampleImage(concept, 2).jpeg()
