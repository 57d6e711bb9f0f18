"""Checks the endpoints of a cluster of several nodes, which here share one machine, one folder and one port."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import ray
from prometheus_client.parser import text_string_to_metric_families
from ray.cluster_utils import Cluster
from ray.util import list_named_actors

from penstock.config import MetricsSettings, Settings
from penstock.observability import node_endpoints
from penstock.observability.exposition import Endpoint, connect, is_served, read_url
from penstock.observability.node_endpoints import NodeActors, actor_name, keep_endpoints, keep_own_endpoint
from tests.e2e.stack import eventually

pytestmark = [pytest.mark.services, pytest.mark.exhaustive]

_STORE = 100 * 1024**2


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    nodes = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "object_store_memory": _STORE, "include_dashboard": False},
    )
    ray.init(address=nodes.address, log_to_driver=False)
    try:
        yield nodes
    finally:
        ray.shutdown()
        nodes.shutdown()  # type: ignore[no-untyped-call]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(node_endpoints, "_QUIET_S", 3_600.0)  # nothing counts on most nodes of these tests
    return Settings(data_dir=tmp_path, metrics=MetricsSettings(port=0))


def actors() -> set[str]:
    return {actor["name"] for actor in list_named_actors(all_namespaces=True) if actor["namespace"] == "penstock"}


def test_each_node_has_an_endpoint_as_nodes_come_and_go(cluster: Cluster, settings: Settings) -> None:
    own = Endpoint(settings.metrics_dir, "127.0.0.1", 0)
    nodes = NodeActors(settings)
    own.ensure()
    nodes.ensure()
    assert actors() == set()  # of one node, whose drivers serve it

    node = cluster.add_node(num_cpus=1, object_store_memory=_STORE)
    cluster.wait_for_nodes()
    nodes.ensure()
    names = {actor_name(settings, name) for name in (node.node_id, ray.get_runtime_context().get_node_id())}
    assert actors() == names
    NodeActors(settings).ensure()  # as the other plane would
    assert actors() == names

    url = own.url
    own.close()
    eventually(lambda: _responds(url), "an actor serves in its place", 10)

    cluster.remove_node(node)
    eventually(lambda: _are_actors(nodes, names - {actor_name(settings, node.node_id)}), "its endpoint is gone too", 60)


def _are_actors(nodes: NodeActors, expected: set[str]) -> bool:
    nodes.ensure()
    return actors() == expected


def test_the_plane_that_starts_last_replaces_the_actors_and_the_other_does_not_take_them_back(
    cluster: Cluster, settings: Settings, tmp_path: Path
) -> None:
    cluster.add_node(num_cpus=1, object_store_memory=_STORE)
    cluster.wait_for_nodes()
    nodes = {node["NodeID"] for node in ray.nodes()}  # type: ignore[no-untyped-call]
    before, later = NodeActors(settings), NodeActors(settings.model_copy(update={"data_dir": tmp_path / "moved"}))
    before.ensure()
    assert actors() == {actor_name(settings, node) for node in nodes}
    eventually(lambda: bool(read_url(settings.metrics_dir)), "the folder of before is served", 20)

    moved = {actor_name(later._settings, node) for node in nodes}
    eventually(lambda: _are_actors(later, moved), "they are replaced", 60)
    eventually(lambda: not is_served(settings.metrics_dir), "the folder of before is not served any more", 20)
    eventually(lambda: bool(read_url(later._settings.metrics_dir)), "the new folder is served", 20)
    for _ in range(3):
        before.ensure()
        assert actors() == moved


_DRIVER = """
import sys, threading
from pathlib import Path
import ray
from penstock.config import MetricsSettings, Settings
from penstock.observability import metrics
from penstock.observability.exposition import connect
from penstock.observability.node_endpoints import keep_endpoints

settings = Settings(data_dir=Path(sys.argv[2]), metrics=MetricsSettings(port=0))
ray.init(address=sys.argv[1], log_to_driver=False)
connect(settings, "ingest")
metrics.EVENTS.labels("text", "indexed").inc(7)
keep_endpoints(threading.Event(), settings)
"""


def test_a_node_is_served_while_its_driver_is_dead(cluster: Cluster, settings: Settings) -> None:
    cluster.add_node(num_cpus=1, object_store_memory=_STORE)
    cluster.wait_for_nodes()
    driver = subprocess.Popen([sys.executable, "-c", _DRIVER, cluster.address, str(settings.data_dir)])
    try:
        eventually(lambda: len(actors()) == 2 and _indexed(settings) == 7, "both nodes have an endpoint", 60)
    finally:
        driver.kill()
        driver.wait()
    killed_s = time.monotonic()
    eventually(lambda: _indexed(settings) == 7, "the counters can be read again", 10)
    assert time.monotonic() - killed_s < 10
    for _ in range(5):  # for longer than Ray takes to end what a dead driver owned
        time.sleep(1)
        assert _indexed(settings) == 7
    assert len(actors()) == 2


def test_a_replica_without_a_driver_has_its_node_served(cluster: Cluster, settings: Settings) -> None:
    @ray.remote(num_cpus=0)
    class Replica:
        def __init__(self) -> None:
            connect(settings, "query")
            keeper = threading.Thread(target=keep_own_endpoint, args=(threading.Event(), settings), daemon=True)
            keeper.start()

        def node(self) -> str:
            return str(ray.get_runtime_context().get_node_id())

    replica = Replica.remote()  # type: ignore[attr-defined]
    node = ray.get(replica.node.remote())
    eventually(lambda: actors() == {actor_name(settings, node)}, "its actor is there", 30)
    eventually(lambda: "penstock_processes" in _text(settings), "the replica is counted", 10)


def test_a_replica_beside_a_driver_starts_no_process(cluster: Cluster, settings: Settings) -> None:
    own = Endpoint(settings.metrics_dir, "127.0.0.1", 0)
    own.ensure()
    stop = threading.Event()
    checks = 0

    def count_checks(timeout_s: float) -> bool:
        nonlocal checks
        checks += 1
        return checks > 3

    stop.wait = count_checks  # type: ignore[assignment, method-assign]
    keep_own_endpoint(stop, settings)
    assert (checks, actors()) == (4, set())
    own.close()


def _text(settings: Settings) -> str:
    url = read_url(settings.metrics_dir)
    try:
        return httpx.get(url, timeout=10).text if url else ""
    except httpx.HTTPError:
        return ""


def _indexed(settings: Settings) -> float:
    families = text_string_to_metric_families(_text(settings))
    return sum(sample.value for family in families for sample in family.samples if family.name == "penstock_events")


def _responds(url: str) -> bool:
    """Returns whether the endpoint answers; without counts its response is empty."""
    try:
        return list(text_string_to_metric_families(httpx.get(url, timeout=10).text)) == []
    except httpx.HTTPError:
        return False


def test_a_driver_serves_its_own_node_until_it_is_stopped(cluster: Cluster, settings: Settings) -> None:
    stop = threading.Event()
    keeper = threading.Thread(target=keep_endpoints, args=(stop, settings))
    keeper.start()
    eventually(lambda: bool(read_url(settings.metrics_dir)), "it serves", 30)
    assert _responds(read_url(settings.metrics_dir))
    stop.set()
    keeper.join(30)
    successor = Endpoint(settings.metrics_dir, "127.0.0.1", 0)
    successor.ensure()
    assert successor.url == read_url(settings.metrics_dir)
    successor.close()
