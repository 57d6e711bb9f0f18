"""Tests that the demo's sample queries can be answered by its sample media."""

from __future__ import annotations

from penstock.cli.demo.queries import sample_queries
from penstock.cli.demo.samples import sample_images
from penstock.records import TIMED_MODALITIES, Modality
from penstock.samples.texts import sample_texts
from penstock.samples.timed_media import sample_timed_media


def test_every_query_has_its_right_answer_among_the_streamed_media() -> None:
    images = sample_images(1000)
    image_keys, text_keys = {image.key for image in images}, {text.key for text in sample_texts()[:200]}
    queries = list(sample_queries(1000, 200))
    assert {query.direction for query in queries} == {
        "text → image", "text → text", "image → image", "image → text",
        "text → speech", "image → scene", "voice → speech",
    }  # fmt: skip
    moments = [
        {"key": sample.key, "moment": {"start_ms": part.start_s * 1000, "end_ms": part.end_s * 1000}}
        for sample in sample_timed_media()
        for part in (*sample.scenes, *sample.sentences)
    ]
    for query in queries:
        if query.modality in TIMED_MODALITIES:
            assert [query.is_right(hit) for hit in moments].count(True) == 1, query.text
            continue
        keys = image_keys if query.modality is Modality.IMAGE else text_keys
        assert any(query.is_right({"key": key}) for key in keys), query.text
        assert not all(query.is_right({"key": key}) for key in keys)


def test_query_images_are_not_among_the_streamed_ones() -> None:
    streamed = {image.jpeg() for image in sample_images(60)}
    query_images = [query.image for query in sample_queries(1000, 200) if query.image is not None]
    assert query_images
    assert not streamed.intersection(query_images)
    assert 999 not in {image.seed for image in sample_images(5000)}


def test_queries_whose_answers_are_not_streamed_are_left_out() -> None:
    """Timed media always are streamed."""
    assert {query.modality for query in sample_queries(1, 0)} == TIMED_MODALITIES
