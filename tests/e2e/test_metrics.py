"""Every metric of a whole Penstock moves when it should: a Prometheus server scrapes its one endpoint.

One Penstock for all of them, in this order: the last one checks that no metric was forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import psutil
import pytest

from penstock.broker.base import Message
from penstock.cli.scrape import scrape
from penstock.ingest.canary import TENANT
from penstock.observability import metrics
from penstock.processes import free_port
from tests.e2e.prometheus import Prometheus, program, scraping
from tests.e2e.stack import Stack, eventually

pytestmark = [pytest.mark.services, pytest.mark.exhaustive]

_TIMEOUT_S = 60.0
_TEXTS = 40
# Move only where retention removes what was not read yet (tests/ingest/lane/test_lane.py), and where a profile reads
# the words of images (tests/ingest/pipeline/test_image_words.py).
_ELSEWHERE = {
    "penstock_lost_offsets",
    "penstock_image_texts",
    # tests/ingest/reindex/test_gauges.py: no re-index is under way.
    "penstock_reindex_assets",
    "penstock_reindex_assets_per_second",
    "penstock_reindex_left_seconds",
    "penstock_reindex_lag_records",
    "penstock_backup_age_seconds",  # tests/ingest/test_backup_age.py
    # tests/query/watches/test_evaluator.py: the null profile has no calibration, and so no watches.
    "penstock_feedback_events",  # tests/ingest/feedback: off unless it is switched on
    "penstock_watches",
    "penstock_watch_matches",
    "penstock_watch_delay_seconds",
}


class Watcher:
    """Reads samples, and keeps a list of their names."""

    def __init__(self, prometheus: Prometheus) -> None:
        self._prometheus = prometheus
        self.seen: set[str] = set()

    def value(self, sample: str, **labels: str) -> float:
        self.seen.add(sample)
        return self._prometheus.value(sample, **labels) or 0.0

    def reaches(self, least: float, sample: str, **labels: str) -> None:
        eventually(lambda: self.value(sample, **labels) >= least, f"{sample}{labels} >= {least}", _TIMEOUT_S)

    def becomes(self, expected: float, sample: str, **labels: str) -> None:
        eventually(lambda: self.value(sample, **labels) == expected, f"{sample}{labels} == {expected}", _TIMEOUT_S)


@pytest.fixture(scope="module", autouse=True)
def _prometheus() -> None:
    """Fails early if there is no Prometheus."""
    program()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    environment = {
        "PENSTOCK_PROFILE": "null:8",
        "PENSTOCK_QUERY__PORT": "0",
        "PENSTOCK_CANARY__INTERVAL_S": "1",
        "PENSTOCK_STORE__TIMEOUT_S": "2",
        "PENSTOCK_TRACING__ENDPOINT": f"http://127.0.0.1:{free_port()}",  # where no collector listens
        "PENSTOCK_TRACING__SAMPLE_RATE": "1",
    }
    stack = Stack(tmp_path_factory.mktemp("metrics") / "data", environment)
    try:
        stack.start()
        yield stack
    finally:
        stack.close()


@pytest.fixture(scope="module")
def watcher(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watcher]:
    assert stack.endpoints.metrics_url is not None
    with scraping(stack.endpoints.metrics_url, tmp_path_factory.mktemp("prometheus")) as prometheus:
        yield Watcher(prometheus)


@contextmanager
def frozen(process: psutil.Process) -> Iterator[None]:
    process.suspend()
    try:
        yield
    finally:
        process.resume()


def texts(prefix: str, count: int, content: str = "Text {} of a harbour.") -> list[Message]:
    return [Message("media.text", f"{prefix}{n}".encode(), content.format(n).encode()) for n in range(count)]


def test_every_process_of_both_planes_counts(watcher: Watcher) -> None:
    for process in ("ingest", "lane", "fetch", "decode", "passage.text", "joint.image", "write", "query"):
        watcher.becomes(1, "penstock_processes", process=process)
    watcher.becomes(1, "penstock_build_info", profile="null:8", index_version="1")


def test_events_are_counted_as_they_end_and_what_they_cost_on_the_way(stack: Stack, watcher: Watcher) -> None:
    indexed_before = watcher.value("penstock_events_total", modality="text", outcome="indexed")
    stack.produce([*texts("one", _TEXTS), *texts("same", 2, "The same content.")])
    stack.produce([Message("media.text", b"one0", b"A second version."), Message("media.image", b"bad", b"no image")])
    stack.settle()
    stack.produce([Message("media.text", b"one1", None)])
    stack.settle()

    expected = indexed_before + _TEXTS + 2
    watcher.reaches(expected, "penstock_events_total", modality="text", outcome="indexed")
    watcher.reaches(expected, "penstock_tenant_events_total", tenant="default", outcome="indexed")
    watcher.reaches(expected, "penstock_freshness_seconds_count", modality="text")
    watcher.becomes(1, "penstock_events_total", modality="text", outcome="deleted")
    watcher.reaches(expected, "penstock_index_changes_total", result="published")
    watcher.becomes(1, "penstock_events_total", modality="image", outcome="dead_lettered")
    watcher.becomes(1, "penstock_dead_letters_total", reason="wrong_topic")
    watcher.becomes(1, "penstock_dead_letters_open", topic="media.dlq")
    for step in ("decode", "encode", "write"):
        watcher.reaches(2, "penstock_step_seconds_count", step=step, modality="text")
    watcher.reaches(1, "penstock_step_seconds_count", step="settle", modality="image")
    watcher.reaches(expected, "penstock_batch_events_sum", modality="text")
    watcher.reaches(_TEXTS * len("Text 1 of a harbour."), "penstock_batch_bytes_sum", modality="text")
    watcher.reaches(2, "penstock_commits_total", result="acknowledged")
    watcher.reaches(1, "penstock_cache_requests_total", cache="encoder", result="hit")
    watcher.reaches(1, "penstock_cache_requests_total", cache="encoder", result="miss")
    for pool in ("decode", "passage.text", "write"):
        watcher.becomes(1, "penstock_workers", pool=pool)
        watcher.reaches(2, "penstock_queue_wait_seconds_count", pool=pool)
        assert watcher.value("penstock_worker_busy_seconds_total", pool=pool) > 0


def test_queries_are_measured_as_a_whole_by_step_and_by_channel(stack: Stack, watcher: Watcher) -> None:
    for _ in range(2):
        stack.search("a harbour")
    watcher.reaches(1, "penstock_cache_requests_total", cache="results", result="hit")
    watcher.reaches(1, "penstock_cache_bytes", cache="results")
    assert stack.post({"text": ""}).status_code == 400
    watcher.reaches(2, "penstock_query_seconds_count", status="200")
    watcher.reaches(1, "penstock_query_seconds_count", status="400")
    watcher.reaches(1, "penstock_http_seconds_count", route="/v1/search", status="400")
    for channel in ("text.passage", "image.joint"):
        watcher.reaches(2, "penstock_query_channel_seconds_count", channel=channel, result="answered")
    for step in ("encode", "search", "fuse", "total"):
        watcher.reaches(2, "penstock_query_step_seconds_count", step=step)
    watcher.reaches(1, "penstock_cache_requests_total", cache="query", result="hit")
    watcher.reaches(1, "penstock_understanding_total", part="vocabulary", result="counted")


def test_events_by_http_and_items_of_produce_are_counted(stack: Stack, watcher: Watcher) -> None:
    url = f"{stack.endpoints.query_url}/v1/events"
    assert httpx.post(url, json={"text": "By HTTP, over a harbour."}, timeout=60).status_code == 202
    assert httpx.post(url, json={"events": [{"text": "a"}, {"mood": 1}]}, timeout=60).status_code == 422
    watcher.reaches(1, "penstock_received_events_total", result="accepted")
    watcher.reaches(1, "penstock_received_events_total", result="refused")
    assert stack.run("produce", "-", stdin=b'{"text": "From a line."}\n{"mood": 1}\n').returncode == 1
    watcher.becomes(1, "penstock_produced_items_total", result="acknowledged")
    watcher.becomes(1, "penstock_produced_items_total", result="refused")


def test_answers_are_counted_with_their_sentences_and_measured_by_step(stack: Stack, watcher: Watcher) -> None:
    stack.ask("a harbour")
    watcher.reaches(1, "penstock_answers_total")
    for step in ("search", "read", "check", "total"):
        watcher.reaches(1, "penstock_answer_step_seconds_count", step=step)
    watcher.reaches(1, "penstock_answer_sentences_total", support="supported", result="shown")


def test_a_store_that_hangs_shows_as_an_open_breaker_retries_lag_and_bytes_in_flight(
    stack: Stack, watcher: Watcher
) -> None:
    with frozen(stack.process_with("milvus_lite")):
        stack.produce(texts("late", _TEXTS))
        watcher.becomes(1, "penstock_breaker_open", dependency="store")
        watcher.reaches(1, "penstock_retries_total", cause="store")
        watcher.reaches(_TEXTS, "penstock_lag_records", topic="media.text")
        watcher.reaches(3, "penstock_oldest_unsettled_seconds", topic="media.text")
        watcher.reaches(1, "penstock_held", why="store")
        watcher.reaches(1, "penstock_in_flight_bytes", lane="lane-0")
        assert stack.post({"text": "a harbour", "deadline_ms": 500}).status_code == 503
        watcher.reaches(1, "penstock_query_seconds_count", status="503")
        watcher.reaches(1, "penstock_query_channel_seconds_count", result="missing")
    stack.settle()
    watcher.becomes(0, "penstock_breaker_open", dependency="store")
    watcher.becomes(0, "penstock_held", why="store")


def test_spans_that_no_collector_takes_are_dropped_and_counted(watcher: Watcher) -> None:
    watcher.reaches(1, "penstock_spans_total", result="dropped")


def test_the_canary_is_found_by_queries_and_by_no_other_search(stack: Stack, watcher: Watcher) -> None:
    for modality in ("text", "image"):
        before = watcher.value("penstock_canaries_total", modality=modality, result="found")
        watcher.reaches(before + 1, "penstock_canaries_total", modality=modality, result="found")
        watcher.reaches(before + 1, "penstock_canary_seconds_count", modality=modality)
    everything = stack.search("The canary sings in the penstock.", limit=200)
    assert everything
    assert TENANT not in {hit["tenant"] for hit in everything}


def test_status_shows_what_was_measured(stack: Stack) -> None:
    shown = stack.json("status")
    figures = shown["metrics"]
    assert shown["addresses"]["metrics"] == stack.endpoints.metrics_url
    assert figures["steps"]["encode"]["p95_s"] > 0
    assert figures["queries"]["200"]["p50_s"] > 0
    assert {"text.passage", "image.joint"} <= figures["channels"].keys()
    assert figures["channels"]["text.passage"]["answered"]["p50_s"] > 0
    assert sum(results["missing"]["count"] for results in figures["channels"].values() if "missing" in results) >= 1
    assert figures["query_steps"]["total"]["p95_s"] > 0
    assert figures["batches"]["text"]["mean_events"] >= 1
    assert figures["events"]["text"]["deleted"] == 1
    assert figures["processes"]["lane"] == 1
    assert figures["pools"]["write"]["workers"] == 1
    assert figures["retries"]["store"] >= 1
    assert figures["canary"]["text"]["p95_s"] > 0
    output = stack.run("status").stdout.decode()
    assert "text canary, produced to found" in output


def test_the_other_plane_takes_the_endpoint_over_and_no_total_falls(stack: Stack, watcher: Watcher) -> None:
    url = stack.endpoints.metrics_url
    assert url is not None
    indexed = _indexed_texts(url)
    assert indexed > 0
    ingest, serve = stack.plane("ingest"), stack.plane("serve")
    ingest.kill()
    eventually(lambda: _serves(serve, url), "the query plane's driver serves", _TIMEOUT_S)
    assert _indexed_texts(url) >= indexed
    # By the restarted lane, the canary at least.
    watcher.reaches(indexed + 1, "penstock_events_total", modality="text", outcome="indexed")


def _indexed_texts(url: str) -> float:
    """Reads the endpoint itself; Prometheus knows only the values of its last scrape."""
    indexed_text = {"modality": "text", "outcome": "indexed"}
    return sum(value for labels, value in scrape(url).samples["penstock_events_total"] if indexed_text == labels)


def _serves(process: psutil.Process, url: str) -> bool:
    port = int(url.removesuffix("/metrics").rpartition(":")[2])
    listening = [at for at in process.net_connections() if at.status == psutil.CONN_LISTEN]
    return any(at.laddr.port == port for at in listening)


def test_no_metric_was_forgotten(watcher: Watcher) -> None:
    names = {metrics.name_of(metric) for metric in metrics.every_metric()}
    watched = {name for name in names for sample in watcher.seen if sample.startswith(name)}
    assert names - watched == _ELSEWHERE
