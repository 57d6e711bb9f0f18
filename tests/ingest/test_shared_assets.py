"""A local asset store and a key of replays made on one node are refused where a Ray node has a file system of its own,
as a pod has."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from penstock.config import Settings, load_settings
from penstock.errors import ConfigError
from penstock.ingest.shared_assets import require_shared_assets, require_shared_replay_key
from penstock.processes import Child

pytestmark = [pytest.mark.operate, pytest.mark.timeout(300)]

_MOUNT = "mount -t tmpfs none {folder} && exec {ray} start --address={address} --num-cpus=1 --block"
_JOINED_S = 120.0


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("data")
    return load_settings(profile="null:8", data_dir=folder)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """This process and a second node, on one disk."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1, include_dashboard=False)
        ray.init(address=cluster.address, log_to_driver=False)
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()  # type: ignore[no-untyped-call]


@pytest.fixture
def node_with_a_disk_of_its_own(cluster: Cluster, settings: Settings, tmp_path: Path) -> Iterator[None]:
    program = Path(sys.executable).with_name("ray")
    command = _MOUNT.format(folder=settings.data_dir, ray=program, address=cluster.address)
    node = Child(
        "the Ray node",
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", command],
        log=tmp_path / "node.log",
        env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"},
    )
    try:
        node.wait_until(lambda: _living_nodes() == 3, timeout_s=_JOINED_S)
        yield
    finally:
        node.stop()


def _living_nodes() -> int:
    return sum(node["Alive"] for node in ray.nodes())  # type: ignore[no-untyped-call]


def test_nodes_that_share_the_folder_pass(cluster: Cluster, settings: Settings) -> None:
    require_shared_assets(settings)
    require_shared_replay_key(settings)
    assert not any((settings.data_dir / "assets").rglob("[0-9a-f]" * 64)), "a mark was left behind"


@pytest.mark.usefixtures("node_with_a_disk_of_its_own")
def test_a_node_with_a_disk_of_its_own_is_named_in_one_line(settings: Settings) -> None:
    began_s = time.monotonic()
    with pytest.raises(
        ConfigError, match=r"which 1 of 3 Ray nodes with CPUs do not see \(.+\): .*Set assets\.url"
    ) as refused:
        require_shared_assets(settings)
    assert str(refused.value).startswith(f"the asset store {settings.asset_store_url} is a folder of this node's disk")
    assert "\n" not in str(refused.value)
    assert time.monotonic() - began_s < 60
    elsewhere = settings.assets.model_copy(update={"url": "memory://media"})
    require_shared_assets(settings.model_copy(update={"assets": elsewhere}))


@pytest.mark.usefixtures("node_with_a_disk_of_its_own")
def test_several_nodes_need_a_key_of_replays_that_all_of_them_have(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is not that of 1 of 3 Ray nodes with CPUs \(.+\), .*Set replay\.key_file"):
        require_shared_replay_key(settings)
    (tmp_path / "key").write_text("k" * 40)
    replay = settings.replay.model_copy(update={"key_file": tmp_path / "key"})
    require_shared_replay_key(settings.model_copy(update={"replay": replay}))
