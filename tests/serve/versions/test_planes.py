"""A replica holds both versions of a re-index, answers each request from one of them, and follows the switch."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from penstock.assets import AssetStore
from penstock.config import Settings
from penstock.errors import ConfigError, UnavailableError
from penstock.serve import app as app_module
from penstock.serve.app import build_query_plane, create_app
from penstock.serve.middleware.index_version import HEADER
from penstock.serve.shared_parts import open_shared_parts
from penstock.serve.versions.held import HeldPlane
from penstock.serve.versions.planes import VersionPlanes
from penstock.serve.versions.source import VersionSource
from penstock.serve.versions.switch import VersionSwitch
from penstock.store.memory import MemoryStore
from penstock.store.names import ASSET, asset_collection
from penstock.versions import KeptIndex, Phase, drop_reindex, version_settings, write_kept_index, write_reindex
from penstock.versions.replicas import ReplicaReport, read_reports, write_report
from penstock.versions.switching import switch
from tests.serve.versions.worlds import NEW, OLD, QUESTIONS, REINDEX, fill_version, versions_in


class Replica:
    """A replica over a store in memory that has two versions. `look` follows them at the test's command alone."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(
            profile=OLD,
            data_dir=folder,
            ingest={"min_free_disk_bytes": 0},  # type: ignore[arg-type]
            store={"consistency": "Strong"},  # type: ignore[arg-type]
            query={"deadline_ms": 60_000, "max_lag_ms": 0},  # type: ignore[arg-type]
        )
        self.assets = AssetStore(f"memory://planes-{uuid.uuid4().hex}")
        self.store = MemoryStore()
        fill_version(self.store, self.settings)
        fill_version(MemoryStore(beside=self.store), version_settings(self.settings, REINDEX, 2))
        self.shared = open_shared_parts(self.settings)
        self.source = VersionSource(self.settings, self.store, self.assets)
        self.built: list[int] = []
        self.may_build = threading.Event()
        self.may_build.set()
        self.error: Exception | None = None
        self.now_s = 0.0
        versions = self.source.read()
        first = self._build(self.source.settings_of(versions, versions.served))
        self.planes = VersionPlanes(
            self.source,
            self._build,
            versions,
            first,
            look_every_s=3600,
            idle_look_every_s=3600,
            clock=lambda: self.now_s,
        )
        self.app = VersionSwitch(self.planes, self.shared.close)

    def _build(self, settings: Settings) -> FastAPI:
        self.may_build.wait(20)
        if self.error is not None:
            raise self.error
        self.built.append(settings.store.version)
        store = MemoryStore(beside=self.store, version=settings.store.version)
        return create_app(build_query_plane(settings, store, shared=self.shared))

    async def look(self) -> None:
        """Looks now, at the notes too, and reports."""
        self.now_s += 7200
        await self.planes.look()
        await self.planes.look_at_notes()

    async def settle(self) -> None:
        """Looks, waits until everything that was started has ended, and reports that."""
        await self.look()
        while self.planes._tasks:
            await asyncio.wait(list(self.planes._tasks))
        await self.planes.look()
        await self.planes.look_at_notes()

    def serve(self, version: int) -> None:
        """Alters the alias that decides, and nothing else."""
        self.store.aliases.switch(ASSET, asset_collection(version))

    def switch(self, to: int) -> None:
        switch(self.store, self.assets, to)

    async def search(self, client: httpx.AsyncClient, **headers: str) -> httpx.Response:
        body = {"text": QUESTIONS[3], "limit": 5}
        return await client.post(
            "/v1/search", json=body, headers={name.replace("_", "-"): v for name, v in headers.items()}
        )


@pytest.fixture
def replica(tmp_path: Path) -> Replica:
    return Replica(tmp_path)


@asynccontextmanager
async def running(replica: Replica) -> AsyncIterator[httpx.AsyncClient]:
    """Runs the application's lifespan as a server does, and yields a client."""
    received: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    task = asyncio.create_task(replica.app({"type": "lifespan"}, received.get, sent.put))  # type: ignore[arg-type]
    await received.put({"type": "lifespan.startup"})
    assert (await sent.get())["type"] == "lifespan.startup.complete"
    try:
        transport = httpx.ASGITransport(replica.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield client
    finally:
        await received.put({"type": "lifespan.shutdown"})
        assert (await sent.get())["type"] == "lifespan.shutdown.complete"
        await task


def run(replica: Replica, work: Callable[[httpx.AsyncClient], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        async with running(replica) as client:
            await work(client)

    asyncio.run(main())


def test_without_a_reindex_a_replica_holds_the_served_version_alone(replica: Replica) -> None:
    async def work(client: httpx.AsyncClient) -> None:
        await replica.settle()
        answer = await replica.search(client)
        assert answer.headers[HEADER] == "1"
        assert versions_in(answer.json()) == {1}
        assert answer.json()["hits"]
        assert replica.planes.held == (1,)
        assert read_reports(replica.assets, now_ms=0) == []

    run(replica, work)


def test_both_versions_are_held_once_the_new_one_is_ready_and_the_switch_is_followed(replica: Replica) -> None:
    async def work(client: httpx.AsyncClient) -> None:
        write_reindex(replica.assets, REINDEX)
        await replica.settle()
        assert replica.planes.held == (1, 2)
        assert versions_in((await replica.search(client)).json()) == {1}
        for version in (2, 1, 2):
            replica.switch(version)
            await replica.settle()
            answer = await replica.search(client)
            assert answer.headers[HEADER] == str(version)
            assert versions_in(answer.json()) == {version}
            assert len(answer.json()["hits"]) == 5
        assert replica.built == [1, 2]

    run(replica, work)


def test_a_switch_moves_the_answers_only_once_the_replica_saw_it(replica: Replica) -> None:
    async def work(client: httpx.AsyncClient) -> None:
        write_reindex(replica.assets, REINDEX)
        await replica.settle()
        replica.switch(2)
        assert versions_in((await replica.search(client)).json()) == {1}
        await replica.look()
        assert versions_in((await replica.search(client)).json()) == {2}

    run(replica, work)


def test_loading_the_other_version_does_not_hold_up_answers(replica: Replica) -> None:
    async def work(client: httpx.AsyncClient) -> None:
        write_reindex(replica.assets, REINDEX)
        replica.may_build.clear()
        await replica.look()
        replica.switch(2)
        await replica.look()
        assert versions_in((await replica.search(client)).json()) == {1}
        assert replica.planes.held == (1,)
        replica.may_build.set()
        await replica.settle()
        await replica.look()
        assert versions_in((await replica.search(client)).json()) == {2}

    run(replica, work)


def test_a_version_that_cannot_be_loaded_is_reported_and_tried_again(
    replica: Replica, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(client: httpx.AsyncClient) -> None:
        write_reindex(replica.assets, REINDEX)
        replica.error = ConfigError("no weights")
        await replica.settle()
        (report,) = read_reports(replica.assets, now_ms=0)
        assert (report.holds, report.serves, report.failures) == ((1,), 1, {2: "no weights"})
        assert "version 2 of the index cannot be loaded: no weights" in caplog.text
        assert (await replica.search(client)).status_code == 200
        replica.error = None
        await replica.settle()
        (report,) = read_reports(replica.assets, now_ms=0)
        assert (report.holds, report.serves, report.failures) == ((1, 2), 1, {})

    run(replica, work)


def test_the_replica_reports_what_it_serves_and_withdraws_its_report_at_the_end(replica: Replica) -> None:
    async def work(client: httpx.AsyncClient) -> None:
        write_reindex(replica.assets, REINDEX)
        await replica.settle()
        replica.switch(2)
        await replica.look()
        (report,) = read_reports(replica.assets, now_ms=0)
        assert (report.holds, report.serves) == ((1, 2), 2)

    run(replica, work)
    assert read_reports(replica.assets, now_ms=0) == []


def test_the_old_version_is_closed_after_the_drop_and_the_request_that_it_answers(replica: Replica) -> None:
    async def work(client: httpx.AsyncClient) -> None:
        write_reindex(replica.assets, REINDEX)
        await replica.settle()
        old = replica.planes.of(1)
        assert old is not None
        streaming, finish = asyncio.Event(), asyncio.Event()

        async def stream(scope: Any, receive: Any, send: Any) -> None:
            streaming.set()
            await finish.wait()

        old.app, app = stream, old.app  # type: ignore[assignment]
        answering = asyncio.create_task(old({"type": "http"}, None, None))  # type: ignore[arg-type]
        await streaming.wait()
        replica.switch(2)
        await replica.look()
        write_reindex(replica.assets, replace(REINDEX, phase=Phase.DROPPED))
        await replica.look()
        assert replica.planes.held == (2,)
        old.app = app
        store_closed = old._lifespan
        assert store_closed is not None
        assert not store_closed.done()
        finish.set()
        await answering
        await replica.settle()
        assert store_closed.done()
        drop_reindex(replica.assets)
        assert (await replica.search(client)).headers[HEADER] == "2"

    run(replica, work)


def test_a_request_may_demand_a_version_that_is_held(replica: Replica) -> None:
    async def work(client: httpx.AsyncClient) -> None:
        write_reindex(replica.assets, REINDEX)
        await replica.settle()
        assert versions_in((await replica.search(client, Penstock_Index_Version="2")).json()) == {2}
        assert versions_in((await replica.search(client, Penstock_Index_Version="1")).json()) == {1}
        for unknown in ("3", "0", "x", "", "-1", "99999999999999999999", "²"):
            headers = {HEADER.encode(): unknown.encode()}
            answer = await client.post("/v1/search", json={"text": "heron"}, headers=headers)  # type: ignore[arg-type]
            assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
            assert "this query plane holds 1 and 2" in answer.json()["detail"]

    run(replica, work)


def test_a_cursor_of_another_version_is_refused_and_continues_where_the_version_is_demanded(replica: Replica) -> None:
    async def work(client: httpx.AsyncClient) -> None:
        write_reindex(replica.assets, REINDEX)
        await replica.settle()
        body: dict[str, Any] = {"text": QUESTIONS[3], "limit": 5}
        first = (await client.post("/v1/search", json=body)).json()
        replica.switch(2)
        await replica.look()
        following = {**body, "cursor": first["next_cursor"]}
        refused = await client.post("/v1/search", json=following)
        assert refused.status_code == 400
        assert "cursor belongs to version 1 of the index" in refused.json()["detail"]
        assert refused.json()["field"] == "/cursor"
        second = (await client.post("/v1/search", json=following, headers={HEADER: "1"})).json()
        assert versions_in(second) == {1}
        assert not {hit["key"] for hit in first["hits"]} & {hit["key"] for hit in second["hits"]}

    run(replica, work)


def test_limits_count_over_both_versions_and_links_are_signed_with_one_key(replica: Replica) -> None:
    async def work(client: httpx.AsyncClient) -> None:
        write_reindex(replica.assets, REINDEX)
        await replica.settle()
        old, new = replica.planes.of(1), replica.planes.of(2)
        assert old is not None
        assert new is not None
        planes = [held.app.state.query_plane for held in (old, new)]
        assert planes[0].admissions is planes[1].admissions
        assert planes[0].authenticator is planes[1].authenticator
        assert [plane.index_version for plane in planes] == [1, 2]

    run(replica, work)


def test_a_replica_that_begins_to_report_removes_the_reports_of_the_dead(replica: Replica) -> None:
    async def work(_: httpx.AsyncClient) -> None:
        write_report(replica.assets, ReplicaReport("aa", (1,), 1, 0))
        await replica.settle()
        assert [report.replica for report in read_reports(replica.assets, now_ms=0)] == ["aa"]
        write_reindex(replica.assets, REINDEX)
        await replica.settle()
        (report,) = read_reports(replica.assets, now_ms=0)
        assert report.holds == (1, 2)

    run(replica, work)


class ClosedStore(MemoryStore):
    """A store that counts how often it was closed."""

    closed = 0

    def close(self) -> None:
        self.closed += 1
        super().close()


def test_what_a_plane_opened_is_closed_if_it_cannot_be_built(
    replica: Replica, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stores: list[ClosedStore] = []

    def open_store(_: object, *, for_queries: bool, version: int) -> MemoryStore:
        assert for_queries
        stores.append(ClosedStore(beside=replica.store, version=version))
        return stores[-1]

    monkeypatch.setattr(app_module, "open_store", open_store)
    query = replica.settings.query.model_copy(update={"dictionary": tmp_path / "missing", "vocabulary_words": 100})
    threads = set(threading.enumerate())
    with pytest.raises(ConfigError, match="missing"):
        build_query_plane(replica.settings.model_copy(update={"query": query}), shared=replica.shared)
    assert [store.closed for store in stores] == [1]
    for thread in set(threading.enumerate()) - threads:
        thread.join(20)
        assert not thread.is_alive(), thread.name


def test_a_plane_that_cannot_be_started_is_closed(replica: Replica) -> None:
    class BrokenWorker:
        closed = False

        def start(self, _: asyncio.AbstractEventLoop) -> None:
            raise UnavailableError("no thread")

        def close(self) -> None:
            self.closed = True

    store, worker = ClosedStore(beside=replica.store, version=1), BrokenWorker()
    plane = build_query_plane(replica.settings, store, shared=replica.shared)
    held = HeldPlane(1, create_app(replace(plane, watch_worker=worker)))  # type: ignore[arg-type]
    with pytest.raises(UnavailableError, match="no thread"):
        asyncio.run(held.start())
    assert (store.closed, worker.closed) == (1, True)


def test_a_replica_that_starts_after_the_drop_takes_the_settings_that_were_kept(replica: Replica) -> None:
    replica.switch(2)
    with pytest.raises(ConfigError, match=r"serves version 2 of the index, and store\.version is 1"):
        replica.source.settings_of(replica.source.read(), 2)
    write_kept_index(replica.assets, KeptIndex(2, REINDEX.settings))
    versions = replica.source.read()
    assert (versions.served, versions.held) == (2, {2})
    settings = replica.source.settings_of(versions, 2)
    assert (settings.profile, settings.store.version) == (NEW, 2)


def test_a_replica_goes_on_while_neither_store_nor_notes_can_be_read(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(client: httpx.AsyncClient) -> None:
        write_reindex(replica.assets, REINDEX)
        await replica.settle()

        def away(_: object) -> None:
            raise UnavailableError("the store does not answer")

        with monkeypatch.context() as patched:
            patched.setattr(replica.store.aliases, "served", away)
            with pytest.raises(UnavailableError):
                await replica.look()
        assert versions_in((await replica.search(client)).json()) == {1}

        with monkeypatch.context() as patched:
            patched.setattr(replica.assets, "note", away)
            await replica.settle()
        assert replica.planes.held == (1, 2)
        replica.switch(2)
        await replica.settle()
        assert versions_in((await replica.search(client)).json()) == {2}

    run(replica, work)


def test_a_rollback_during_the_hand_over_of_watches_leaves_one_plane_that_evaluates_them(replica: Replica) -> None:
    async def work(_: httpx.AsyncClient) -> None:
        write_reindex(replica.assets, REINDEX)
        await replica.settle()
        calls: list[tuple[int, bool]] = []
        stopping, may_stop = asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()

        def evaluated_by(version: int) -> Callable[[bool], None]:
            def evaluate(active: bool) -> None:
                if not active:
                    loop.call_soon_threadsafe(stopping.set)
                    may_stop.wait(20)
                calls.append((version, active))

            return evaluate

        for version in (1, 2):
            plane = replica.planes.of(version)
            assert plane is not None
            plane.evaluate_watches = evaluated_by(version)  # type: ignore[assignment, method-assign]
        replica.switch(2)
        await replica.look()
        await stopping.wait()
        replica.switch(1)
        await replica.look()
        may_stop.set()
        await replica.settle()
        assert calls == [(1, False), (1, True)]
        replica.switch(2)
        await replica.settle()
        assert calls[2:] == [(1, False), (2, True)]

    run(replica, work)


def test_a_rollback_is_followed_while_the_asset_store_does_not_answer(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(client: httpx.AsyncClient) -> None:
        write_reindex(replica.assets, REINDEX)
        await replica.settle()
        answers = threading.Event()

        def waiting(method: Callable[..., Any]) -> Callable[..., Any]:
            def wait(*args: Any) -> Any:
                answers.wait(60)
                return method(*args)

            return wait

        for method in ("note", "put_note"):
            monkeypatch.setattr(replica.assets, method, waiting(getattr(replica.assets, method)))
        noting = asyncio.create_task(replica.planes.look_at_notes())
        for version in (2, 1, 2):
            replica.serve(version)
            async with asyncio.timeout(30):
                await replica.planes.look()
            assert versions_in((await replica.search(client)).json()) == {version}
        assert not noting.done()
        answers.set()
        await noting
        await replica.settle()
        (report,) = read_reports(replica.assets, now_ms=0)
        assert report.serves == 2

    run(replica, work)


def test_a_damaged_note_does_not_keep_a_switch_from_being_followed(
    replica: Replica, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(client: httpx.AsyncClient) -> None:
        write_reindex(replica.assets, REINDEX)
        await replica.settle()
        replica.assets.put_note("reindex.json", b"{")
        for version in (2, 1, 2):
            replica.serve(version)
            await replica.look()
            assert versions_in((await replica.search(client)).json()) == {version}
        assert caplog.text.count("reindex.json") == 1
        assert replica.planes.held == (1, 2)

    run(replica, work)


def test_20_switches_under_searches_give_whole_answers(replica: Replica) -> None:
    async def work(client: httpx.AsyncClient) -> None:
        write_reindex(replica.assets, REINDEX)
        await replica.settle()
        seen: list[set[int]] = []
        answered: asyncio.Queue[None] = asyncio.Queue()
        switching = True

        async def ask() -> None:
            while switching:
                answer = await replica.search(client)
                assert answer.status_code == 200
                assert not answer.json()["partial"]
                seen.append(versions_in(answer.json()))
                await answered.put(None)

        clients = [asyncio.create_task(ask()) for _ in range(4)]
        for number in range(20):
            replica.switch(2 - number % 2)
            await replica.look()
            for _ in range(4):
                await answered.get()
        switching = False
        await asyncio.gather(*clients)
        assert {frozenset(versions) for versions in seen} == {frozenset({1}), frozenset({2})}

    run(replica, work)
