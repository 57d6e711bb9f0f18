"""The changes of the index as server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import httpx
import pytest
from fastapi import FastAPI

from penstock.errors import UnavailableError
from penstock.query.changes import IndexChanges
from penstock.records import Access, Collection, IndexChange, Position
from penstock.serve.app import create_app
from penstock.serve.plane import QueryPlane
from penstock.serve.routes import live as live_routes
from penstock.serve.use_cases.live import MAX_BACKLOG, LiveFeed, change_id
from tests.serve.asgi_stream import open_stream
from tests.serve.sample_index import PROBLEM, entry, raising

INDEXED_MS = 1_767_225_601_250


def change(key: str, tenant: str = "default", offset: int = 0, **fields: object) -> IndexChange:
    origin = Position("media.image", 0, offset)
    counts = {Collection.IMAGE: 1}
    announced = IndexChange(tenant, "media.image", key, origin, False, counts, INDEXED_MS + offset, INDEXED_MS - 800)
    return replace(announced, **fields)  # type: ignore[arg-type]


@pytest.fixture
def changes(plane: QueryPlane) -> IndexChanges:
    plane.changes.set_available(True)
    return plane.changes


@pytest.fixture
def feed(changes: IndexChanges) -> LiveFeed:
    return LiveFeed(changes, is_followed=True, max_clients=2)


@pytest.fixture
def app(plane: QueryPlane, feed: LiveFeed) -> FastAPI:
    return create_app(replace(plane, live=feed))


def test_a_change_is_sent_as_soon_as_it_is_announced(app: FastAPI, plane: QueryPlane, changes: IndexChanges) -> None:
    stored = entry(Collection.IMAGE, "heron", title="A heron at dawn", uri=f"asset:{'a' * 64}")
    plane.store.upsert(Collection.IMAGE, [stored])

    async def follow() -> None:
        async with open_stream(app, "/v1/live") as stream:
            assert stream.status == 200
            assert stream.headers["content-type"].startswith("text/event-stream")
            assert stream.headers["cache-control"] == "no-cache"
            assert (await stream.named("feed")).data == {"available": True}
            announced = change("heron")
            changes.receive([change("secret", tenant="acme"), announced])
            event = await stream.named("indexed")
        assert event.id == change_id(announced)
        assert event.data == {
            "tenant": "default",
            "topic": "media.image",
            "key": "heron",
            "title": "A heron at dawn",
            "entry_id": stored.id,
            "thumbnail_url": f"/v1/entries/{stored.id}/thumbnail?tenant=default",
            "counts": {"image": 1},
            "deleted": False,
            "complete": True,
            "indexed_at": "2026-01-01T00:00:01.250Z",
            "fresh_ms": 800,
        }

    asyncio.run(follow())


def test_a_client_continues_behind_its_last_event(app: FastAPI, changes: IndexChanges) -> None:
    announced = [change(f"k{n}", offset=n) for n in range(6)]

    async def follow(url: str, last: str, count: int) -> tuple[bool, list[str]]:
        """Returns whether changes were reported missing before `count` others, and the keys of these."""
        missed, keys = False, []
        async with open_stream(app, url, {"Last-Event-ID": last} if last else {}) as stream:
            while len(keys) < count:
                event = await stream.event()
                missed |= event.name == "missed"
                if event.name == "indexed":
                    keys.append(event.data["key"])
        return missed, keys

    changes.receive(announced)
    changes.receive(announced[:2])  # announced again
    assert asyncio.run(follow("/v1/live?backlog=2", "", 2)) == (False, ["k4", "k5"])
    assert asyncio.run(follow("/v1/live", change_id(announced[3]), 2)) == (False, ["k4", "k5"])
    assert asyncio.run(follow("/v1/live", "of another day", 6)) == (True, [f"k{n}" for n in range(6)])


def test_a_slow_client_loses_the_oldest_and_is_told(feed: LiveFeed, changes: IndexChanges) -> None:
    async def follow() -> None:
        client = feed.join(Access.to_all_of("default"), backlog=0, last_id=None)
        changes.receive([change(f"k{n}", offset=n) for n in range(230)])
        news = await client.receive(timeout_s=5)
        assert news.dropped == 30
        assert [changed.key for changed in news.changes] == [f"k{n}" for n in range(30, 230)]
        assert (await client.receive(timeout_s=0.001)).changes == ()

    asyncio.run(follow())
    assert MAX_BACKLOG < 200


def test_a_gap_in_the_feed_is_reported(app: FastAPI, changes: IndexChanges, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_routes, "HEARTBEAT_S", 0.01)

    async def follow() -> None:
        async with open_stream(app, "/v1/live") as stream:
            assert (await stream.named("feed")).data == {"available": True}
            assert (await stream.event()).name == ""  # a heartbeat
            changes.set_available(False)
            assert (await stream.named("feed")).data == {"available": False}
            changes.set_available(True)
            assert {(await stream.named("feed")).data["available"]} == {True}
            changes.set_available(False)
            changes.set_available(True)
            assert (await stream.named("missed")).data == {"changes": None}

    asyncio.run(follow())


def test_titles_are_left_out_while_the_store_does_not_answer(
    app: FastAPI, plane: QueryPlane, changes: IndexChanges
) -> None:
    plane.store.entries = raising(UnavailableError("down"))  # type: ignore[method-assign]

    async def follow() -> None:
        async with open_stream(app, "/v1/live") as stream:
            await stream.named("feed")
            changes.receive([change("k")])
            event = await stream.named("indexed")
        assert (event.data["key"], event.data["title"], event.data["thumbnail_url"]) == ("k", None, None)

    asyncio.run(follow())


def test_clients_are_limited_and_leave_when_they_go(app: FastAPI) -> None:
    async def follow() -> None:
        url = "/v1/live"
        async with open_stream(app, url), open_stream(app, url), open_stream(app, url) as refused:
            assert refused.status == 429
            assert int(refused.headers["retry-after"]) >= 1
        async with open_stream(app, "/v1/live") as again:
            assert again.status == 200

    asyncio.run(follow())


def test_a_client_that_was_sent_the_limit_of_bytes_connects_again(
    app: FastAPI, changes: IndexChanges, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until it has gone, or has read them, it counts as a client."""
    monkeypatch.setattr(live_routes, "_MAX_STREAM_BYTES", 300)

    async def follow() -> None:
        url = "/v1/live"
        async with open_stream(app, url) as first, open_stream(app, url) as second:
            changes.receive([change("k", offset=1)])
            for stream in (first, second):
                assert (await stream.named("indexed")).data["key"] == "k"
                await stream.ended()
            changes.receive([change("another", offset=2)])
            async with open_stream(app, url) as refused:
                assert refused.status == 429
        async with open_stream(app, url, {"Last-Event-ID": change_id(change("k", offset=1))}) as again:
            assert (await again.named("indexed")).data["key"] == "another"

    asyncio.run(follow())


def test_without_a_change_feed_there_is_nothing_to_follow(call: Callable[..., httpx.Response]) -> None:
    answer = call("GET", "/v1/live")
    assert (answer.status_code, answer.headers["content-type"]) == (503, PROBLEM)
    assert "kafka.changes_topic" in answer.json()["detail"]
    assert call("GET", "/v1/live?backlog=51").status_code == 422


def test_a_client_follows_the_changes_of_its_labels_alone(feed: LiveFeed, changes: IndexChanges) -> None:
    async def follow() -> None:
        changes.receive([change("old", offset=1, acl=("group:a",)), change("hidden", offset=2, acl=("group:b",))])
        client = feed.join(Access("default", frozenset({"group:a"})), backlog=5, last_id=None)
        changes.receive([change("gone", offset=3, acl=("group:b",), deleted=True), change("bare", offset=4)])
        changes.receive([change("new", offset=5, acl=("group:a", "group:b"))])
        keys: list[str] = []
        while "new" not in keys:
            news = await client.receive(timeout_s=5)
            keys += [announced.key for announced in news.changes]
            assert (news.dropped, news.gap) == (0, False)
        assert keys == ["old", "new"]

    asyncio.run(follow())
