"""Two replicas on a real Ray Serve hold both versions, report that, and follow a switch and a rollback."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import ray

from penstock.assembly import open_assets, open_store
from penstock.config import Settings
from penstock.serve import deployment
from penstock.versions import drop_reindex, write_reindex
from penstock.versions.replicas import read_reports
from penstock.versions.switching import switch
from tests.serve.versions.test_served_switches import filled
from tests.serve.versions.worlds import QUESTIONS, REINDEX, versions_in
from tests.store.servers import milvus_lite_server

pytestmark = [pytest.mark.services, pytest.mark.exhaustive]


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    with milvus_lite_server() as server:
        settings = filled(server.uri, tmp_path)
        query = settings.query.model_copy(update={"port": 0, "replicas": 2, "replica_cpus": 1})
        ray.init("local", num_cpus=3, include_dashboard=False, object_store_memory=100 * 1024**2, log_to_driver=False)
        try:
            yield settings.model_copy(update={"query": query})
        finally:
            ray.shutdown()


def until(condition: Callable[[], bool], timeout_s: float) -> float:
    started_s = time.monotonic()
    while not condition():
        assert time.monotonic() < started_s + timeout_s
        threading.Event().wait(0.02)
    return time.monotonic() - started_s


def test_two_replicas_follow_a_switch_and_a_rollback(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assets, store = open_assets(settings), open_store(settings.store)

    def reports() -> list[tuple[tuple[int, ...], int | None]]:
        read = read_reports(assets, now_ms=time.time_ns() // 1_000_000)
        return [(report.holds, report.serves) for report in read]

    url = deployment.deploy(settings)
    waits_s = []
    try:
        with httpx.Client(base_url=url, timeout=60) as client:

            def answers(number: int) -> set[int]:
                answer = client.post("/v1/search", json={"text": QUESTIONS[number % len(QUESTIONS)]})
                assert answer.status_code == 200
                assert answer.headers["Penstock-Index-Version"] == str(answer.json()["index_version"])
                return versions_in(answer.json())

            assert {version for number in range(10) for version in answers(number)} == {1}
            assert reports() == []
            write_reindex(assets, REINDEX)
            until(lambda: [holds for holds, _ in reports()] == [(1, 2)] * 2, 120)
            for version in (2, 1, 2):
                switch(store, assets, version)
                waits_s.append(until(lambda: [serves for _, serves in reports()] == [version] * 2, 20))  # noqa: B023
                assert {answered for number in range(20) for answered in answers(number)} == {version}
            drop_reindex(assets)
            until(lambda: reports() == [], 60)
            assert answers(0) == {2}
    finally:
        deployment.shutdown()
        store.close()
    with capsys.disabled():
        sys.stdout.write(
            f"\nboth replicas answered from the other version after {', '.join(f'{s:.2f}' for s in waits_s)} s\n"
        )
    assert max(waits_s) < 1.0
