"""Media workers run on the nodes that `placement.workers` selects: compared with where Ray itself places actors."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import ray
from ray.cluster_utils import Cluster

from penstock.ingest.shared_assets import nodes_of_workers

pytestmark = [pytest.mark.services, pytest.mark.exhaustive, pytest.mark.timeout(200)]

_STORE = 100 * 1024**2
_ROLE = "penstock/role"


@pytest.fixture(scope="module")
def nodes() -> Iterator[dict[str, str]]:
    """Returns the ids of three nodes by their role, `none` for the one without; a fourth has no CPU."""
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "object_store_memory": _STORE, "include_dashboard": False},
    )
    try:
        ray.init(address=cluster.address, log_to_driver=False)
        ids = {"none": str(ray.get_runtime_context().get_node_id())}
        for role in ("cpu", "gpu"):
            ids[role] = cluster.add_node(num_cpus=1, object_store_memory=_STORE, labels={_ROLE: role}).node_id
        cluster.add_node(num_cpus=0, object_store_memory=_STORE, labels={_ROLE: "cpu"})
        cluster.wait_for_nodes()
        yield ids
    finally:
        ray.shutdown()
        cluster.shutdown()  # type: ignore[no-untyped-call]


@ray.remote(num_cpus=0)
def _where() -> str:
    return str(ray.get_runtime_context().get_node_id())


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (None, {"none", "cpu", "gpu"}),
        ("cpu", {"cpu"}),
        ("in(cpu,gpu)", {"cpu", "gpu"}),
        ("!gpu", {"none", "cpu"}),
        ("!in(cpu,gpu)", {"none"}),
        ("other", set()),
    ],
)
def test_only_nodes_with_cpus_and_the_labels_are_meant(
    nodes: dict[str, str], condition: str | None, expected: set[str]
) -> None:
    labels = {} if condition is None else {_ROLE: condition}
    meant = nodes_of_workers(labels)
    assert meant.keys() == {nodes[name] for name in expected}
    if expected and labels:
        assert ray.get(_where.options(num_cpus=1, label_selector=labels).remote(), timeout=60) in meant
