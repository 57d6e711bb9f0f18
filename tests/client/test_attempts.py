"""Requests that fail are sent again as far as that is allowed, and then raise errors that say why."""

from __future__ import annotations

import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from penstock.client import PenstockClient, RetryPolicy
from penstock.errors import OverloadedError, PenstockError, QueryError, UnavailableError, UsageError
from tests.client.scripted_server import Scripted, ScriptedServer, problem

FOUND = Scripted(body=b'{"hits": []}')


def test_a_busy_plane_gets_the_request_again_when_it_says(
    server: ScriptedServer, client: PenstockClient, waits: list[float]
) -> None:
    busy, down = problem(429, "busy", Retry_After="3"), problem(503, "down", Retry_After="5")
    server.answers(busy, down, problem(503, "x"), FOUND)
    assert client.search("cats")["hits"] == []
    assert waits == [3.0, 5.0, 1.0]  # the third response names no time: a second after 0.25 and 0.5
    assert [request.json for request in server.received] == [{"tenant": "acme", "text": "cats"}] * 4


def test_waits_are_bounded_together(server: ScriptedServer, client: PenstockClient, waits: list[float]) -> None:
    server.answers(problem(429, "busy", Retry_After="12"), problem(429, "still busy", Retry_After="12"))
    with pytest.raises(OverloadedError, match="still busy") as caught:
        client.search("cats")
    assert (waits, caught.value.retry_after_s) == ([12.0], 12.0)


def test_attempts_are_counted(server: ScriptedServer, client: PenstockClient, waits: list[float]) -> None:
    server.answers(*[problem(503, f"down {number}", Retry_After="1") for number in range(9)])
    with pytest.raises(UnavailableError, match="down 3"):
        client.status()
    assert waits == [1.0, 1.0, 1.0]


def test_a_date_is_understood(server: ScriptedServer, client: PenstockClient, waits: list[float]) -> None:
    later = datetime.now(UTC) + timedelta(seconds=9)
    server.answers(problem(429, "busy", Retry_After=format_datetime(later, usegmt=True)), FOUND)
    client.search("cats")
    assert 6 < waits[0] <= 9


def test_a_request_that_may_have_been_carried_out_is_not_repeated_unless_it_may_be(
    server: ScriptedServer, client: PenstockClient, waits: list[float]
) -> None:
    server.answers(Scripted(cut=True), FOUND)
    assert client.search("cats")["hits"] == []
    assert len(waits) == 1
    for lost in (Scripted(cut=True), problem(503, "down", Retry_After="1")):
        server.answers(lost)
        with pytest.raises(UnavailableError):
            client.create_watch({"name": "n", "text": "t", "min_relevance": 0.5})
    assert len(waits) == 1
    server.answers(problem(429, "busy", Retry_After="1"), Scripted(body=b'{"id": "w"}'))
    assert client.create_watch({"name": "n", "text": "t", "min_relevance": 0.5})["id"] == "w"


def test_a_question_is_sent_again_only_if_nothing_was_begun(
    server: ScriptedServer, client: PenstockClient, waits: list[float]
) -> None:
    for lost in (Scripted(cut=True), problem(503, "down")):
        server.answers(lost)
        with pytest.raises(UnavailableError):
            client.ask("cats?")
    assert (len(server.received), waits) == (2, [])
    server.answers(problem(503, "down", Retry_After="2"), problem(429, "busy", Retry_After="1"), FOUND)
    client.ask("cats?")
    assert waits == [2.0, 1.0]


@pytest.mark.parametrize("body", [b"<html>Welcome</html>", b"", b"\xff"])
def test_a_page_of_something_else_is_an_error_in_words(
    server: ScriptedServer, client: PenstockClient, body: bytes
) -> None:
    server.answers(Scripted(200, body))
    with pytest.raises(PenstockError, match=r"/v1/search responded with status 200 and no JSON"):
        client.search("cats")


@pytest.mark.parametrize(
    ("response", "error", "message"),
    [
        (problem(400, "text is empty"), QueryError, "^text is empty$"),
        (problem(404, "no such media"), QueryError, "no such media"),
        (problem(500, "see the log"), PenstockError, "failed: see the log"),
        (Scripted(502, b"<html>Bad Gateway</html>"), PenstockError, "responded with status 502"),
        (Scripted(403, b'["a list"]'), QueryError, "responded with status 403"),
    ],
)
def test_a_problem_becomes_an_error(
    server: ScriptedServer, client: PenstockClient, response: Scripted, error: type[Exception], message: str
) -> None:
    server.answers(response)
    with pytest.raises(error, match=message) as caught:
        client.search("cats")
    assert len(server.received) == 1
    if isinstance(caught.value, QueryError):
        assert caught.value.status == response.status
        assert caught.value.field == ("/text" if b"field" in response.body else None)


def test_a_plane_that_does_not_run_is_named(waits: list[float]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and not listened to
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with (
            PenstockClient(url, sleep=waits.append, retries=RetryPolicy(max_retries=2)) as client,
            pytest.raises(UnavailableError, match=f"no query plane responds at {url} "),
        ):
            client.search("cats")
    assert waits == [0.25, 0.5]


@pytest.mark.parametrize("url", ["127.0.0.1:8600", "ftp://host", "http://", "http://host:port", ""])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="is no URL"):
        PenstockClient(url)
