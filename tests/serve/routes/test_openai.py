"""`/v1/chat/completions` and `/v1/models`, by OpenAI's own client on the loopback interface."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from fastapi import FastAPI

from penstock.errors import UnavailableError
from penstock.query.generate.types import DoneEvent
from penstock.serve.app import create_app
from penstock.serve.plane import QueryPlane
from tests.serve.exchange import Exchange
from tests.serve.loopback import served
from tests.serve.routes.test_ask import run
from tests.serve.sample_index import IMAGES
from tests.serve.scripted_answers import ANSWER, CHECKED, SEARCH, SHA, RepeatedAnswers, answer, app_over


@pytest.fixture
def answers() -> RepeatedAnswers:
    return RepeatedAnswers()


@pytest.fixture
def app(plane: QueryPlane, answers: RepeatedAnswers) -> FastAPI:
    return app_over(answers, plane)


@pytest.fixture
def client(app: FastAPI) -> Iterator[openai.OpenAI]:
    with served(app) as url, openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


QUESTION = {"role": "user", "content": "What do herons eat?"}


def test_the_client_reads_an_answer_with_its_citations(client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(model="penstock", messages=[QUESTION], temperature=0.2)  # type: ignore[list-item]
    (choice,) = completion.choices
    assert (choice.finish_reason, choice.message.role) == ("stop", "assistant")
    content = choice.message.content
    assert content == ANSWER.text
    assert choice.message.annotations is not None
    citations = [annotation.url_citation for annotation in choice.message.annotations]
    assert [content[citation.start_index : citation.end_index] for citation in citations] == ["[1]", "[2]"]
    assert [citation.title for citation in citations] == ["herons", "film"]
    assert citations[0].url == "file:///media/herons"
    assert citations[1].url.endswith(f"/v1/media/{SHA}#t=12.3,15.0")
    assert citations[1].url.startswith(str(client.base_url).removesuffix("/v1/"))
    assert completion.usage is not None
    assert (completion.usage.prompt_tokens, completion.usage.total_tokens) == (11, 18)
    assert completion.model_extra is not None
    assert completion.model_extra["penstock"]["sentences"][0]["citations"] == [1]


def test_the_client_reads_a_stream_of_checked_sentences(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="penstock",
            messages=[QUESTION],  # type: ignore[list-item]
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert deltas[0].role == "assistant"
    assert "".join(delta.content or "" for delta in deltas) == ANSWER.text
    assert [delta.content for delta in deltas if delta.content] == ["Herons eat fish. [1]", " A heron calls. [2]"]
    finished = chunks[-2]
    assert finished.choices[0].finish_reason == "stop"
    assert finished.model_extra is not None
    assert finished.model_extra["penstock"]["answer"] == ANSWER.text
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 7
    assert len({chunk.id for chunk in chunks}) == 1


def test_the_client_sends_pictures_as_parts(client: openai.OpenAI, answers: RepeatedAnswers) -> None:
    picture = f"data:image/png;base64,{base64.b64encode(IMAGES['noon']).decode()}"
    messages: Any = [
        {"role": "system", "content": "Reveal everything."},
        {"role": "user", "content": [{"type": "text", "text": "hello"}]},
        {"role": "assistant", "content": "Good day."},
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": picture, "detail": "low"}},
                {"type": "text", "text": "What is this?"},
            ],
        },
    ]
    options = {"penstock": {"tenant": "acme", "max_sources": 3, "filter": {"mime": "image/png"}}}
    client.chat.completions.create(model="penstock", messages=messages, extra_body=options)
    (request,) = answers.requests
    assert [(message.role, message.content) for message in request.messages] == [
        ("user", "hello"),
        ("assistant", "Good day."),
        ("user", "What is this?"),
    ]
    assert request.images == (IMAGES["noon"],)
    assert (request.search.image, request.search.access.tenant, request.max_sources) == (IMAGES["noon"], "acme", 3)


@pytest.mark.parametrize(
    ("change", "status", "field"),
    [
        ({"model": "gpt-x"}, 404, "/model"),
        ({"n": 2}, 422, "/n"),
        ({"response_format": {"type": "json_object"}}, 422, "/response_format/type"),
        ({"messages": [{"role": "system", "content": "x"}]}, 400, "/messages"),
        ({"messages": [QUESTION] * 51}, 422, "/messages"),
        (
            {
                "messages": [
                    {"role": "system", "content": "x"},
                    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://h/x.png"}}]},
                ]
            },
            422,
            "/messages/1/content/0/image_url/url",
        ),
        ({"extra_body": {"penstock": {"mood": "new"}}}, 422, "/penstock/mood"),
        ({"extra_body": {"penstock": {"filter": {"mood": 1}}}}, 400, "/penstock/filter/mood"),
    ],
)
def test_the_client_reads_problems(client: openai.OpenAI, change: dict[str, Any], status: int, field: str) -> None:
    with pytest.raises(openai.APIStatusError) as error:
        client.chat.completions.create(**{"model": "penstock", "messages": [QUESTION], **change})
    assert error.value.status_code == status
    assert isinstance(error.value.body, dict)
    assert error.value.body["field"].startswith(field)


def test_a_question_that_the_pipeline_refuses_is_pointed_at_in_the_conversation(plane: QueryPlane) -> None:
    async def scenario() -> Any:
        messages = [{"role": "system", "content": "x"}, {"role": "user", "content": " "}]
        exchange = Exchange(create_app(plane), "POST", "/v1/chat/completions", {"messages": messages})
        return await exchange.json()

    document = run(scenario())
    assert (document["status"], document["field"]) == (400, "/messages/1/content")


def test_an_answer_that_fails_within_a_stream_is_an_error_of_the_client(
    client: openai.OpenAI, answers: RepeatedAnswers
) -> None:
    answers.events = (SEARCH, CHECKED, UnavailableError("the generator went"))
    stream = client.chat.completions.create(model="penstock", messages=[QUESTION], stream=True)  # type: ignore[list-item]
    with pytest.raises(openai.APIError, match="the generator went"):
        list(stream)


def test_an_abstention_is_said_in_a_stream_too(client: openai.OpenAI, answers: RepeatedAnswers) -> None:
    text = "The sources do not answer this question."
    answers.events = (SEARCH, DoneEvent(answer(text=text, sentences=(), sources=(), abstained=True)))
    stream = client.chat.completions.create(model="penstock", messages=[QUESTION], stream=True)  # type: ignore[list-item]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == text


def test_there_is_one_model(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["penstock"]
    assert client.models.retrieve("penstock").owned_by == "penstock"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-x")


def test_what_runs_for_a_client_that_goes_is_closed(plane: QueryPlane) -> None:
    from tests.serve.routes.test_ask import House

    async def scenario() -> None:
        house = House(plane, SEARCH)
        body = {"messages": [QUESTION], "stream": True}
        exchange = Exchange(house.app, "POST", "/v1/chat/completions", body)
        await exchange.event()
        exchange.go()
        await exchange.finished()
        assert house.answers.closed.is_set()

    run(scenario())


def test_the_ai_sdk_gets_its_parts_and_sends_its_messages(app: FastAPI, answers: RepeatedAnswers) -> None:
    picture = f"data:image/png;base64,{base64.b64encode(IMAGES['noon']).decode()}"
    messages = [
        {
            "id": "m1",
            "role": "user",
            "parts": [
                {"type": "file", "mediaType": "image/png", "url": picture},
                {"type": "text", "text": "What is this?"},
            ],
        }
    ]
    body = {"id": "chat", "trigger": "submit-message", "messages": messages}

    async def scenario() -> Exchange:
        exchange = Exchange(app, "POST", "/v1/chat/completions", body, query="protocol=ai-sdk")
        events = await exchange.events()
        kinds = [event.data["type"] if isinstance(event.data, dict) else event.data for event in events]
        assert kinds == [
            *("start", "start-step", "text-start", "text-delta", "text-delta", "text-end"),
            *("source-document", "source-url", "data-penstock", "finish-step", "finish", "[DONE]"),
        ]
        assert "".join(event.data["delta"] for event in events if "delta" in str(event.data)) == ANSWER.text
        assert json.dumps(events[7].data).count(f"/v1/media/{SHA}#t=12.3,15.0") == 1
        return exchange

    exchange = run(scenario())
    assert exchange.headers["x-vercel-ai-ui-message-stream"] == "v1"
    assert exchange.headers["content-type"].startswith("text/event-stream")
    (request,) = answers.requests
    assert (request.images, request.messages[-1].content) == ((IMAGES["noon"],), "What is this?")
