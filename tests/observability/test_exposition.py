"""Checks the metrics of several real processes at one endpoint; they share files and locks."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import httpx
import pytest
from prometheus_client import Histogram
from prometheus_client.parser import text_string_to_metric_families

from penstock.config import Settings
from penstock.observability import metrics
from penstock.observability.exposition import Endpoint, NodeMetrics, connect, read_url, remove_stale

# A fork server that has imported everything: a process then starts in milliseconds instead of a second.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([__name__])


def _count(data_dir: Path, name: str, commands: Connection) -> None:
    """Runs in a child process: connects under a name, then executes each line that it receives."""
    metrics.EVENTS.labels("text", "indexed").inc(1000)  # before it is connected, so that no process shows it
    connect(Settings(data_dir=data_dir), name)
    commands.send(None)
    while True:
        exec(commands.recv())
        commands.send(None)


class Process:
    """A child process that counts."""

    def __init__(self, data_dir: Path, name: str) -> None:
        self._commands, remote = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(target=_count, args=(data_dir, name, remote), daemon=True)
        self._process.start()
        remote.close()
        self._commands.recv()

    def do(self, line: str) -> None:
        """Executes a line. Raises EOFError if it fails; its standard error says why."""
        self._commands.send(line)
        self._commands.recv()

    def kill(self) -> None:
        self._process.kill()
        self._process.join()


@contextmanager
def process(data_dir: Path, name: str) -> Iterator[Process]:
    child = Process(data_dir, name)
    try:
        yield child
    finally:
        child.kill()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path)


def samples(settings: Settings) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Returns the samples that a scrape would see."""
    collected = NodeMetrics(settings.metrics_dir).collect()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for metric in collected
        for sample in metric.samples
    }


def value(settings: Settings, name: str, **labels: str) -> float | None:
    return samples(settings).get((name, frozenset(labels.items())))


INDEXED = {"modality": "text", "outcome": "indexed"}
COUNT = 'metrics.EVENTS.labels("text", "indexed").inc({})'
HOLD = 'metrics.IN_FLIGHT.labels("{}").set({})'


def test_counters_of_living_and_dead_processes_are_summed(settings: Settings) -> None:
    with process(settings.data_dir, "lane-0") as first, process(settings.data_dir, "lane-1") as other:
        first.do(COUNT.format(3))
        other.do(COUNT.format(4))
        assert value(settings, "penstock_events_total", **INDEXED) == 7
        other.kill()
        assert value(settings, "penstock_events_total", **INDEXED) == 7


def test_a_restarted_process_continues_the_counters_and_files_of_its_predecessor(settings: Settings) -> None:
    with process(settings.data_dir, "lane-0") as first:
        first.do(COUNT.format(3))
    files = sorted(settings.metrics_dir.iterdir())
    for _ in range(2):
        with process(settings.data_dir, "lane-0") as again:
            again.do(COUNT.format(1))
    assert value(settings, "penstock_events_total", **INDEXED) == 5
    assert sorted(settings.metrics_dir.iterdir()) == files


def test_two_living_processes_of_the_same_name_use_different_files(settings: Settings) -> None:
    with process(settings.data_dir, "query") as first, process(settings.data_dir, "query") as other:
        first.do(COUNT.format(1))
        other.do(COUNT.format(1))
        first.do(COUNT.format(1))
        assert value(settings, "penstock_events_total", **INDEXED) == 3
        assert value(settings, "penstock_processes", process="query") == 2


def test_gauges_of_a_dead_process_disappear_and_do_not_return_with_its_successor(settings: Settings) -> None:
    with process(settings.data_dir, "lane-0") as first, process(settings.data_dir, "lane-1") as other:
        first.do(HOLD.format("lane-0", 5))
        other.do(HOLD.format("lane-1", 6))
        first.kill()
        assert value(settings, "penstock_in_flight_bytes", lane="lane-0") is None
        assert value(settings, "penstock_in_flight_bytes", lane="lane-1") == 6
        with process(settings.data_dir, "lane-0"):
            assert value(settings, "penstock_in_flight_bytes", lane="lane-0") is None


def test_stale_files_are_removed_and_those_of_living_processes_kept(settings: Settings) -> None:
    with process(settings.data_dir, "query") as living:
        living.do(COUNT.format(1))
        with process(settings.data_dir, "lane-0") as dead:
            dead.do(COUNT.format(10))
        remove_stale(settings.metrics_dir)
        assert value(settings, "penstock_events_total", **INDEXED) == 1


def test_a_broken_file_hides_no_others_and_is_replaced(settings: Settings) -> None:
    with process(settings.data_dir, "lane-0") as first:
        first.do(COUNT.format(3))
    with process(settings.data_dir, "lane-1") as other:
        other.do(COUNT.format(4))
    broken = settings.metrics_dir / "counter_lane-0.db"
    broken.write_bytes(broken.read_bytes()[:8] + b"\xff" * 1000)
    assert value(settings, "penstock_events_total", **INDEXED) == 4
    with process(settings.data_dir, "lane-0") as again:
        again.do(COUNT.format(1))
    assert value(settings, "penstock_events_total", **INDEXED) == 5


def test_metrics_of_other_libraries_are_left_out(settings: Settings) -> None:
    with process(settings.data_dir, "query") as first:
        first.do('from prometheus_client import Counter; Counter("theirs", "not ours").inc()')
        assert {name for name, _ in samples(settings)} == {"penstock_processes"}


def test_no_child_process_inherits_the_folder(settings: Settings) -> None:
    with process(settings.data_dir, "ingest") as first:
        first.do("import os; assert not any('multiproc' in name.lower() for name in os.environ)")


def test_the_endpoint_is_taken_over_at_the_same_port_when_its_process_dies(settings: Settings) -> None:
    with process(settings.data_dir, "ingest") as first:
        first.do(f"endpoint = Endpoint(Path({str(settings.metrics_dir)!r}), '127.0.0.1', 0); endpoint.ensure()")
        url = read_url(settings.metrics_dir)
        second = Endpoint(settings.metrics_dir, "127.0.0.1", 0)
        second.ensure()
        assert second.url == ""
        first.do(COUNT.format(2))
        assert _scraped(url)["penstock_events_total"] == 2
    second.ensure()
    try:
        assert second.url == url
        assert _scraped(url)["penstock_events_total"] == 2
    finally:
        second.close()


def test_a_port_in_use_is_logged_once_and_retried(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    other = Endpoint(settings.data_dir / "other", "127.0.0.1", 0)
    other.ensure()
    port = int(other.url.removesuffix("/metrics").rpartition(":")[2])
    endpoint = Endpoint(settings.metrics_dir, "127.0.0.1", port)
    endpoint.ensure()
    endpoint.ensure()
    assert (endpoint.url, len(caplog.records)) == ("", 1)
    assert f"127.0.0.1:{port} (metrics.host, metrics.port)" in caplog.text
    other.close()
    endpoint.ensure()
    assert endpoint.url == f"http://127.0.0.1:{port}/metrics"
    endpoint.close()


def test_a_process_that_cannot_write_files_counts_in_memory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "metrics").write_text("a file where the folder should be")
    connect(Settings(data_dir=tmp_path), "lane-0")
    assert "metrics of lane-0 are not exported" in caplog.text
    metrics.EVENTS.labels("text", "indexed").inc()


def test_every_metric_has_a_label_so_that_it_can_be_reset() -> None:
    for metric in metrics.every_metric():
        with pytest.raises(ValueError, match="label"):
            metric.observe(1) if isinstance(metric, Histogram) else metric.inc()


def _scraped(url: str) -> dict[str, float]:
    text = httpx.get(url, timeout=10).text
    return {sample.name: sample.value for family in text_string_to_metric_families(text) for sample in family.samples}
