"""Tests that the demo's sample queries can be answered by its sample media."""

from __future__ import annotations

from penstock.cli.demo.queries import Abilities, sample_queries
from penstock.cli.demo.samples import sample_images
from penstock.records import SEGMENTED_MODALITIES, TIMED_MODALITIES, Modality
from penstock.samples.documents import sample_documents
from penstock.samples.packaged_media import installed_media, packaged_media
from penstock.samples.texts import sample_texts
from penstock.samples.timed_media import sample_timed_media

EVERYTHING = Abilities(photographs=True, multilingual=True)
NOTHING = Abilities(photographs=False, multilingual=False)


def test_every_query_has_its_right_answer_among_the_streamed_media() -> None:
    images = sample_images(1000)
    image_keys, text_keys = {image.key for image in images}, {text.key for text in sample_texts()[:200]}
    queries = [query for query in sample_queries(1000, 200, NOTHING) if query.is_right is not None]
    assert {query.direction for query in queries} == {
        "text → image", "text → text", "image → image", "image → text",
        "text → speech", "image → scene", "voice → speech", "text → page", "image → page",
    }  # fmt: skip
    moments = [
        {"key": sample.key, "moment": {"start_ms": part.start_s * 1000, "end_ms": part.end_s * 1000}}
        for sample in sample_timed_media()
        for part in (*sample.scenes, *sample.sentences)
    ]
    pages = [
        {"key": sample.key, "page": page} for sample in sample_documents() for page in range(1, len(sample.pages) + 1)
    ]
    for query in queries:
        assert query.is_right is not None
        if query.modality is Modality.DOCUMENT:
            assert [query.is_right(hit) for hit in pages].count(True) == 1, query.text
            continue
        if query.modality in TIMED_MODALITIES:
            assert [query.is_right(hit) for hit in moments].count(True) == 1, query.text
            continue
        keys = image_keys if query.modality is Modality.IMAGE else text_keys
        assert any(query.is_right({"key": key}) for key in keys), query.text
        assert not all(query.is_right({"key": key}) for key in keys)


def test_query_images_are_not_among_the_streamed_ones() -> None:
    streamed = {image.jpeg() for image in sample_images(60)}
    query_images = [query.image for query in sample_queries(1000, 200, EVERYTHING) if query.image is not None]
    assert query_images
    assert not streamed.intersection(query_images)
    assert 999 not in {image.seed for image in sample_images(5000)}


def test_queries_whose_answers_are_not_streamed_are_left_out() -> None:
    """Timed media and documents always are streamed."""
    queries = [query for query in sample_queries(1, 0, NOTHING) if query.is_right is not None]
    assert {query.modality for query in queries} == SEGMENTED_MODALITIES


def test_a_query_for_a_photograph_is_asked_where_the_photograph_is_installed() -> None:
    installed = {media.key for media, _ in installed_media()}
    queries = [query for query in sample_queries(1000, 200, EVERYTHING) if query.where is not None]
    assert "a flower in a garden" in {query.text for query in queries}
    for query in queries:
        assert query.is_right is not None
        assert next(media.key for media in packaged_media() if query.is_right({"key": media.key})) in installed


def test_questions_in_other_languages_need_a_multilingual_encoder() -> None:
    def foreign(abilities: Abilities) -> list[str]:
        return [query.text for query in sample_queries(1000, 200, abilities) if " in " in query.direction]

    assert len(foreign(Abilities(photographs=False, multilingual=True))) == 2
    of_photographs = {"photo-coffee", "photo-cat"} & {media.key for media, _ in installed_media()}
    assert len(foreign(EVERYTHING)) == 2 + len(of_photographs)
    assert not foreign(Abilities(photographs=True, multilingual=False))


def test_one_question_has_no_answer_in_the_index() -> None:
    assert [query.direction for query in sample_queries(1000, 200, NOTHING) if query.is_right is None] == [
        "text → nothing"
    ]
