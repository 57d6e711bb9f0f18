"""`POST /v1/check`: the check of any answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx
import pytest

from penstock.errors import OverloadedError, UnavailableError
from penstock.query.generate.check import SentenceChecker
from penstock.records import Access, Entry
from penstock.serve.plane import QueryPlane
from penstock.serve.use_cases.check import (
    MAX_ANSWER_CHARS,
    MAX_CHECKS,
    MAX_SENTENCES,
    MAX_SOURCE_CHARS,
    MAX_SOURCES,
    CheckService,
)

_HONEY = "Honey holds so little water that bacteria cannot grow in it. It may turn cloudy with time."
_WOLVES = "Wolves howl at dusk. They hunt in packs of six."


def _check(call: Callable[..., httpx.Response], **body: Any) -> httpx.Response:
    return call("POST", "/v1/check", json=body)


def test_each_sentence_has_its_support_citations_and_quotes(call: Callable[..., httpx.Response]) -> None:
    answer = "Hello! Wolves howl at dusk [1]. They hunt in packs of nine [2]. Bacteria can grow in it [1]. What else?"
    response = _check(call, answer=answer, sources=[_HONEY, _WOLVES])
    assert response.status_code == 200
    sentences = response.json()["sentences"]
    assert [(sentence["text"], sentence["support"], sentence["citations"]) for sentence in sentences] == [
        ("Hello!", "no_claim", []),
        ("Wolves howl at dusk.", "supported", [2]),
        ("They hunt in packs of nine.", "contradicted", [2]),
        ("Bacteria can grow in it.", "contradicted", [1]),
        ("What else?", "no_claim", []),
    ]
    moved = sentences[1]
    assert moved["repaired"]
    (quote,) = moved["quotes"]
    assert quote["n"] == 2
    assert _WOLVES[quote["start_char"] : quote["end_char"]] == quote["text"] == "Wolves howl at dusk."
    assert "six" in sentences[2]["because"]


def test_entries_are_sources_by_their_id(call: Callable[..., httpx.Response], plane: QueryPlane) -> None:
    hit = call("POST", "/v1/search", json={"text": "breakfast", "modalities": ["text"]}).json()["hits"][0]
    words = hit["text"]
    response = _check(call, answer=f"{words} [1]", sources=[hit["id"]])
    assert response.status_code == 200
    assert {sentence["support"] for sentence in response.json()["sentences"]} == {"supported"}


def test_an_entry_of_another_tenant_is_answered_as_an_absent_one(call: Callable[..., httpx.Response]) -> None:
    hit = call("POST", "/v1/search", json={"text": "fog", "modalities": ["text"], "tenant": "acme"}).json()["hits"][0]
    assert _check(call, answer="x", sources=[hit["id"]], tenant="acme").status_code == 200
    foreign, absent = _check(call, answer="x", sources=[hit["id"]]), _check(call, answer="x", sources=["0" * 32])
    assert foreign.status_code == absent.status_code == 400
    assert foreign.json()["detail"].replace(hit["id"], "0" * 32) == absent.json()["detail"]
    assert foreign.json()["field"] == "/sources/0"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"answer": "a" * (MAX_ANSWER_CHARS + 1), "sources": []}, "/answer"),
        ({"answer": "a", "sources": ["b"] * (MAX_SOURCES + 1)}, "/sources"),
        ({"answer": "a", "sources": ["b", "c" * (MAX_SOURCE_CHARS + 1)]}, "/sources/1"),
        ({"answer": "a", "sources": ["It rains. " * 500]}, "/sources"),
        ({"answer": "a", "sources": ["b" * 20_000] * 6}, "/sources"),
        ({"answer": "It rains. " * (MAX_SENTENCES + 1), "sources": []}, "/answer"),
        ({"answer": "1. " * 6_600, "sources": []}, "/answer"),
        ({"answer": "a", "sources": [1]}, "/sources/0"),
        ({"answer": "a"}, "/sources"),
        ({"answer": "a", "sources": [], "more": 1}, "/more"),
    ],
)
def test_what_is_too_much_or_wrong_is_refused_with_a_pointer(
    call: Callable[..., httpx.Response], body: dict[str, Any], field: str
) -> None:
    response = call("POST", "/v1/check", json=body)
    assert (response.status_code, response.json()["field"]) == (422, field)


@pytest.mark.parametrize(
    "answer",
    ["", "   ", "\x00", "[1]", "🦉" * 50, "a" * MAX_ANSWER_CHARS, "\ud800".encode("utf-8", "replace").decode()],
)
def test_odd_text_is_answered(call: Callable[..., httpx.Response], answer: str) -> None:
    assert _check(call, answer=answer, sources=[_HONEY]).status_code == 200


class WaitingEntries:
    """Entries that are never there."""

    def __init__(self) -> None:
        self.asked = 0
        self.full = asyncio.Event()  # set once as many ask as may

    async def entries(self, ids: Sequence[str], access: Access) -> Mapping[str, Entry]:
        self.asked += 1
        if self.asked == MAX_CHECKS:
            self.full.set()
        await asyncio.Event().wait()
        raise AssertionError


async def _cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.wait([task])


def test_more_checks_than_a_replica_has_room_for_are_asked_to_come_later() -> None:
    async def run() -> None:
        entries: Any = WaitingEntries()
        service = CheckService(SentenceChecker(), entries)
        tasks = [
            asyncio.create_task(service.check("a", ["0" * 32], access=Access.to_all_of("default")))
            for _ in range(MAX_CHECKS)
        ]
        await entries.full.wait()
        with pytest.raises(OverloadedError) as caught:
            await service.check("a", ["b"], access=Access.to_all_of("default"))
        assert caught.value.retry_after_s
        for task in tasks:
            await _cancelled(task)
        assert service.running == 0
        assert await service.check("Hello!", ["b"], access=Access.to_all_of("default"))

    asyncio.run(run())


def test_a_check_has_one_deadline() -> None:
    entries: Any = WaitingEntries()
    service = CheckService(SentenceChecker(), entries, timeout_s=0.01)
    with pytest.raises(UnavailableError, match=r"more than 0\.01 s"):
        asyncio.run(service.check("a", ["0" * 32], access=Access.to_all_of("default")))


def test_a_loop_serves_others_while_a_check_runs() -> None:
    async def run() -> tuple[float, float]:
        entries: Any = WaitingEntries()
        service = CheckService(SentenceChecker(), entries, timeout_s=60)
        sentence = "The grey heron weighs two kilograms and nests in tall trees near the river. "
        began_s, whole_s = time.thread_time(), time.process_time()
        await service.check(sentence * 100, [sentence * 30] * 3, access=Access.to_all_of("default"))
        return time.thread_time() - began_s, time.process_time() - whole_s

    of_loop_s, whole_s = asyncio.run(run())
    assert of_loop_s < whole_s / 3
