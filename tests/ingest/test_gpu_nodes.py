"""Encoders wait for nodes with GPUs, and nodes with GPUs hold encoders alone. Ray counts GPUs that do not exist."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from penstock.config import Settings, load_settings
from penstock.encoders.profiles import load_profile
from penstock.errors import UnavailableError
from penstock.ingest.executor.ray_actor import Actor, when_ready
from penstock.ingest.gpu_nodes import await_gpus, cluster_gpus, gpus_of_an_encoder
from penstock.ingest.lane.handles import DECODE, FETCH
from penstock.ingest.launcher import PlaneLauncher

_CPU_NODE, _GPU_NODE = {"penstock/role": "cpu"}, {"penstock/role": "gpu"}


class Gpus:
    """A cluster whose GPUs come after a number of looks."""

    def __init__(self, *present: float) -> None:
        self._present = list(present)

    def __call__(self) -> float:
        return self._present.pop(0) if len(self._present) > 1 else self._present[0]


def test_the_wait_says_what_is_missing_one_time_and_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="penstock")
    assert await_gpus(2, threading.Event(), 60, Gpus(0, 0, 2))
    waiting, over = caplog.messages
    assert waiting.startswith("the encoders ask for 2 GPUs and the Ray cluster has 0: waiting up to ")
    assert over == "the Ray cluster has 2 GPUs now: the encoders start"


def test_a_cluster_with_enough_gpus_is_not_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    assert await_gpus(0.5, threading.Event(), 60, Gpus(1))
    assert not caplog.messages


def test_gpus_that_never_come_are_an_error_in_one_line() -> None:
    with pytest.raises(
        UnavailableError, match=r"^the encoders ask for 1 GPUs, and after 0 s .* has 0\. Add nodes with GPUs"
    ):
        await_gpus(1, threading.Event(), 0.0, Gpus(0))


def test_a_stop_ends_the_wait() -> None:
    stop = threading.Event()
    stop.set()
    assert not await_gpus(1, stop, 60, Gpus(0))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=4, num_gpus=0, labels=_CPU_NODE, include_dashboard=False)
        ray.init(address=cluster.address, log_to_driver=False)
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()  # type: ignore[no-untyped-call]


def settings_of(folder: Path, device: str) -> Settings:
    return load_settings(
        profile="null:8",
        device=device,
        data_dir=folder,
        ingest={"modalities": ["text", "image"], "encoder_gpus": 0.25},
        placement={"workers": _CPU_NODE, "encoders": _GPU_NODE},
        metrics={"enabled": False},
    )


def node_of(actor: Actor) -> str:
    """Ray's public list of actors needs its dashboard."""
    from ray._private.state import actors

    return str(actors()[actor._actor_id.hex()]["Address"]["NodeID"])


@pytest.mark.services
def test_encoders_ask_for_gpus_and_start_on_the_node_that_joins_late(cluster: Cluster, tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "cuda")
    assert gpus_of_an_encoder(settings_of(tmp_path, "auto")) == 0
    assert gpus_of_an_encoder(settings) == 0.25
    launcher = PlaneLauncher(settings, load_profile(settings.profile))
    spawns = launcher._spawns(gpus_of_an_encoder(settings))
    actors: Mapping[str, Actor] = {name: spawns[name](1)[0] for name in (FETCH, DECODE, *launcher._roles)}
    encoders = [actors[role] for role in launcher._roles]
    ray.get([when_ready(actors[FETCH]), when_ready(actors[DECODE])], timeout=120)
    ready = [when_ready(encoder) for encoder in encoders]
    assert not ray.wait(ready, timeout=0)[0]

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(await_gpus, launcher._demand(0.25), threading.Event(), 120)
        cluster.add_node(num_cpus=4, num_gpus=1, labels=_GPU_NODE, include_dashboard=False)
        assert waiting.result()
    ray.get(ready, timeout=120)
    (gpu_node,) = (node["NodeID"] for node in ray.nodes() if node["Resources"].get("GPU"))  # type: ignore[no-untyped-call]
    assert {node_of(encoder) for encoder in encoders} == {gpu_node}
    assert gpu_node not in {node_of(actors[FETCH]), node_of(actors[DECODE])}
    in_use = cluster_gpus() - ray.available_resources().get("GPU", 0)  # type: ignore[no-untyped-call]
    assert in_use == pytest.approx(0.25 * len(encoders))
    assert gpus_of_an_encoder(settings_of(tmp_path, "auto")) == 0.25
    assert gpus_of_an_encoder(settings_of(tmp_path, "cpu")) == 0
    for actor in actors.values():
        ray.kill(actor)
