"""Tests which questions are refused, and what is searched for those that are not."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.config import GenerateSettings, QuerySettings
from penstock.errors import QueryError
from penstock.query.generate.types import AskRequest
from penstock.query.generate.validate import Question, check_request
from penstock.query.types import SearchRequest
from penstock.query.understand.understood import ChatMessage

NO_WORDS = SearchRequest()


def check(model: str | None = None, search: SearchRequest = NO_WORDS, **request: Any) -> Question:
    question = request.pop("question", None)
    return check_request(AskRequest(question, search, **request), GenerateSettings(), QuerySettings(), model=model)


def test_a_question_is_what_is_searched() -> None:
    question = check(question="  where is\tthe heron? ")

    assert question.text == "where is the heron?"
    assert question.search.text == "where is the heron?"
    assert question.search.limit == 16


def test_twice_as_many_hits_are_searched_as_the_prompt_may_have_sources() -> None:
    assert check(question="herons", max_sources=15).search.limit == 30
    assert check(question="herons", max_sources=2).search.limit == 10
    assert check(question="herons", search=SearchRequest(limit=3)).search.limit == 3


def test_other_words_than_the_question_are_searched_if_the_request_has_both() -> None:
    question = check(question="how many are there?", search=SearchRequest(text="herons"))

    assert (question.text, question.search.text) == ("how many are there?", "herons")


def test_the_last_message_is_the_question_and_those_before_it_are_its_history() -> None:
    before = (ChatMessage("user", "where is the heron?"), ChatMessage("assistant", "By the river."))
    question = check(messages=(*before, ChatMessage("user", "what does it eat?")))

    assert question.text == "what does it eat?"
    assert question.history == before
    assert question.search.understand.messages == before


def test_a_spoken_question_has_its_words_later() -> None:
    question = check(search=SearchRequest(audio=b"RIFF"))

    assert question.text is None
    assert question.search.text is None


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({}, "/question"),
        ({"question": " "}, "/question"),
        ({"messages": (ChatMessage("user", "a?"), ChatMessage("assistant", "b"))}, "/messages/1/role"),
        ({"messages": (ChatMessage("user", ""),)}, "/messages/0/content"),
        ({"question": "a?", "max_sources": 0}, "/max_sources"),
        ({"question": "a?", "max_sources": 51}, "/max_sources"),
        ({"question": "a?", "generator": "gpt"}, "/generator"),
        ({"question": "a?", "answer_in": "German"}, "/answer_in"),
        ({"question": "a?", "search": SearchRequest(cursor="c")}, "/cursor"),
        ({"question": "a?", "profile": {"domain": "x" * 201}}, "/profile/domain"),
        ({"question": "a?", "profile": {str(number): "x" for number in range(11)}}, "/profile"),
    ],
)
def test_a_request_that_cannot_be_answered_names_the_field(request_: dict[str, Any], field: str) -> None:
    with pytest.raises(QueryError) as raised:
        check(**request_)

    assert raised.value.field == field


@pytest.mark.parametrize(
    ("generator", "model", "extractive"),
    [
        ("auto", None, True),
        ("auto", "smol", False),
        ("extractive", "smol", True),
        ("smol", "smol", False),
    ],
)
def test_the_generator_is_that_of_the_settings_unless_sources_are_to_be_quoted(
    generator: str, model: str | None, extractive: bool
) -> None:
    assert check(question="a?", generator=generator, model=model).extractive is extractive
