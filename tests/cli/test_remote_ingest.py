"""Tests how `penstock status` queries an ingest plane elsewhere: real endpoints of nodes, on loopback."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter

from penstock.cli.main import main
from penstock.cli.remote_ingest import remote_status, scrape_all
from penstock.cli.system_status import collect_status, ingest_status
from penstock.config import KafkaSettings, MetricsSettings, QuerySettings, load_settings
from penstock.errors import UnavailableError
from penstock.ingest.status import PlaneState, PlaneStatus
from penstock.observability.health import Health, write_health
from penstock.observability.node_server import NodeServer

SETTINGS = load_settings()
_NOW_MS = time.time_ns() // 1_000_000


def status(state: PlaneState = PlaneState.RUNNING) -> PlaneStatus:
    # By the clock of the asking machine this status is a day old.
    return PlaneStatus(state, 7, _NOW_MS - 86_400_000, "null", 2, {"write": 1}, held={"disk": "5 bytes are free"})


class Node:
    """A node with a metric, and the health of a driver if one ran there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        registry = CollectorRegistry()
        self.events = Counter("penstock_events", "…", ["modality", "outcome"], registry=registry)
        self.server = NodeServer(folder, registry, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.server.port}"

    def turn(self, of: PlaneStatus, *, ago_s: float = 0.0, group: str = "ours") -> None:
        at_ms = time.time_ns() // 1_000_000 - int(ago_s * 1000)
        write_health(self._folder, Health(group, of.state, [], at_ms, at_ms + 60_000, asdict(of)))


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], Node]]:
    nodes: list[Node] = []

    def started(name: str) -> Node:
        nodes.append(Node(tmp_path / name))
        return nodes[-1]

    yield started
    for node in nodes:
        node.server.close()


def test_the_driver_is_found_among_the_nodes_and_its_clock_does_not_matter(start: Callable[[str], Node]) -> None:
    worker, driver = start("worker"), start("driver")
    driver.turn(status())
    assert remote_status([worker.url, driver.url], SETTINGS, "ours") == status()
    assert remote_status([f"{driver.url}/metrics"], SETTINGS, "ours") == status()  # as metrics.urls has it


@pytest.mark.parametrize(
    ("state", "ago_s", "reason"),
    [(PlaneState.RUNNING, 30, r"the last one was running 30 s ago"), (PlaneState.STOPPED, 0, r"was stopped 0 s ago")],
)
def test_a_driver_that_is_gone_is_a_problem(
    start: Callable[[str], Node], state: PlaneState, ago_s: float, reason: str
) -> None:
    driver = start("driver")
    driver.turn(status(state), ago_s=ago_s)
    with pytest.raises(UnavailableError, match=reason):
        remote_status([driver.url], SETTINGS, "ours")


def test_each_address_says_why_it_has_no_status(start: Callable[[str], Node]) -> None:
    worker, closed = start("worker"), start("closed")
    closed.server.close()
    with pytest.raises(
        UnavailableError,
        match=r"no ingest plane of the consumer group ours has run on this node; .*refused.*metrics.urls",
    ):
        remote_status([worker.url, closed.url], SETTINGS, "ours")


def test_the_plane_of_another_group_on_the_same_node_is_not_shown(start: Callable[[str], Node]) -> None:
    driver = start("driver")
    driver.turn(status())
    driver.turn(status(PlaneState.DRAINING), group="theirs")
    assert remote_status([driver.url], SETTINGS, "ours") == status()
    with pytest.raises(UnavailableError, match="no ingest plane of the consumer group nobody has run"):
        remote_status([driver.url], SETTINGS, "nobody")
    with pytest.raises(UnavailableError, match=r"several ingest planes run on this node.*: ours, theirs"):
        remote_status([driver.url], SETTINGS)
    named = load_settings(metrics=MetricsSettings(urls=(driver.url,)), kafka=KafkaSettings(group="theirs"))
    assert ingest_status(named).state is PlaneState.DRAINING


def test_an_address_of_another_program_is_a_problem() -> None:
    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"hello": "world"}' if self.path == "/status?group=ours" else b"<html>")

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(UnavailableError, match="another version of Penstock"):
            remote_status([f"http://127.0.0.1:{server.server_port}"], SETTINGS, "ours")
        server.shutdown()


def test_the_metrics_of_several_nodes_sum_up(start: Callable[[str], Node]) -> None:
    nodes = [start("a"), start("b")]
    for node, count in zip(nodes, (3, 4), strict=True):
        node.events.labels("text", "indexed").inc(count)
    scraped = scrape_all([node.url for node in nodes], SETTINGS)
    assert sum(value for _, value in scraped.samples["penstock_events_total"]) == 7


def test_planes_elsewhere_are_asked_and_nothing_of_this_folder(start: Callable[[str], Node], tmp_path: Path) -> None:
    driver = start("driver")
    driver.turn(status())
    driver.events.labels("text", "indexed").inc(5)
    system = collect_status(
        load_settings(
            data_dir=tmp_path / "here",
            metrics=MetricsSettings(urls=(driver.url,)),
            query=QuerySettings(url="http://127.0.0.1:9"),
        )
    )
    assert system.ingest == status()
    assert system.metrics is not None
    assert system.metrics.events["text"]["indexed"] == 5
    assert (system.topics, system.dead_letters, system.disk, system.index) == (None, None, None, None)
    assert list(system.problems) == ["search"]  # no query plane answers at its address
    assert not (tmp_path / "here").exists()


def test_the_command_takes_addresses_and_refuses_what_is_none(
    start: Callable[[str], Node],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PENSTOCK_DATA_DIR", str(tmp_path / "here"))
    monkeypatch.setenv("PENSTOCK_PROFILE", "null:8")
    driver = start("driver")
    driver.turn(status())
    arguments = ["status", "--at", driver.url, "--url", "http://127.0.0.1:9"]
    assert main([*arguments, "--json"]) == 3
    shown = json.loads(capsys.readouterr().out)
    assert shown["ingest"]["lanes"] == 2
    assert shown["addresses"]["metrics"] == driver.url
    assert main(arguments) == 3
    assert "  waiting (disk): 5 bytes are free\n" in capsys.readouterr().out
    assert main(["status", "--at", "driver:8601"]) == 2
    assert "--at: driver:8601 is no address such as http://driver:8601" in capsys.readouterr().err


def test_a_message_shows_no_password_of_an_address() -> None:
    url = "http://me:hunter2@127.0.0.1:1"
    for reach in (lambda: remote_status([url], SETTINGS), lambda: scrape_all([url], SETTINGS)):
        with pytest.raises(UnavailableError, match=r"\*\*\*@127\.0\.0\.1:1") as refused:
            reach()
        assert "hunter2" not in str(refused.value)
