"""A request is checked before an encoder or the store is called."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from penstock.config import QuerySettings
from penstock.errors import QueryError
from penstock.query.types import SearchRequest
from penstock.query.understand.text import MAX_TEXT_CHARS
from penstock.query.understand.validate import MAX_DEADLINE_MS, validate, with_transcript
from penstock.records import Access, Collection

SETTINGS = QuerySettings(max_image_bytes=100, max_audio_bytes=50)


@pytest.mark.parametrize(
    ("request_", "status", "field"),
    [
        (SearchRequest(), 400, "/text"),
        (SearchRequest(text=""), 400, "/text"),
        (SearchRequest(text=" \n\t\x00 "), 400, "/text"),
        (SearchRequest(text="\ud800"), 400, "/text"),
        (SearchRequest(text="a" * (MAX_TEXT_CHARS + 1)), 413, "/text"),
        (SearchRequest(audio=b""), 400, "/audio"),
        (SearchRequest(audio=b"x" * 51), 413, "/audio"),
        (SearchRequest(image=b""), 400, "/image"),
        (SearchRequest(image=b"x" * 101), 413, "/image"),
        (SearchRequest(text="a", modalities=["image", "smell"]), 400, "/modalities/1"),
        (SearchRequest(text="a", modalities=[]), 400, "/modalities"),
        (SearchRequest(text="a", access=Access.to_all_of(" ")), 400, "/tenant"),
        (SearchRequest(text="a", limit=0), 400, "/limit"),
        (SearchRequest(text="a", limit=201), 400, "/limit"),
        (SearchRequest(text="a", deadline_ms=0), 400, "/deadline_ms"),
        (SearchRequest(text="a", deadline_ms=MAX_DEADLINE_MS + 1), 400, "/deadline_ms"),
    ],
)
def test_an_invalid_request_is_rejected_and_its_field_is_named(
    request_: SearchRequest, status: int, field: str
) -> None:
    with pytest.raises(QueryError) as caught:
        validate(request_, SETTINGS)
    assert (caught.value.status, caught.value.field) == (status, field)


def test_the_message_for_an_unknown_modality_lists_the_known_ones() -> None:
    with pytest.raises(QueryError, match=r"'smell'.*text, image, audio, video"):
        validate(SearchRequest(text="a", modalities=["smell"]), SETTINGS)


def test_defaults_come_from_the_settings() -> None:
    query = validate(SearchRequest(text="a"), SETTINGS)
    assert (query.limit, query.deadline_ms) == (SETTINGS.limit, SETTINGS.deadline_ms)
    assert query.collections == tuple(Collection)
    assert not query.modalities_given


@pytest.mark.parametrize("spelling", ["red  cafe\u0301", " red\ncaf\u00e9 ", "red\x07café"])
def test_spellings_of_one_text_become_one(spelling: str) -> None:
    assert validate(SearchRequest(text=spelling), SETTINGS).text == "red café"


@pytest.mark.parametrize(
    ("modalities", "collections"),
    [
        (["text"], (Collection.TEXT,)),
        (["image", "text"], (Collection.TEXT, Collection.IMAGE)),
        (["audio"], (Collection.SPEECH, Collection.SOUND)),
        (["video"], (Collection.SPEECH, Collection.FRAME, Collection.SOUND)),
    ],
)
def test_a_modality_selects_its_collections(modalities: Any, collections: tuple[Collection, ...]) -> None:
    assert validate(SearchRequest(text="a", modalities=modalities), SETTINGS).collections == collections


def test_a_transcribed_query_equals_the_written_one_but_for_its_transcript() -> None:
    spoken = validate(SearchRequest(audio=b"audio", limit=3, modalities=["text"]), SETTINGS)
    assert (spoken.text, spoken.audio) == (None, b"audio")
    written = validate(SearchRequest(text="red café", limit=3, modalities=["text"]), SETTINGS)
    transcript = " red  cafe\u0301 "
    assert with_transcript(spoken, transcript) == replace(written, transcript=transcript)


def test_spoken_words_come_after_written_ones() -> None:
    both = validate(SearchRequest(text="red", audio=b"audio", image=b"image"), SETTINGS)
    query = with_transcript(both, "caf\u00e9 ")
    assert (query.text, query.transcript, query.audio, query.image) == ("red café", "caf\u00e9 ", None, b"image")
