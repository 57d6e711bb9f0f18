"""Refuses an asset store and a key of replays that only one of several Ray nodes has."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Mapping

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from penstock.assets import AssetStore
from penstock.broker.replay_keys import ReplayKeys
from penstock.config import Settings
from penstock.errors import ConfigError, PenstockError

logger = logging.getLogger(__name__)

_ANSWER_TIMEOUT_S = 60.0  # a node starts a process for the answer, which imports Ray and fsspec


def require_shared_assets(settings: Settings) -> None:
    """Checks that every Ray node with CPUs for workers sees what this process puts into a local asset store.

    Nodes for encoders only, by `placement.workers`, hold no process that reads or writes media. A store elsewhere,
    such as S3, is not checked, and neither is a cluster of one node. A folder that all nodes mount is seen by all and
    passes. A node that joins later is not checked.

    Raises:
        ConfigError: a node does not see it; names the nodes.
        UnavailableError: the store cannot be written.
    """
    store = AssetStore(settings.asset_store_url)
    nodes = nodes_of_workers(settings.placement.workers)
    if not store.is_local or set(nodes) <= {ray.get_runtime_context().get_node_id()}:
        return
    mark = store.put(f"seen by every node of {uuid.uuid4().hex}".encode())
    try:
        seen = _look_from(nodes, "the asset store", _sees, store.url, mark)
    finally:
        store.delete(mark)
    blind = sorted(nodes[node] for node, sees in seen.items() if not sees)
    if blind:
        raise ConfigError(
            f"the asset store {store.url} is a folder of this node's disk, which {len(blind)} of {len(nodes)} Ray "
            f"nodes with CPUs do not see ({', '.join(blind)}): media that they decode would be lost with them. Set "
            "assets.url (PENSTOCK_ASSETS__URL) to a store that every node reaches, such as s3://bucket/media, or to a "
            "shared folder."
        )


def require_shared_replay_key(settings: Settings) -> None:
    """Checks that every Ray node with CPUs for workers has the key of replays that stands for `replay.key`.

    Otherwise each lane makes one, and refuses the replays and the continuations of long media that another one signed.
    A cluster of one node is not checked, and neither is a node that joins later.

    Raises:
        ConfigError: a node does not have it; names the nodes.
    """
    nodes = nodes_of_workers(settings.placement.workers)
    if settings.replay.has_secret("key") or set(nodes) <= {ray.get_runtime_context().get_node_id()}:
        return
    keys = ReplayKeys.of(settings)
    same = _look_from(nodes, "the key of replays", _signs_alike, keys, keys.fingerprint())
    if others := sorted(nodes[node] for node, is_same in same.items() if not is_same):
        raise ConfigError(
            f"replay.key is not set, and the key of replays in {keys.kept} is not that of {len(others)} of "
            f"{len(nodes)} Ray nodes with CPUs ({', '.join(others)}), which would refuse what other nodes sign. Set "
            "replay.key_file (PENSTOCK_REPLAY__KEY_FILE) to a file with the same secret on every node."
        )


def nodes_of_workers(labels: Mapping[str, str]) -> Mapping[str, str]:
    """Returns the addresses of the living nodes that can run workers, by id.

    Args:
        labels: that they must have, as Ray's label selectors: a value, `in(a,b)`, `!` and either of them.
    """
    return {
        node["NodeID"]: node["NodeManagerAddress"]
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"]
        and node["Resources"].get("CPU", 0) > 0
        and all(_allows(condition, node["Labels"].get(label)) for label, condition in labels.items())
    }


def _allows(condition: str, value: str | None) -> bool:
    """Returns whether a label's value, None without one, fulfils the condition of a selector."""
    allowed = condition.removeprefix("!")
    listed = allowed.startswith("in(") and allowed.endswith(")")
    values = [part.strip() for part in allowed[3:-1].split(",")] if listed else [allowed]
    return (value in values) != condition.startswith("!")


def _look_from(nodes: Mapping[str, str], shared: str, sees: Callable[..., bool], *args: object) -> Mapping[str, bool]:
    """Returns the answer of a function on each node. A node that does not answer is left out, with a warning."""
    look = ray.remote(num_cpus=0, max_retries=0)(sees)
    answers = {
        node: look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(*args)
        for node in nodes
    }
    answered, _ = ray.wait(list(answers.values()), num_returns=len(answers), timeout=_ANSWER_TIMEOUT_S)
    seen: dict[str, bool] = {}
    for node, answer in answers.items():
        try:
            if answer not in answered:
                raise TimeoutError(f"no answer within {_ANSWER_TIMEOUT_S:.0f} s")
            seen[node] = ray.get(answer)
        except (RayError, PenstockError, TimeoutError) as exc:
            logger.warning("node %s gave no answer whether it shares %s: %s", nodes[node], shared, exc)
    return seen


def _sees(url: str, mark: str) -> bool:
    """Returns whether this node sees the mark. Runs there."""
    return AssetStore(url).exists(mark)


def _signs_alike(keys: ReplayKeys, fingerprint: str) -> bool:
    """Returns whether this node has the key of a fingerprint. Runs there."""
    return keys.fingerprint() == fingerprint
