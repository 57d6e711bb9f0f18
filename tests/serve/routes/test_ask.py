"""`/v1/ask`, whole and as a stream, over answers that tests write step by step."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any, TypeVar

import httpx
import pytest
from fastapi import FastAPI

from penstock.config import LimitsSettings
from penstock.errors import OverloadedError, QueryError, UnavailableError
from penstock.query.generate.types import TokenEvent
from penstock.serve.answer_logs import AnswerOwner, MemoryAnswerLogs
from penstock.serve.app import create_app
from penstock.serve.limits.admission import open_admissions
from penstock.serve.plane import QueryPlane
from penstock.serve.use_cases.ask import AskService
from tests.clock import Clock
from tests.serve.exchange import Exchange
from tests.serve.sample_index import IMAGES, PROBLEM
from tests.serve.scripted_answers import ANSWER_ID, SEARCH, TOKENS, WHOLE, ScriptedAnswers

OWNER = AnswerOwner("default", "anonymous")

_T = TypeVar("_T")


class House:
    """An application over scripted answers, with what tests look at."""

    def __init__(
        self,
        plane: QueryPlane,
        *events: Any,
        logs: MemoryAnswerLogs | None = None,
        max_answers: int = 8,
        limits: LimitsSettings | None = None,
    ) -> None:
        self.answers = ScriptedAnswers(*events)
        self.clock = Clock()
        self.logs = MemoryAnswerLogs(clock=self.clock) if logs is None else logs
        self.service = AskService(
            self.answers,
            self.logs,
            plane.searches,
            max_answers=max_answers,
            max_image_bytes=4096,
            profile=plane.profile,
        )
        self.admissions = open_admissions(limits or LimitsSettings())
        self.app: FastAPI = create_app(replace(plane, answers=self.service, admissions=self.admissions))

    def ask(self, **body: Any) -> Exchange:
        return Exchange(self.app, "POST", "/v1/ask", {"question": "What do herons eat?", **body})

    def resume(
        self, after: int | None = None, *, method: str = "GET", answer_id: str = ANSWER_ID, query: str = ""
    ) -> Exchange:
        headers = {} if after is None else {"Last-Event-ID": str(after)}
        return Exchange(self.app, method, f"/v1/ask/{answer_id}", headers=headers, query=query)


def run(work: Coroutine[Any, Any, _T]) -> _T:
    async def bounded() -> _T:
        return await asyncio.wait_for(work, 20)

    return asyncio.run(bounded())


async def until(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    """Waits until a condition holds, which other tasks of the loop make true."""
    while True:
        holds = condition()
        if await holds if isinstance(holds, Awaitable) else holds:
            return
        await asyncio.sleep(0.001)


# --- whole ---------------------------------------------------------------------------------------------------------


def test_an_answer_has_its_sentences_with_quotes_and_its_sources_with_seconds(plane: QueryPlane) -> None:
    async def scenario() -> dict[str, Any]:
        return await House(plane, *WHOLE).ask().json()  # type: ignore[no-any-return]

    body = run(scenario())
    assert set(body) == {
        *("answer_id", "search_id", "answer", "sentences", "sources", "also", "dropped", "abstained", "why"),
        *("generator", "usage", "transcript", "partial", "missing", "took_ms", "index_version"),
        *("notice", "notices", "query"),
        "prompt",
    }
    assert body["answer"] == "Herons eat fish. [1] A heron calls. [2]"
    assert [(s["text"], s["citations"], s["support"], s["score"]) for s in body["sentences"]] == [
        ("Herons eat fish.", [1], "supported", 0.96),
        ("A heron calls.", [2], "supported", 1.0),
    ]
    text, film = body["sources"]
    assert (text["n"], text["quote"], text["start_char"], text["end_char"]) == (1, "Herons eat fish.", 0, 16)
    assert (text["start_ms"], text["play_url"], text["thumbnail_url"]) == (None, None, None)
    assert text["hit"]["key"] == "herons"
    assert (film["start_ms"], film["end_ms"]) == (12_300, 15_000)
    assert film["play_url"] == f"/v1/media/{'5' * 64}#t=12.3,15.0"
    assert film["thumbnail_url"] == f"/v1/entries/{film['hit']['moment']['frame']['id']}/thumbnail"
    assert body["usage"] == {"prompt_tokens": 11, "completion_tokens": 7}


def test_the_index_answers_through_the_real_pipeline(call: Callable[..., httpx.Response]) -> None:
    answer = call("POST", "/v1/ask", json={"question": "What is on a mat?"})
    assert answer.status_code == 200
    body = answer.json()
    cited = body["sources"][0]
    assert cited["hit"]["tenant"] == "default"
    assert cited["quote"] in cited["hit"]["text"]
    assert body["sentences"][0]["citations"] == [cited["n"]] == [1]


def test_a_question_carries_its_conversation_images_and_the_fields_of_a_search(plane: QueryPlane) -> None:
    picture = base64.b64encode(IMAGES["dawn"]).decode()
    other = base64.b64encode(IMAGES["noon"]).decode()

    async def scenario() -> House:
        house = House(plane, *WHOLE)
        parts = [
            {"type": "text", "text": "what is"},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}},
            {"type": "text", "text": "this bird?"},
        ]
        early = [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{other}"}}]
        messages = [
            {"role": "user", "content": [{"type": "text", "text": "hello"}, *early]},
            {"role": "assistant", "content": "Good day."},
            {"role": "user", "content": parts},
        ]
        exchange = house.ask(
            question=None,
            messages=messages,
            tenant="acme",
            filter={"mime": "image/png"},
            limit=3,
            max_sources=2,
            profile={"domain": "birds"},
            answer_in="de",
            generator="extractive",
        )
        await exchange.body()
        assert exchange.status == 200
        return house

    (request,) = run(scenario()).answers.requests
    assert request.question is None
    assert [(m.role, m.content) for m in request.messages] == [
        ("user", "hello"),
        ("assistant", "Good day."),
        ("user", "what is\nthis bird?"),
    ]
    assert request.images == (IMAGES["dawn"],)
    assert (request.search.image, request.search.access.tenant, request.search.limit) == (IMAGES["dawn"], "acme", 3)
    assert request.search.where is not None
    assert (request.max_sources, request.profile, request.answer_in) == (2, {"domain": "birds"}, "de")
    assert request.generator == "extractive"


def _image(data: bytes) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(data).decode()}"}}


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"mood": "new"}, 422, "/mood"),
        ({"text": 1}, 422, "/text"),
        ({"stream": "yes"}, 422, "/stream"),
        ({"messages": [{"role": "user", "content": "a", "name": "b"}]}, 422, "/messages/0/name"),
        ({"messages": [{"role": "user", "content": "a"}] * 51}, 422, "/messages"),
        (
            {"messages": [{"role": "user", "content": [_image(b"x")] * 9}]},
            422,
            "/messages/0/content/8/image_url/url",
        ),
        (
            {"messages": [{"role": "user", "content": [_image(bytes(5000))]}]},
            413,
            "/messages/0/content/0/image_url/url",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://h/i.png"}}]}
                ]
            },
            422,
            "/messages/0/content/0/image_url/url",
        ),
        ({"filter": {"mood": 1}}, 400, "/filter/mood"),
        ({"filter": {"uri": {"gte": "s3://"}}}, 400, "/filter"),
        ({"profile": {"domain": 3}}, 422, "/profile/domain"),
        ({"profile": {"half \ud800": "x"}}, 400, "/profile"),
    ],
)
def test_a_question_that_is_malformed_points_at_the_fault(
    plane: QueryPlane, body: dict[str, Any], status: int, field: str
) -> None:
    async def scenario() -> tuple[Exchange, Any, House]:
        house = House(plane, *WHOLE)
        exchange = house.ask(**body)
        return exchange, await exchange.json(), house

    exchange, document, house = run(scenario())
    assert (exchange.status, exchange.headers["content-type"]) == (status, PROBLEM)
    assert document["field"].startswith(field)
    assert house.answers.requests == []


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"question": "w" * 10_001}, 413, "/question"),
        ({"question": " "}, 400, "/question"),
        ({"question": None}, 400, "/question"),
        ({"cursor": "abc"}, 400, "/cursor"),
        ({"generator": "nobody"}, 400, "/generator"),
        ({"max_sources": 0}, 400, "/max_sources"),
        ({"profile": {str(number): "x" for number in range(11)}}, 400, "/profile"),
        ({"messages": [{"role": "system", "content": "obey"}]}, 400, "/messages/0/role"),
        ({"messages": [{"role": "user", "content": "w" * 10_001}]}, 413, "/messages/0/content"),
        ({"answer_in": "german"}, 400, "/answer_in"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_question_out_of_bounds_points_at_the_fault_before_a_stream_begins(
    call: Callable[..., httpx.Response], body: dict[str, Any], status: int, field: str, stream: bool
) -> None:
    answer = call("POST", "/v1/ask", json={"question": "what?", "stream": stream, **body})
    assert (answer.status_code, answer.headers["content-type"]) == (status, PROBLEM)
    assert answer.json()["field"] == field


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("error", "status", "retry"),
    [
        (QueryError("no", field="/text"), 400, None),
        (UnavailableError("down"), 503, "5"),
        (OverloadedError("full", retry_after_s=1.2), 429, "2"),
        (ValueError("secret"), 500, None),
    ],
)
def test_an_error_before_the_first_event_is_a_problem_with_its_status(
    plane: QueryPlane, error: Exception, status: int, retry: str | None, stream: bool
) -> None:
    async def scenario() -> tuple[Exchange, Any, House]:
        house = House(plane, error)
        exchange = house.ask(stream=stream)
        document = await exchange.json()
        return exchange, document, house

    exchange, document, house = run(scenario())
    assert (exchange.status, exchange.headers["content-type"]) == (status, PROBLEM)
    assert exchange.headers.get("retry-after") == retry
    assert "secret" not in str(document)
    assert house.service.running == 0


# --- stream --------------------------------------------------------------------------------------------------------


def test_a_stream_has_the_events_in_order_and_ends_with_the_whole_answer(plane: QueryPlane) -> None:
    async def scenario() -> tuple[Exchange, list[Any], Any]:
        house = House(plane, *WHOLE)
        exchange = house.ask(stream=True)
        events = await exchange.events()
        await exchange.finished()
        house.answers.feed(*WHOLE)
        return exchange, events, await house.ask().json()

    exchange, events, whole = run(scenario())
    assert exchange.headers["content-type"].startswith("text/event-stream")
    assert exchange.headers["cache-control"] == "no-cache"
    assert exchange.headers["x-accel-buffering"] == "no"
    assert [event.name for event in events] == ["search", "token", "token", "sentence", "token", "sentence", "done"]
    assert [event.number for event in events] == [1, 2, 3, 4, 5, 6, 7]
    assert events[0].data["answer_id"] == ANSWER_ID
    assert [source["n"] for source in events[0].data["sources"]] == [1, 2]
    assert "".join(event.data["text"] for event in events if event.name == "token") == "".join(TOKENS)
    sentence = events[5].data
    assert (sentence["text"], sentence["replaces"], sentence["dropped"]) == ("A heron calls.", [19, 38], False)
    assert [(source["n"], source["quote"]) for source in sentence["sources"]] == [(2, "A heron calls.")]
    assert events[-1].data == whole


def test_the_search_is_sent_before_the_first_token_exists(plane: QueryPlane) -> None:
    async def scenario() -> None:
        house = House(plane, SEARCH)
        exchange = house.ask(stream=True)
        first = await exchange.event()
        assert first is not None
        assert first.name == "search"
        house.answers.feed(*WHOLE[1:])
        assert [event.name for event in await exchange.events()][-1] == "done"

    run(scenario())


@pytest.mark.parametrize(
    ("error", "status"), [(UnavailableError("the generator went"), 503), (ValueError("secret"), 500)]
)
def test_an_error_within_a_stream_is_its_last_event(plane: QueryPlane, error: Exception, status: int) -> None:
    async def scenario() -> tuple[list[Any], House]:
        house = House(plane, SEARCH, TokenEvent("Herons"), error)
        return await house.ask(stream=True).events(), house

    events, house = run(scenario())
    assert [event.name for event in events] == ["search", "token", "error"]
    assert (events[-1].data["status"], events[-1].data["instance"]) == (status, "/v1/ask")
    assert "secret" not in str(events[-1].data)
    assert house.service.running == 0


# --- clients that go -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("events", [(), (SEARCH,), (SEARCH, TokenEvent("Herons"))])
@pytest.mark.parametrize("stream", [False, True])
def test_what_runs_for_a_client_that_goes_is_closed(plane: QueryPlane, events: tuple[Any, ...], stream: bool) -> None:
    async def scenario() -> None:
        house = House(plane, *events)
        exchange = house.ask(stream=stream)
        await until(lambda: bool(house.answers.requests))
        if stream and events:
            await exchange.event()
        exchange.go()
        await asyncio.wait_for(house.answers.closed.wait(), 60)
        await exchange.finished()
        assert house.service.running == 0
        resumed = house.resume(0)
        await resumed.body()
        assert resumed.status == 404

    run(scenario())


def test_a_request_that_its_server_cancels_is_closed_too(plane: QueryPlane) -> None:
    async def scenario() -> None:
        house = House(plane, SEARCH)
        exchange = house.ask(stream=True)
        await exchange.event()
        exchange.task.cancel()
        await asyncio.wait_for(house.answers.closed.wait(), 60)
        assert house.service.running == 0

    run(scenario())


# --- clients that come back ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("after", [None, 0, 1, 4, 6])
def test_a_complete_stream_is_replayed_after_the_last_event(plane: QueryPlane, after: int | None, method: str) -> None:
    async def scenario() -> tuple[list[Any], list[Any]]:
        house = House(plane, *WHOLE)
        whole = await house.ask(stream=True).events()
        await until(lambda: _complete(house))
        return whole, await house.resume(after, method=method).events()

    whole, rest = run(scenario())
    assert rest == whole[after or 0 :]


async def _complete(house: House) -> bool:
    page = await house.logs.read(ANSWER_ID, OWNER, after=0, wait_s=0)
    return page is not None and page.complete


def test_a_client_that_has_all_events_is_told_to_connect_no_more(plane: QueryPlane) -> None:
    async def scenario() -> int:
        house = House(plane, *WHOLE)
        await house.ask(stream=True).events()
        await until(lambda: _complete(house))
        exchange = house.resume(len(WHOLE))
        await exchange.body()
        return exchange.status

    assert run(scenario()) == 204


def test_a_resumable_answer_goes_on_without_its_client_which_gets_the_rest(plane: QueryPlane) -> None:
    async def scenario() -> None:
        house = House(plane, *WHOLE[:3])
        exchange = house.ask(stream=True, resumable=True)
        seen = [await exchange.event() for _ in range(2)]
        exchange.go()
        await exchange.finished()
        resumed = house.resume(2)
        third = await resumed.event()
        assert third is not None
        assert third.number == 3
        house.answers.feed(*WHOLE[3:])
        rest = await resumed.events()
        assert [event.number for event in [*seen, third, *rest] if event] == [1, 2, 3, 4, 5, 6, 7]
        assert house.service.running == 0

    run(scenario())


def test_an_answer_that_goes_on_alone_can_be_cancelled(plane: QueryPlane) -> None:
    async def scenario() -> None:
        house = House(plane, SEARCH)
        exchange = house.ask(stream=True, resumable=True)
        await exchange.event()
        exchange.go()
        await exchange.finished()
        foreign = Exchange(house.app, "DELETE", f"/v1/ask/{ANSWER_ID}", query="tenant=acme")
        await foreign.body()
        assert foreign.status == 404
        assert not house.answers.closed.is_set()
        cancel = Exchange(house.app, "DELETE", f"/v1/ask/{ANSWER_ID}")
        await cancel.body()
        assert cancel.status == 204
        await asyncio.wait_for(house.answers.closed.wait(), 60)

    run(scenario())


@pytest.mark.parametrize(
    ("query", "answer_id", "passed_s", "status"),
    [
        ("", ANSWER_ID, 59, 200),
        ("", ANSWER_ID, 61, 404),
        ("tenant=acme", ANSWER_ID, 0, 404),
        ("", "b" * 32, 0, 404),
        ("", "no-such-answer", 0, 404),
    ],
)
def test_an_answer_is_replayed_to_its_tenant_for_a_minute(
    plane: QueryPlane, query: str, answer_id: str, passed_s: float, status: int
) -> None:
    async def scenario() -> Exchange:
        house = House(plane, *WHOLE)
        await house.ask(stream=True).events()
        await until(lambda: _complete(house))
        house.clock.now_s += passed_s
        exchange = house.resume(2, query=query, answer_id=answer_id)
        await exchange.body()
        return exchange

    exchange = run(scenario())
    assert exchange.status == status
    if status == 404:
        assert exchange.headers["content-type"] == PROBLEM


def test_a_last_event_without_its_answer_does_not_ask_again(plane: QueryPlane) -> None:
    async def scenario() -> tuple[Exchange, Any, House]:
        house = House(plane, *WHOLE)
        exchange = Exchange(house.app, "POST", "/v1/ask", {"question": "?"}, headers={"Last-Event-ID": "3"})
        return exchange, await exchange.json(), house

    exchange, document, house = run(scenario())
    assert exchange.status == 404
    assert "/v1/ask/{answer_id}" in document["detail"]
    assert house.answers.requests == []


@pytest.mark.parametrize("last", ["x", "-1", "1.5", "٣", "9" * 30])
def test_a_last_event_that_is_no_number_is_refused(plane: QueryPlane, last: str) -> None:
    async def scenario() -> Exchange:
        house = House(plane)
        exchange = Exchange(house.app, "GET", f"/v1/ask/{ANSWER_ID}", headers={"Last-Event-ID": last})
        await exchange.body()
        return exchange

    assert run(scenario()).status == 400


# --- limits ----------------------------------------------------------------------------------------------------------


def test_no_more_answers_are_generated_at_a_time_than_the_setting_allows(plane: QueryPlane) -> None:
    async def scenario() -> None:
        house = House(plane, SEARCH, SEARCH, max_answers=2)
        running = [house.ask(stream=True) for _ in range(2)]
        for exchange in running:
            await exchange.event()
        for stream in (False, True):
            refused = house.ask(stream=stream)
            document = await refused.json()
            assert (refused.status, refused.headers["retry-after"]) == (429, "2")
            assert "generate.max_answers" in document["detail"]
        running[0].go()
        await running[0].finished()
        again = house.ask(stream=True)
        await until(lambda: house.service.running == 2)
        house.answers.feed(SEARCH)  # the other one that runs has waited longer
        await running[1].event()
        house.answers.feed(SEARCH)
        assert await again.event() is not None
        assert again.status == 200

    run(scenario())


@pytest.mark.parametrize("scope", ["caller", "tenant"])
def test_an_answer_that_goes_on_alone_is_in_progress_until_it_ends(plane: QueryPlane, scope: str) -> None:
    async def scenario() -> None:
        house = House(plane, SEARCH, limits=LimitsSettings(**{scope: {"max_answers": 1}}))
        first = house.ask(stream=True, resumable=True)
        await first.event()
        first.go()
        await first.finished()
        assert house.service.running == 1
        refused = house.ask()
        document = await refused.json()
        assert refused.status == 429
        assert f"limits.{scope}.max_answers" in document["detail"]
        house.answers.feed(*WHOLE[1:])
        await until(lambda: house.service.running == 0)
        assert not house.admissions.in_progress
        house.answers.feed(*WHOLE)
        assert await house.ask().json()

    run(scenario())


def test_an_answer_that_fails_before_its_first_event_is_in_progress_no_longer(plane: QueryPlane) -> None:
    async def scenario() -> None:
        limits = LimitsSettings(caller={"max_answers": 1}, tenant={"max_answers": 1})
        house = House(plane, UnavailableError("the store does not answer"), limits=limits)
        failed = house.ask(stream=True)
        await failed.json()
        assert failed.status == 503
        assert not house.admissions.in_progress

    run(scenario())


def test_clients_learn_that_the_plane_shuts_down(plane: QueryPlane) -> None:
    async def scenario() -> Any:
        house = House(plane, SEARCH)
        exchange = house.ask(stream=True)
        await exchange.event()
        await house.service.close()
        assert house.answers.closed.is_set()
        return (await exchange.events())[-1]

    event = run(scenario())
    assert (event.name, event.data["status"]) == ("error", 503)
