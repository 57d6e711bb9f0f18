"""A request is checked before anything is asked of anyone."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.config import QuerySettings
from penstock.errors import QueryError
from penstock.query.understand.validate import (
    MAX_DEADLINE_MS,
    MAX_TEXT_CHARS,
    SearchRequest,
    understand,
    with_transcript,
)
from penstock.records import Collection

SETTINGS = QuerySettings(max_image_bytes=100, max_audio_bytes=50)


@pytest.mark.parametrize(
    ("request_", "status", "field"),
    [
        (SearchRequest(), 400, "/text"),
        (SearchRequest(text=""), 400, "/text"),
        (SearchRequest(text=" \n\t\x00 "), 400, "/text"),
        (SearchRequest(text="\ud800"), 400, "/text"),
        (SearchRequest(text="a" * (MAX_TEXT_CHARS + 1)), 413, "/text"),
        (SearchRequest(text="a", image=b"b"), 400, "/image"),
        (SearchRequest(text="a", audio=b"b"), 400, "/audio"),
        (SearchRequest(image=b"a", audio=b"b"), 400, "/audio"),
        (SearchRequest(audio=b""), 400, "/audio"),
        (SearchRequest(audio=b"x" * 51), 413, "/audio"),
        (SearchRequest(image=b""), 400, "/image"),
        (SearchRequest(image=b"x" * 101), 413, "/image"),
        (SearchRequest(text="a", modalities=["image", "smell"]), 400, "/modalities/1"),
        (SearchRequest(text="a", modalities=[]), 400, "/modalities"),
        (SearchRequest(text="a", tenant=" "), 400, "/tenant"),
        (SearchRequest(text="a", limit=0), 400, "/limit"),
        (SearchRequest(text="a", limit=201), 400, "/limit"),
        (SearchRequest(text="a", deadline_ms=0), 400, "/deadline_ms"),
        (SearchRequest(text="a", deadline_ms=MAX_DEADLINE_MS + 1), 400, "/deadline_ms"),
    ],
)
def test_a_request_that_is_wrong_is_refused_and_its_field_named(
    request_: SearchRequest, status: int, field: str
) -> None:
    with pytest.raises(QueryError) as caught:
        understand(request_, SETTINGS)
    assert (caught.value.status, caught.value.field) == (status, field)


def test_the_message_for_an_unknown_modality_lists_the_known_ones() -> None:
    with pytest.raises(QueryError, match=r"'smell'.*text, image, audio, video"):
        understand(SearchRequest(text="a", modalities=["smell"]), SETTINGS)


def test_what_a_request_leaves_out_comes_from_the_settings() -> None:
    question = understand(SearchRequest(text="a"), SETTINGS)
    assert (question.limit, question.deadline_ms) == (SETTINGS.limit, SETTINGS.deadline_ms)
    assert question.collections == tuple(Collection)
    assert not question.named


@pytest.mark.parametrize("spelling", ["red  cafe\u0301", " red\ncaf\u00e9 ", "red\x07café"])
def test_spellings_of_one_question_become_one(spelling: str) -> None:
    assert understand(SearchRequest(text=spelling), SETTINGS).content == "red café"


@pytest.mark.parametrize(
    ("modalities", "collections"),
    [
        (["text"], (Collection.TEXT,)),
        (["image", "text"], (Collection.TEXT, Collection.IMAGE)),
        (["audio"], (Collection.SPEECH,)),
        (["video"], (Collection.SPEECH, Collection.FRAME)),
    ],
)
def test_a_modality_stands_for_its_collections(modalities: Any, collections: tuple[Collection, ...]) -> None:
    assert understand(SearchRequest(text="a", modalities=modalities), SETTINGS).collections == collections


def test_a_spoken_question_becomes_the_same_as_the_written_one_once_its_words_are_known() -> None:
    spoken = understand(SearchRequest(audio=b"sound", limit=3, modalities=["text"]), SETTINGS)
    assert spoken.spoken == b"sound"
    written = understand(SearchRequest(text="red café", limit=3, modalities=["text"]), SETTINGS)
    assert with_transcript(spoken, " red  cafe\u0301 ") == written
