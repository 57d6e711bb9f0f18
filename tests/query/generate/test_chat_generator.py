"""The generator against a server that misbehaves in each way that servers do."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pydantic import SecretStr

from penstock.config import GenerateSettings
from penstock.errors import ConfigError
from penstock.query.generate.chat_generator import ChatGenerator
from penstock.query.generate.generators import GeneratorCutError, GeneratorError, GeneratorRun
from penstock.query.generate.prompt import Prompt
from penstock.query.generate.types import TokenUsage
from tests.query.generate.generator_server import (
    END,
    GeneratorDouble,
    chunk,
    completion,
    event,
    running,
    split,
    streamed,
)

PIECES = ["The harbour", " opens at ten", " [1", "]", ". 水は", "青い 🦀 [", "2].\n"]
TEXT = "".join(PIECES)
PROMPT = Prompt(({"role": "user", "content": "When does the harbour open?"},), 10, 64, ())
KEY = "sk-a-secret-key"


class Answer:
    """Holds what a test got of an answer, also of one that ended with an error."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.run = GeneratorRun()
        self.waits: list[float] = []
        self.error: GeneratorError | None = None
        self.begun = asyncio.Event()

    @property
    def text(self) -> str:
        return "".join(self.pieces)


async def collect(generator: ChatGenerator, answer: Answer, timeout_s: float | None = None) -> None:
    try:
        async for piece in generator.stream(PROMPT, answer.run, timeout_s=timeout_s):
            answer.pieces.append(piece)
            answer.begun.set()
    except GeneratorError as exc:
        answer.error = exc


def ask(double: GeneratorDouble, *, timeout_s: float | None = None, **settings: Any) -> Answer:
    """Streams one answer to its end."""

    async def run() -> Answer:
        async with running(double), asyncio.timeout(20):
            answer = Answer()

            async def pause(wait_s: float) -> None:
                answer.waits.append(wait_s)

            generator = ChatGenerator(GenerateSettings(url=double.url, **settings), pause=pause)
            try:
                await collect(generator, answer, timeout_s)
            finally:
                await generator.close()
            return answer

    return asyncio.run(run())


def test_an_answer_is_streamed_piece_by_piece() -> None:
    double = GeneratorDouble(parts=streamed(PIECES))
    answer = ask(double, model="small", key=SecretStr(KEY), temperature=0.5)
    assert answer.error is None
    assert answer.text == TEXT
    assert all(answer.pieces)
    assert answer.run == GeneratorRun(TokenUsage(7, 3), shortened=False, attempts=1)
    (request,) = double.requests
    assert request == {
        "model": "small",
        "messages": [{"role": "user", "content": "When does the harbour open?"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 64,
        "temperature": 0.5,
    }
    assert double.headers[0]["authorization"] == f"Bearer {KEY}"


def test_the_first_piece_arrives_while_the_generator_still_writes() -> None:
    async def run() -> None:
        async with running(GeneratorDouble(parts=streamed(PIECES), hold_after=2)) as double, asyncio.timeout(10):
            generator = ChatGenerator(GenerateSettings(url=double.url))
            stream = generator.stream(PROMPT, GeneratorRun())
            assert await anext(stream) == PIECES[0]
            double.resume.set()
            assert [piece async for piece in stream] == PIECES[1:]
            await generator.close()

    asyncio.run(run())


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_characters_markers_and_lines_may_be_split_anywhere(size: int) -> None:
    answer = ask(GeneratorDouble(parts=split(streamed(PIECES), size)))
    assert answer.error is None
    assert answer.text == TEXT
    assert answer.run.usage == TokenUsage(7, 3)


@pytest.mark.parametrize(
    "parts",
    [
        streamed(PIECES, end=False),
        streamed(PIECES, usage=False, end=False),
        [b": keep-alive\n\n", *streamed(PIECES)],
        [part.replace(b"\n", b"\r\n") for part in streamed(PIECES)],
        [b"event: message\nid: 1\n" + part for part in streamed(PIECES)],
        [b"\n\n", *streamed(PIECES), b"data: {broken\n\n"],
        [*map(chunk, PIECES), END],  # no reason for the end
        [chunk([{"type": "text", "text": piece}]) for piece in PIECES] + [END],  # type: ignore[arg-type]
        [event({"choices": [{"delta": {"content": TEXT}, "finish_reason": "stop"}], "usage": "?"})],
        [b'data: {"choices": [{"delta":\ndata: {"content": ' + json.dumps(TEXT).encode() + b"}}]}\n\n", END],
        [chunk("<th"), chunk("ink>\nWhich harbour? </thi"), chunk("nk>\n\n"), *map(chunk, PIECES), END],
        [chunk(reasoning_content="Which harbour?"), *map(chunk, PIECES), END],
    ],
)
def test_the_dialects_of_servers_are_understood(parts: list[bytes]) -> None:
    answer = ask(GeneratorDouble(parts=parts))
    assert answer.error is None
    assert answer.text == TEXT


def test_text_that_only_begins_like_a_thought_is_kept() -> None:
    assert ask(GeneratorDouble(parts=streamed(["<th", "irty> boats"]))).text == "<thirty> boats"
    assert ask(GeneratorDouble(parts=streamed([" <thi"]))).text == " <thi"


def test_a_server_that_does_not_stream_gives_its_answer_in_one_piece() -> None:
    answer = ask(GeneratorDouble(body=completion(TEXT)))
    assert answer.error is None
    assert answer.pieces == [TEXT]
    assert answer.run.usage == TokenUsage(7, 3)


@pytest.mark.parametrize(
    ("double", "reason", "attempts"),
    [
        (GeneratorDouble(status=401), "HTTP 401", 1),
        (GeneratorDouble(status=400), "HTTP 400", 2),  # perhaps for a field that it does not know
        (GeneratorDouble(status=302, reply_headers={"Location": "http://127.0.0.1:9/"}), "HTTP 302", 1),
        (GeneratorDouble(status=429), "HTTP 429", 2),
        (GeneratorDouble(status=500), "HTTP 500", 2),
        (GeneratorDouble(failures=[0, 0]), r"connection to the generator broke \(RemoteProtocolError\)", 2),
        (GeneratorDouble(status=429, reply_headers={"Retry-After": "3600"}), "no time for a second request", 1),
        (GeneratorDouble(parts=streamed([])), "wrote nothing", 1),
        (GeneratorDouble(parts=streamed(["", ""])), "wrote nothing", 1),
        (GeneratorDouble(parts=streamed(["<think>", "hm"])), "wrote nothing", 1),
        (GeneratorDouble(parts=[]), "ends before it is complete", 2),
        (GeneratorDouble(parts=[b"data: {broken\n\n"]), "no chat completion", 1),
        (GeneratorDouble(parts=[b"data: []\n\n"]), "no chat completion", 1),
        (GeneratorDouble(parts=[b'data: {"choices": [7]}\n\n']), "no chat completion", 1),
        (GeneratorDouble(parts=[b'data: {"choices": [{"delta": {"content": 7}}]}\n\n']), "no chat completion", 1),
        (GeneratorDouble(parts=[b"data: " + b"[" * 50_000 + b"\n\n"]), "no chat completion", 1),
        (GeneratorDouble(parts=[b"data: \xff\n\n"]), "no UTF-8", 1),
        (GeneratorDouble(parts=[b'{"choices": ', b"[]}"], content_type="application/json"), "no chat completion", 1),
        (GeneratorDouble(parts=[b"<html>Sign in to this network</html>"]), "ends before it is complete", 2),
        (GeneratorDouble(parts=[event({"error": {"message": KEY, "code": 500}})]), "reported an error", 1),
        (GeneratorDouble(parts=streamed(PIECES), reply_headers={"Content-Encoding": "gzip"}), "compressed", 1),
        (GeneratorDouble(parts=streamed(PIECES), cut_after=0), "connection to the generator broke", 2),
    ],
)
def test_nothing_usable_is_an_error_before_the_first_piece(double: GeneratorDouble, reason: str, attempts: int) -> None:
    answer = ask(double, key=SecretStr(KEY))
    assert not answer.pieces
    assert type(answer.error) is GeneratorError
    with pytest.raises(GeneratorError, match=reason):
        raise answer.error
    assert KEY not in str(answer.error)
    assert answer.run.attempts == attempts == len(double.requests)


@pytest.mark.parametrize("status", [0, 429, 500, 503])
def test_a_request_is_repeated_once_before_the_first_piece(status: int) -> None:
    double = GeneratorDouble(parts=streamed(PIECES), failures=[status])
    answer = ask(double)
    assert answer.text == TEXT
    assert answer.run.attempts == 2
    assert answer.waits == [0.25]
    assert double.requests[0] == double.requests[1]


def test_the_second_request_waits_as_long_as_the_server_says() -> None:
    later = GeneratorDouble(parts=streamed(PIECES), failures=[429], reply_headers={"Retry-After": "1"})
    assert ask(later).waits == [1.0]
    past = {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}
    assert ask(GeneratorDouble(parts=streamed(PIECES), failures=[503], reply_headers=past)).waits == [0.0]
    odd = {"Retry-After": "soon"}
    assert ask(GeneratorDouble(parts=streamed(PIECES), failures=[503], reply_headers=odd)).waits == [0.25]


def test_a_server_that_refuses_the_field_for_usage_is_served_without_it() -> None:
    async def run() -> None:
        double = GeneratorDouble(parts=streamed(PIECES, usage=False), refused=frozenset({"stream_options"}))
        async with running(double), asyncio.timeout(10):
            generator = ChatGenerator(GenerateSettings(url=double.url))
            for _ in range(2):
                answer = Answer()
                await collect(generator, answer)
                assert answer.text == TEXT
            await generator.close()
            assert ["stream_options" in request for request in double.requests] == [True, False, False]

    asyncio.run(run())


@pytest.mark.parametrize(
    ("double", "reason"),
    [
        (GeneratorDouble(parts=streamed(PIECES), cut_after=3), "connection to the generator broke"),
        (
            GeneratorDouble(parts=[chunk("The harbour"), b'data: {"choi', END], cut_after=2),
            "connection to the generator",
        ),
        (GeneratorDouble(parts=[chunk("The harbour"), b'data: {"choices": [{"del']), "no chat completion"),
        (GeneratorDouble(parts=[chunk("The harbour")]), "ends before it is complete"),
        (GeneratorDouble(parts=[chunk("The harbour"), "data: 水".encode()[:-1]]), "ends inside a character"),
        (GeneratorDouble(parts=[chunk("The harbour"), b"data: {broken\n\n", *streamed(PIECES)]), "no chat completion"),
        (GeneratorDouble(parts=[chunk("The harbour"), event({"error": "overloaded"}), END]), "reported an error"),
        (GeneratorDouble(parts=[chunk("The harbour"), chunk(finish="content_filter"), END]), "withheld the rest"),
    ],
)
def test_what_breaks_later_ends_the_text_with_an_error_and_is_not_repeated(
    double: GeneratorDouble, reason: str
) -> None:
    answer = ask(double)
    assert answer.pieces[0] == "The harbour"
    assert isinstance(answer.error, GeneratorCutError)
    with pytest.raises(GeneratorCutError, match=reason):
        raise answer.error
    assert len(double.requests) == 1


def test_a_generator_that_is_late_with_its_first_piece_is_given_up() -> None:
    started_s = time.monotonic()
    silent = ask(GeneratorDouble(silent=True), first_token_ms=100)
    assert type(silent.error) is GeneratorError
    assert "wrote nothing in time" in str(silent.error)
    comments = GeneratorDouble(parts=[b": still here\n\n"], endless=True, part_s=0.01)
    assert "wrote nothing in time" in str(ask(comments, first_token_ms=100).error)
    assert time.monotonic() - started_s < 10


def test_a_model_that_thinks_may_take_the_time_of_the_whole_answer() -> None:
    async def run() -> None:
        double = GeneratorDouble(parts=[chunk(reasoning_content="hm"), *streamed(PIECES)], hold_after=1)
        async with running(double), asyncio.timeout(10):
            asyncio.get_running_loop().call_later(2.3, double.resume.set)
            generator = ChatGenerator(GenerateSettings(url=double.url, first_token_ms=2_000))
            answer = Answer()
            await collect(generator, answer)
            await generator.close()
            assert answer.text == TEXT

    asyncio.run(run())


@pytest.mark.parametrize("settings", [{"total_ms": 1_500}, {"timeout_s": 1.5}])
def test_an_answer_ends_when_its_time_is_up(settings: dict[str, Any]) -> None:
    answer = ask(GeneratorDouble(parts=streamed(PIECES), hold_after=3), **settings)
    assert answer.pieces == PIECES[:2]
    assert isinstance(answer.error, GeneratorCutError)
    assert "the time for the whole answer is up" in str(answer.error)


def test_an_endless_text_ends_at_a_bound() -> None:
    answer = ask(GeneratorDouble(parts=[chunk("word " * 8)], endless=True))
    assert answer.error is None
    assert answer.run.shortened
    assert len(answer.text) == PROMPT.max_tokens * 16


@pytest.mark.parametrize("part", [chunk("", logprobs="x" * 500), b": comment\n", b"x" * 1_000, b'{"a": "'])
def test_an_endless_body_without_text_ends_at_a_bound(part: bytes) -> None:
    answer = ask(GeneratorDouble(parts=[part], endless=True))
    assert type(answer.error) is GeneratorError
    assert "sends more than its answer can have" in str(answer.error)


def test_an_endless_body_after_the_text_does_not_delay_its_end() -> None:
    answer = ask(GeneratorDouble(parts=[*streamed(PIECES), b": more\n\n"], endless=True))
    assert answer.error is None
    assert answer.text == TEXT


def test_a_connection_that_stays_open_after_the_text_does_not_delay_its_end() -> None:
    parts = [*streamed(PIECES, usage=False, end=False), b": more\n\n"]
    started_s = time.monotonic()
    answer = ask(GeneratorDouble(parts=parts, hold_after=len(parts) - 1))
    assert answer.text == TEXT
    assert answer.error is None
    assert time.monotonic() - started_s < 10


def test_an_answer_that_the_model_ended_at_its_limit_says_so() -> None:
    assert ask(GeneratorDouble(parts=[*map(chunk, PIECES), chunk(finish="length"), END])).run.shortened


async def leave_by_closing(generator: ChatGenerator, double: GeneratorDouble) -> None:
    stream = generator.stream(PROMPT, GeneratorRun())
    await anext(stream)
    await stream.aclose()


async def leave_by_cancelling(generator: ChatGenerator, double: GeneratorDouble) -> None:
    answer = Answer()
    task = asyncio.create_task(collect(generator, answer))
    await answer.begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def leave_before_the_first_piece(generator: ChatGenerator, double: GeneratorDouble) -> None:
    task = asyncio.create_task(collect(generator, Answer()))
    await double.received.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    ("leave", "hold_after"),
    [(leave_by_closing, 2), (leave_by_cancelling, 2), (leave_before_the_first_piece, 0)],
)
def test_leaving_ends_the_request_upstream_within_a_second(
    leave: Callable[[ChatGenerator, GeneratorDouble], Awaitable[None]], hold_after: int
) -> None:
    async def run() -> None:
        double = GeneratorDouble(parts=streamed(PIECES), hold_after=hold_after)
        async with running(double), asyncio.timeout(10):
            generator = ChatGenerator(GenerateSettings(url=double.url))
            await leave(generator, double)
            left_s = asyncio.get_running_loop().time()
            await double.left.wait()
            assert double.left_at_s is not None
            assert double.left_at_s - left_s < 1
            await generator.close()

    asyncio.run(run())


def test_further_fields_of_the_settings_are_sent_and_null_leaves_one_out() -> None:
    double = GeneratorDouble(parts=streamed(PIECES))
    fields = {"max_tokens": None, "max_completion_tokens": 64, "temperature": 1}
    assert ask(double, extra_fields=fields).text == TEXT
    assert "max_tokens" not in double.requests[0]
    assert double.requests[0]["max_completion_tokens"] == 64
    assert double.requests[0]["temperature"] == 1


def test_the_reason_of_a_refused_request_is_logged_without_the_key(caplog: pytest.LogCaptureFixture) -> None:
    body = f"unknown model 'x' for\r\n{KEY}".encode()
    with caplog.at_level(logging.DEBUG):
        answer = ask(GeneratorDouble(status=404, body=body), key=SecretStr(KEY))
    assert "HTTP 404" in str(answer.error)
    assert "unknown model 'x' for  ***" in caplog.text
    assert KEY not in caplog.text


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"url": "http://localhost/v1?key=secret"}, "without user, query"),
        ({"url": "http://"}, "must be such as"),
        ({"url": "http://[::1/v1"}, "no URL"),
        ({"url": "http://localhost/v1", "key": "a\nb"}, "generate.key"),
        ({"url": "http://localhost/v1", "key": "schlüssel"}, "generate.key"),
    ],
)
def test_an_address_or_a_key_that_cannot_be_sent_is_refused(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        ChatGenerator(GenerateSettings(**settings))
    assert "secret" not in str(caught.value)


def test_a_generator_that_is_not_there_is_an_error() -> None:
    async def run() -> None:
        async with running(GeneratorDouble()) as double:
            url = double.url
        answer = Answer()
        generator = ChatGenerator(GenerateSettings(url=url))
        await collect(generator, answer)
        await generator.close()
        assert type(answer.error) is GeneratorError
        assert "cannot be reached (ConnectError)" in str(answer.error)

    asyncio.run(run())


def test_its_name_and_whether_it_sees_images_come_from_the_settings() -> None:
    generator = ChatGenerator(GenerateSettings(url="http://localhost/v1", model="small", vision=True))
    assert (generator.name, generator.sees_images) == ("small", True)
