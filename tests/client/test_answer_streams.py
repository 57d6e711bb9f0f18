"""Streamed answers, whose connections break where they like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from penstock.client import RetryPolicy
from penstock.errors import OverloadedError, PenstockError, QueryError, UnavailableError
from tests.client.both import Both
from tests.client.scripted_server import Scripted, ScriptedServer, events, problem

START = ("search", {"answer_id": "a/1", "sources": []})
TOKENS = [("token", {"text": f"word\u2028{number} "}) for number in range(3)]
SENTENCE = ("sentence", {"text": "word", "replaces": [0, 5]})
DONE = ("done", {"answer": "word"})
WHOLE = [START, *TOKENS, SENTENCE, DONE]


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest, server: ScriptedServer) -> Callable[..., list[tuple[str, Any]]]:
    """Sends a question, and returns the names and data of the events."""
    both = Both(request.param, server.url, tenant="acme", retries=RetryPolicy(max_retries=2))

    def streamed(**options: Any) -> list[tuple[str, Any]]:
        return [(event.name, event.data) for event in both("ask_stream", "what?", **options)]

    streamed.waits = both.waits  # type: ignore[attr-defined]
    return streamed


def test_an_answer_is_yielded_as_it_is_written(ask: Callable[..., Any], server: ScriptedServer) -> None:
    server.answers(events(*WHOLE))
    assert ask(max_sources=2) == WHOLE
    (request,) = server.received
    assert (request.method, request.path) == ("POST", "/v1/ask")
    assert request.json == {
        "tenant": "acme",
        "question": "what?",
        "max_sources": 2,
        "stream": True,
        "resumable": True,
    }


def test_a_stream_that_breaks_is_continued_behind_its_last_event(
    ask: Callable[..., Any], server: ScriptedServer
) -> None:
    half = events(*WHOLE[2:4], first=3)
    server.answers(
        events(*WHOLE[:2], cut=True),
        Scripted(200, half.body + b'id: 5\nevent: sentence\ndata: {"te', half.headers),  # cut within an event
        problem(503, "a replica starts", Retry_After="2"),
        events(*WHOLE[4:], first=5),
    )
    assert ask() == WHOLE
    resumed = server.received[1:]
    assert {(request.method, request.path) for request in resumed} == {("GET", "/v1/ask/a%2F1?tenant=acme")}
    assert [request.headers["last-event-id"] for request in resumed] == ["2", "4", "4"]
    assert ask.waits == [0.25, 0.25, 2.0]  # type: ignore[attr-defined]


def test_a_stream_that_goes_on_breaking_ends(ask: Callable[..., Any], server: ScriptedServer) -> None:
    server.answers(events(START, cut=True), *[events(cut=True)] * 3)
    with pytest.raises(UnavailableError, match="no query plane responds"):
        ask()


def test_a_stream_that_cannot_be_continued_is_an_error(ask: Callable[..., Any], server: ScriptedServer) -> None:
    server.answers(events(START, cut=True), problem(404, "the answer is not kept any more"))
    with pytest.raises(QueryError, match="not kept any more"):
        ask()


@pytest.mark.parametrize(
    ("document", "error"),
    [
        ({"status": 429, "detail": "the generator is busy"}, OverloadedError),
        ({"status": 503, "detail": "the generator is busy"}, UnavailableError),
        ({"status": 500, "detail": "the generator is busy"}, PenstockError),
    ],
)
def test_an_error_within_the_stream_is_raised(
    ask: Callable[..., Any], server: ScriptedServer, document: dict[str, object], error: type[Exception]
) -> None:
    server.answers(events(START, ("error", document)))
    with pytest.raises(error, match="the generator is busy"):
        ask()
    assert len(server.received) == 1


def test_a_question_that_is_refused_is_not_streamed(ask: Callable[..., Any], server: ScriptedServer) -> None:
    server.answers(problem(400, "the question is empty"))
    with pytest.raises(QueryError, match="the question is empty"):
        ask()


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_leaving_a_stream_stops_the_answer(kind: str, server: ScriptedServer) -> None:
    server.answers(events(*WHOLE[:4]), Scripted(204, b""))
    both = Both(kind, server.url)
    assert [event.name for event in both("ask_stream", "what?", at_most=2)] == ["search", "token"]
    assert [(request.method, request.path) for request in server.received[1:]] == [("DELETE", "/v1/ask/a%2F1")]


def test_a_stream_that_falls_silent_is_continued_and_not_stopped(
    ask: Callable[..., Any], server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.client.calls._PIECES_S", 0.3)
    server.answers(replace(events(*WHOLE[:3]), silent=True), events(*WHOLE[3:], first=4))
    assert ask() == WHOLE
    assert [request.method for request in server.received] == ["POST", "GET"]
    # A question whose answer has not begun may be answered already: it is not sent twice.
    server.received.clear()
    for lost in (Scripted(200, b"", cut=True), Scripted(200, b"", silent=True), Scripted(200, b"<html>")):
        server.answers(lost)
        with pytest.raises(UnavailableError):
            ask()
    assert [request.method for request in server.received] == ["POST"] * 3
    # One that has begun, and cannot be read any more, is left to others.
    server.received.clear()
    server.answers(events(START, cut=True), *[events(cut=True)] * 2)
    with pytest.raises(UnavailableError):
        ask()
    assert [request.method for request in server.received] == ["POST", "GET", "GET"]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_changes_are_asked_for_again_after_a_pause(
    kind: str, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.client.calls._PIECES_S", 0.3)
    feed = ("feed", {"available": True})
    empty = Scripted(200, b"")
    silent = replace(events(feed), silent=True)
    server.answers(empty, empty, empty, events(feed), *[empty] * 6, silent, events(feed, first=2))
    both = Both(kind, server.url)
    assert [event.name for event in both("live", at_most=3)] == ["feed"] * 3
    assert both.waits == [1, 2, 4, 1, 2, 4, 8, 16, 30, 30, 0.25]
    assert server.received[-1].headers["last-event-id"] == "1"
