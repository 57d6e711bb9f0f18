"""Refuses an asset store on the disk of one Ray node, where other nodes do not share it."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from penstock.assets import AssetStore
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
        seen = _look_from(nodes, store.url, mark)
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


def _look_from(nodes: Mapping[str, str], url: str, mark: str) -> Mapping[str, bool]:
    """Returns whether each node sees the mark. A node that does not answer is left out, with a warning."""
    look = ray.remote(num_cpus=0, max_retries=0)(_sees)
    answers = {
        node: look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(url, mark)
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
            logger.warning("node %s gave no answer whether it shares the asset store: %s", nodes[node], exc)
    return seen


def _sees(url: str, mark: str) -> bool:
    """Returns whether this node sees the mark. Runs there."""
    return AssetStore(url).exists(mark)
