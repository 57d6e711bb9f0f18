"""A node with GPUs whose encoders were retired is idle to Ray's autoscaler, and so can leave.

The test reads what the autoscaler reads from the head. Ray counts GPUs that do not exist.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import ray
from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.autoscaler.v2.sdk import get_cluster_resource_state
from ray.cluster_utils import Cluster

from penstock.config import Settings, load_settings
from penstock.encoders.profiles import load_profile
from penstock.ingest.executor.ray_actor import control, when_ready
from penstock.ingest.executor.workers import EncodeWorker
from penstock.ingest.launcher import PlaneLauncher
from penstock.observability.node_endpoints import NodeActors
from penstock.processes import Child
from penstock.records import EncoderInput

pytestmark = [pytest.mark.operate, pytest.mark.timeout(900)]

T = TypeVar("T")
Record = Callable[[str, object], None]

_MOUNT = (
    "mount -t tmpfs none {folder} && "
    "exec {ray} start --address={address} --num-cpus=4 --num-gpus=1 --labels={labels} --block"
)
_STARTED_S = 120.0
_TRIES = 4
_IDLE_WITHIN_S = 60.0
_IDLE_FOR_MS = 5_000  # without a break, as an idle timeout counts it


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    cluster = Cluster()
    try:
        tried_again(lambda: cluster.add_node(num_cpus=0, include_dashboard=False))
        ray.init(address=cluster.address, log_to_driver=False)
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()  # type: ignore[no-untyped-call]


def tried_again(start: Callable[[], T]) -> T:
    """Starts a node, again if it does not come up: Ray's own time for that is short on busy cores."""
    for _ in range(_TRIES - 1):
        try:
            return start()
        except Exception as exc:  # Ray raises no narrower one
            if "timed out during startup" not in str(exc):
                raise
    return start()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(
        profile="null:8",
        device="cuda",
        data_dir=tmp_path / "data",
        ingest={"modalities": ["image"], "encoder_gpus": 1},
        placement={"encoders": {"penstock/role": "gpu"}},
        metrics={"port": 0},
    )


AddNode = Callable[[], str]


@pytest.fixture
def add_gpu_node(cluster: Cluster, settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AddNode]:
    """Adds a node with a GPU and a disk of its own, as a pod is, and returns its id."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    program = Path(sys.executable).with_name("ray")
    command = _MOUNT.format(folder=settings.data_dir, ray=program, address=cluster.address, labels="penstock/role=gpu")
    logs = tmp_path_factory.mktemp("nodes")
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
    with ExitStack() as nodes:

        def add() -> str:
            before = living_nodes()

            def start() -> None:
                unshare = ["unshare", "--mount", "--propagation", "private", "bash", "-c", command]
                node = Child("the Ray node", unshare, log=logs / f"{len(before)}.log", env=environment)
                nodes.callback(node.stop)
                node.wait_until(lambda: len(living_nodes()) > len(before), timeout_s=_STARTED_S)

            tried_again(start)
            (added,) = living_nodes() - before
            return added

        yield add


def living_nodes() -> Set[str]:
    return {str(node["NodeID"]) for node in ray.nodes() if node["Alive"]}  # type: ignore[no-untyped-call]


def idle_ms(cluster: Cluster) -> Mapping[str, int]:
    """Returns for how long each node has been idle, as Ray's autoscaler reads it; 0: it is in use."""
    state = get_cluster_resource_state(GcsClient(address=cluster.address))
    return {node.node_id.hex(): node.idle_duration_ms for node in state.node_states}


def eventually(holds: Callable[[], bool], awaited: str, timeout_s: float) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline_s, f"did not happen within {timeout_s:.0f} s: {awaited}"
        time.sleep(0.2)


def encode_images(encoder: Any, role: str, count: int) -> None:
    """Encodes a batch whose images and vectors are objects in the stores of their nodes, and drops both."""
    pixels = np.zeros((count, 8, 8, 3), np.uint8)
    batch = EncoderInput(role, tuple(map(str, range(count))), pixels=pixels)
    encoded = ray.get(control(encoder, EncodeWorker.encode, batch), timeout=60)
    assert len(encoded.vectors) == count


def test_a_gpu_node_without_encoders_is_idle_and_one_with_an_encoder_is_not(
    cluster: Cluster, settings: Settings, add_gpu_node: AddNode, record_property: Record
) -> None:
    launcher = PlaneLauncher(settings, load_profile(settings.profile))
    (role,) = launcher._roles
    spawns = launcher._spawns(gpus=1)
    stays = add_gpu_node()
    (first,) = spawns[role](1)
    ray.get(when_ready(first), timeout=_STARTED_S)
    (second,) = spawns[role](1, first_number=1)  # as a pool grows under load
    leaves = add_gpu_node()
    ray.get(when_ready(second), timeout=_STARTED_S)
    endpoints = NodeActors(settings)
    endpoints.ensure()  # a process of Penstock's on every node, without resources
    for encoder in (first, second):
        encode_images(encoder, role, 20_000)
    assert idle_ms(cluster)[leaves] == 0

    ray.kill(second)  # as a pool shrinks
    began_s = time.monotonic()

    def is_idle() -> bool:
        endpoints.ensure()  # as the driver does all the time
        return idle_ms(cluster)[leaves] >= _IDLE_FOR_MS

    eventually(is_idle, "the node without encoders is idle", _IDLE_WITHIN_S)
    seconds = time.monotonic() - began_s - _IDLE_FOR_MS / 1000
    record_property("encoder ended until its node was idle, seconds", f"{seconds:.1f}")
    encode_images(first, role, 20_000)
    after = idle_ms(cluster)
    assert after[leaves] > _IDLE_FOR_MS
    assert after[stays] == 0
