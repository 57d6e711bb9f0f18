from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from benchmarks.paced_client import PacedClient, PacedOrder, send_paced

Answer = tuple[int, dict[str, Any]]
FOUND: Answer = (200, {"partial": False, "hits": [{}]})


@contextmanager
def served(answer: Callable[[str], Answer]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yields the URL of a server, and what it was sent: (question, credentials)."""
    received: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            question = json.loads(self.rfile.read(int(self.headers["content-length"])))["text"]
            received.append((question, self.headers["authorization"]))
            status, body = answer(question)
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", received
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def order(url: str, **changed: Any) -> PacedOrder:
    values: dict[str, Any] = {
        "per_s": 100.0,
        "seconds": 0.3,
        "connections": 4,
        "words": ["red", "blue"],
        "seed": 1,
        "first": 10,
    }
    return PacedOrder(url=url, key="pk_a", **(values | changed))


def test_a_process_sends_the_searches_of_each_order() -> None:
    with served(lambda _: FOUND) as (url, received), PacedClient() as client:
        client.begin(order(url))
        first = client.result()
        client.begin(order(url, first=1_000))
        second = client.result()
    assert first.statuses == second.statuses == {"200": len(first.took_ms)}  # one seed, the same moments
    assert len(received) == 2 * len(first.took_ms) > 20
    assert {credentials for _, credentials in received} == {"Bearer pk_a"}
    assert len({question for question, _ in received}) == len(received)


def test_answers_without_hits_count_by_what_they_are() -> None:
    answers = [FOUND, (429, {}), (200, {"partial": True, "hits": [{}]}), (200, {"partial": False, "hits": []})]
    with served(lambda question: answers[int(question.split()[-1]) % 4]) as (url, _):
        result = send_paced(order(url, per_s=200.0))
    assert set(result.statuses) == {"200", "429", "partial", "no hits"}
    assert len(result.took_ms) == result.statuses["200"]


def test_a_server_that_is_away_is_an_error_and_no_answer() -> None:
    with served(lambda _: FOUND) as (url, _):
        pass
    result = send_paced(order(url))
    assert set(result.statuses) == {"error"}
    assert not result.took_ms


def test_the_delay_of_one_search_counts_for_those_that_are_due_meanwhile() -> None:
    arrived, goes_on = threading.Event(), threading.Event()

    def answer(question: str) -> Answer:
        if question.endswith(" 10"):  # the first
            arrived.set()
            goes_on.wait(60)
        return FOUND

    with served(answer) as (url, _):
        results = []
        single = order(url, connections=1)
        sender = threading.Thread(target=lambda: results.append(send_paced(single)))
        sender.start()
        assert arrived.wait(60)
        sender.join(timeout=0.5)  # longer than the period: all others are due by now
        goes_on.set()
        sender.join()
    (result,) = results
    assert min(result.took_ms) > 100
