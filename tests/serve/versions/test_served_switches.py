"""Switches and rollbacks of a replica on a real store, under searches that a client sends at given moments.

The searches are `RATE_PER_S`, or half of what the replica answers at most on this machine if that is less: above it
each waits for those before it, whatever is switched. What it answers is measured first, and printed with the rate.
"""

from __future__ import annotations

import os
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import pytest

from penstock.assembly import open_assets, open_store
from penstock.config import Settings
from penstock.serve.versions import VersionSwitch, build_versions_app
from penstock.store.milvus.store import MilvusStore
from penstock.versions import version_settings, write_reindex
from penstock.versions.replicas import read_reports
from penstock.versions.switching import begin_switch, complete_switch, served_version
from tests.serve.versions.worlds import OLD, QUESTIONS, REINDEX, fill_version, versions_in
from tests.served import served
from tests.store.servers import milvus_lite_server, milvus_standalone

pytestmark = [pytest.mark.services, pytest.mark.exhaustive, pytest.mark.timeout(900)]

RATE_PER_S = 20.0
SWITCHES = 20
TEXTS = tuple(f"{question} by the river {number}" for number in range(10) for question in QUESTIONS)
# Searches in flight: a machine that is too busy for the rate gets fewer, and says how many.
MAX_IN_FLIGHT = 8


@pytest.fixture(params=["lite", "standalone", "given"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    """Yields the settings of a query plane over a store that is filled with two versions of an index."""
    if request.param == "given":
        if "PENSTOCK_TEST_MILVUS_URI" not in os.environ:
            pytest.skip("PENSTOCK_TEST_MILVUS_URI names no server")
        yield filled(os.environ["PENSTOCK_TEST_MILVUS_URI"], tmp_path)
        return
    with milvus_lite_server() if request.param == "lite" else milvus_standalone() as server:
        yield filled(server.uri, tmp_path)


def filled(uri: str, folder: Path) -> Settings:
    settings = Settings(
        profile=OLD,
        data_dir=folder,
        ingest={"min_free_disk_bytes": 0},  # type: ignore[arg-type]
        store={"uri": uri, "timeout_s": 60.0},  # type: ignore[arg-type]
        query={"deadline_ms": 30_000, "max_lag_ms": 0},  # type: ignore[arg-type]
    )
    for version in (1, 2):
        of_version = version_settings(settings, REINDEX, version)
        store = MilvusStore(of_version.store)
        fill_version(store, of_version, TEXTS)
        store.close()
    return settings


@dataclass
class Searches:
    """Searches that are sent at fixed moments while fewer than `MAX_IN_FLIGHT` wait for their answer.

    Attributes:
        versions: those that each answer consists of.
        times_s: from the moment at which each was sent to its answer.
        failed: the answers that were no success, or partial.
        unsent: those for which the machine was too busy.
    """

    versions: list[set[int]] = field(default_factory=list)
    times_s: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    unsent: int = 0

    def send(self, client: httpx.Client, number: int) -> None:
        """Sends one search."""
        sent_s = time.monotonic()
        # Texts are all that the index has. Channels of other modalities would each be a request to the store, too.
        body = {"text": TEXTS[number % len(TEXTS)], "limit": 10, "modalities": ["text"]}
        answer = client.post("/v1/search", json=body)
        self.times_s.append(time.monotonic() - sent_s)
        if not answer.is_success or answer.json()["partial"]:
            self.failed.append(answer.text)
            return
        self.versions.append(versions_in(answer.json()))
        assert answer.headers["Penstock-Index-Version"] == str(answer.json()["index_version"])

    def p95_ms(self) -> float:
        """Returns the 95th percentile."""
        return float(np.percentile(self.times_s, 95)) * 1000


def paced(client: httpx.Client, rate_per_s: float, until: threading.Event, seen: Searches) -> None:
    """Sends searches at a rate until the event is set, and waits for their answers."""
    free = threading.Semaphore(MAX_IN_FLIGHT)
    with ThreadPoolExecutor(MAX_IN_FLIGHT) as pool:
        started_s, number, sent = time.monotonic(), 0, []
        while not until.wait(max(0.0, started_s + number / rate_per_s - time.monotonic())):
            if free.acquire(blocking=False):
                search = pool.submit(seen.send, client, number)
                search.add_done_callback(lambda _: free.release())
                sent.append(search)
            else:
                seen.unsent += 1
            number += 1
        for search in sent:
            search.result()


def run_for(client: httpx.Client, rate_per_s: float, seconds: float) -> Searches:
    seen, until = Searches(), threading.Event()
    threading.Timer(seconds, until.set).start()
    paced(client, rate_per_s, until, seen)
    return seen


def capacity_per_s(client: httpx.Client, seconds: float) -> float:
    """Returns how many searches a second are answered at most: `MAX_IN_FLIGHT` clients each send one after another."""
    seen, ends_s = Searches(), time.monotonic() + seconds

    def send_all(first: int) -> None:
        number = first
        while time.monotonic() < ends_s:
            seen.send(client, number)
            number += MAX_IN_FLIGHT

    with ThreadPoolExecutor(MAX_IN_FLIGHT) as pool:
        list(pool.map(send_all, range(MAX_IN_FLIGHT)))
    assert seen.failed == []
    return len(seen.times_s) / seconds


def await_held(app: VersionSwitch) -> None:
    ends_s = time.monotonic() + 120
    while app.planes.held != (1, 2):
        assert time.monotonic() < ends_s
        threading.Event().wait(0.05)


def switch_and_time(settings: Settings, app: VersionSwitch, versions: Sequence[int]) -> list[float]:
    """Switches to each version in turn, and returns the seconds until the replica answers from it."""
    store, assets = open_store(settings.store), open_assets(settings)
    store.ping()  # connected, as the command is
    waits_s = []
    for version in versions:
        started_s = time.monotonic()
        intention = begin_switch(store, assets, version)
        while app.planes.served.version != version:
            assert time.monotonic() < started_s + 20
            threading.Event().wait(0.01)
        waits_s.append(time.monotonic() - started_s)
        complete_switch(store, assets, intention)
        threading.Event().wait(0.7)  # searches of this version
    assert served_version(store) == versions[-1]
    store.close()
    return waits_s


def test_20_switches_and_rollbacks_fail_no_search_and_mix_no_answer(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    write_reindex(open_assets(settings), REINDEX)
    app = build_versions_app(settings)
    with served(app, lifespan="on") as url, httpx.Client(base_url=url, timeout=60) as client:
        await_held(app)
        (report,) = read_reports(open_assets(settings), now_ms=time.time_ns() // 1_000_000)
        assert report.holds == (1, 2)
        capacity_per_s(client, 2)
        capacity = capacity_per_s(client, 5)
        rate = min(RATE_PER_S, capacity / 2)
        before = run_for(client, rate, 10)
        seen, until = Searches(), threading.Event()
        with ThreadPoolExecutor(1) as pool:
            searching = pool.submit(paced, client, rate, until, seen)
            try:
                waits_s = switch_and_time(settings, app, [2 - number % 2 for number in range(SWITCHES)])
            finally:
                until.set()
            searching.result(120)
        after = run_for(client, rate, 10)
    beside_ms = statistics.mean([before.p95_ms(), after.p95_ms()])
    with capsys.disabled():
        sys.stdout.write(
            f"\n{rate:.1f} searches/s, of {capacity:.0f} at most: {len(seen.times_s)} answered, {seen.unsent} not sent "
            f"in time; p95 {seen.p95_ms():.1f} ms, without switches {beside_ms:.1f} ms; {SWITCHES} switches of "
            f"{statistics.median(waits_s):.2f} s at the median and {max(waits_s):.2f} s at most\n"
        )
    assert seen.failed == []
    assert seen.unsent <= 0.05 * (seen.unsent + len(seen.times_s)), "the searches were fewer than the rate"
    assert {frozenset(versions) for versions in seen.versions} == {frozenset({1}), frozenset({2})}
    assert max(waits_s) < 1.0
    assert seen.p95_ms() <= 1.5 * max(before.p95_ms(), after.p95_ms())
