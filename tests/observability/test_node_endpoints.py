"""Checks the endpoints of a cluster of several nodes, which here share one machine, one folder and one port."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import ray
from prometheus_client.parser import text_string_to_metric_families
from ray.cluster_utils import Cluster
from ray.util import list_named_actors

from penstock.config import MetricsSettings, Settings
from penstock.observability.exposition import Endpoint, read_url
from penstock.observability.node_endpoints import OtherNodes, keep_endpoints
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
        nodes.shutdown()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, metrics=MetricsSettings(port=0))


def actors() -> set[str]:
    return {actor["name"] for actor in list_named_actors(all_namespaces=True) if actor["namespace"] == "penstock"}


def test_each_node_has_an_endpoint_as_nodes_come_and_go(cluster: Cluster, settings: Settings) -> None:
    own = Endpoint(settings.metrics_dir, "127.0.0.1", 0)
    others = OtherNodes(settings)
    own.ensure()
    others.ensure()
    assert actors() == set()  # the head is this process's own node

    node = cluster.add_node(num_cpus=1, object_store_memory=_STORE)
    cluster.wait_for_nodes()
    others.ensure()
    assert actors() == {f"penstock-metrics-{node.node_id}"}
    OtherNodes(settings).ensure()  # as the other plane would
    assert len(actors()) == 1

    own.close()
    others.ensure()
    assert _responds(read_url(settings.metrics_dir))

    cluster.remove_node(node)
    eventually(lambda: _has_no_actors(others), "the node is gone and so is its endpoint", 60)
    own.ensure()
    assert own.url
    own.close()


def _has_no_actors(others: OtherNodes) -> bool:
    others.ensure()
    return actors() == set()


def _responds(url: str) -> bool:
    """Returns whether the endpoint answers; without counts its response is empty."""
    return list(text_string_to_metric_families(httpx.get(url, timeout=10).text)) == []


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
