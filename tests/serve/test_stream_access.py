"""A stream ends when its caller may not read what it follows any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from penstock.auth import Permission, Principal
from penstock.auth import keys as key_files
from penstock.auth.keys import write_keys
from penstock.errors import PenstockError, UnavailableError
from penstock.query.changes import IndexChanges
from penstock.query.generate.types import TokenEvent
from penstock.records import Access
from penstock.serve import stream_access
from penstock.serve.app import create_app
from penstock.serve.plane import QueryPlane
from penstock.serve.stream_access import CHECK_EVERY_S, StreamAccess
from penstock.serve.use_cases.live import LiveFeed
from tests.auth.test_keys import NOW, Clock, api_key
from tests.serve.asgi_stream import open_stream
from tests.serve.exchange import Exchange
from tests.serve.keyed import keyed_plane
from tests.serve.routes.test_ask import run, until
from tests.serve.routes.test_live import change
from tests.serve.scripted_answers import ANSWER_ID, SEARCH, TOKENS, WHOLE, ScriptedAnswers, app_over

FOLLOWER = Principal("key:follower", frozenset({"acme"}), frozenset({Permission.SEARCH}), frozenset({"tenant"}))


@pytest.fixture
def followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[FastAPI, IndexChanges, str]]:
    """An application whose streams look at their credentials often, its changes, and a key that follows them."""
    monkeypatch.setattr(key_files, "CHECK_EVERY_S", 0.0)
    monkeypatch.setattr(stream_access, "CHECK_EVERY_S", 0.01)
    with keyed_plane(tmp_path, {"follower": {}}) as (plane, texts):
        plane.changes.set_available(True)
        feed = LiveFeed(plane.changes, is_followed=True, max_clients=2)
        yield create_app(replace(plane, live=feed)), plane.changes, texts["follower"]


@pytest.mark.parametrize("changed", [{"revoked": NOW}, {"labels": ("hr",)}, {"permissions": (Permission.MEDIA,)}])
def test_a_stream_ends_when_its_key_is_revoked_or_permits_less(
    followed: tuple[FastAPI, IndexChanges, str], tmp_path: Path, changed: dict[str, Any]
) -> None:
    app, changes, key = followed

    async def follow() -> None:
        async with open_stream(app, "/v1/live", {"Authorization": f"Bearer {key}"}) as stream:
            changes.receive([change("before", tenant="acme", acl=("tenant",))])
            assert (await stream.named("indexed")).data["key"] == "before"
            write_keys(tmp_path / "keys.json", (api_key(key, **changed),))
            await stream.ended()

    asyncio.run(follow())


# --- answers -------------------------------------------------------------------------------------------------------

ASKER = {"permissions": (Permission.ASK,)}
REVOKED = {**ASKER, "revoked": NOW}


class WrittenAnswer:
    """An application over an answer that tests write step by step, for a key with the permission."""

    def __init__(self, plane: QueryPlane, key: str, folder: Path) -> None:
        self.answers = ScriptedAnswers(SEARCH, *(TokenEvent(text) for text in TOKENS[:1]))
        self._app = app_over(self.answers, plane)
        self._key = key
        self._file = folder / "keys.json"

    def ask(self, **body: Any) -> Exchange:
        return self._send("POST", "/v1/ask", {"question": "What do herons eat?", **body})

    def chat(self) -> Exchange:
        messages = [{"role": "user", "content": "What do herons eat?"}]
        return self._send("POST", "/v1/chat/completions", {"messages": messages, "stream": True})

    def resume(self) -> Exchange:
        return self._send("GET", f"/v1/ask/{ANSWER_ID}", None)

    def revoke(self) -> None:
        write_keys(self._file, (api_key(self._key, **REVOKED),))

    def _send(self, method: str, path: str, body: object) -> Exchange:
        return Exchange(self._app, method, path, body, headers={"authorization": f"Bearer {self._key}"})


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WrittenAnswer]:
    monkeypatch.setattr(key_files, "CHECK_EVERY_S", 0.0)
    monkeypatch.setattr(stream_access, "CHECK_EVERY_S", 0.01)
    with keyed_plane(tmp_path, {"asker": ASKER}) as (plane, texts):
        yield WrittenAnswer(plane, texts["asker"], tmp_path)


def test_an_answer_that_is_written_ends_when_its_key_is_revoked(written: WrittenAnswer) -> None:
    async def scenario() -> None:
        exchange = written.ask(stream=True)
        first = await exchange.event()
        assert first is not None
        assert first.name == "search"
        written.revoke()
        *_, last = await exchange.events()
        assert (last.name, last.data["status"]) == ("error", 401)
        await written.answers.closed.wait()

    run(scenario())


def test_chunks_of_a_chat_end_when_its_key_is_revoked(written: WrittenAnswer) -> None:
    async def scenario() -> None:
        exchange = written.chat()
        await exchange.event()
        written.revoke()
        *_, last = await exchange.events()
        assert last.data["error"]["code"] == 401

    run(scenario())


def test_a_resumable_answer_whose_client_has_gone_ends_when_its_key_is_revoked(written: WrittenAnswer) -> None:
    async def scenario() -> None:
        exchange = written.ask(stream=True, resumable=True)
        await exchange.event()
        exchange.go()
        await exchange.finished()
        assert not written.answers.closed.is_set()
        written.revoke()
        await written.answers.closed.wait()

    run(scenario())


def test_a_resumed_stream_ends_when_its_key_is_revoked(written: WrittenAnswer) -> None:
    async def scenario() -> None:
        first = written.ask(stream=True, resumable=True)
        await first.event()
        second = written.resume()
        event = await second.event()
        assert event is not None
        assert event.name == "search"
        written.revoke()
        *_, last = await second.events()
        assert last.name == "error"
        await first.events()

    run(scenario())


def test_a_whole_answer_is_not_sent_after_its_key_was_revoked(
    written: WrittenAnswer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_access, "CHECK_EVERY_S", 0.0)

    async def scenario() -> None:
        exchange = written.ask()
        await until(lambda: bool(written.answers.requests))
        written.revoke()
        written.answers.feed(*WHOLE[2:])
        assert (await exchange.json())["status"] == 401
        assert exchange.status == 401

    run(scenario())


# --- whether a stream holds ------------------------------------------------------------------------------------------


def holding(answers: list[Principal | PenstockError], access: Access, clock: Clock) -> Callable[[], bool]:
    """Returns what says whether a stream holds, whose credentials are found to be these one after the other."""

    async def renewed() -> Principal | PenstockError:
        return answers.pop(0)

    scope = {"type": "http", "state": {"principal": FOLLOWER, "renewed_principal": renewed}}
    stream = StreamAccess(scope, Permission.SEARCH, access, clock=clock)
    return lambda: asyncio.run(stream.holds())


def test_credentials_are_looked_at_again_after_some_seconds() -> None:
    clock, access = Clock(), Access("acme", frozenset({"tenant"}))
    holds = holding([FOLLOWER, UnavailableError("away")], access, clock)
    assert holds()
    clock.s += CHECK_EVERY_S
    assert [holds(), holds()] == [True, True]
    clock.s += CHECK_EVERY_S
    assert not holds()


def test_a_stream_ends_when_its_caller_reads_another_part_of_the_index() -> None:
    access = Access("acme", frozenset({"tenant"}))
    changed = (
        replace(FOLLOWER, tenants=frozenset({"umbrella"})),
        replace(FOLLOWER, labels=frozenset({"tenant", "hr"})),
        replace(FOLLOWER, permissions=frozenset()),
    )
    for caller in changed:
        clock = Clock()
        holds = holding([caller], access, clock)
        clock.s += CHECK_EVERY_S
        assert not holds()
