"""Keeps a metrics endpoint on every node of the Ray cluster, as nodes come and go. Run by both planes' drivers.

This process serves the node that it is on itself, which costs no process more. Each other node gets a small actor that
does. Both go by names and locks, so that two planes share the endpoints, and one takes over from the other.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from penstock.config import Settings
from penstock.observability.exposition import Endpoint

logger = logging.getLogger(__name__)

_INTERVAL_S = 5.0  # three of them are shorter than the minute that a scrape is often apart
_ASK_TIMEOUT_S = 10.0  # of an actor whose process has yet to start
_NAMESPACE = "penstock"


def keep_endpoints(stop: threading.Event, settings: Settings) -> None:
    """Until `stop`: sees to it that each node's metrics are served. Ray must be joined."""
    own = Endpoint(settings.metrics_dir, settings.metrics.host, settings.metrics.port)
    others = OtherNodes(settings)
    while True:
        try:
            own.ensure()
            others.ensure()
        except (RayError, OSError, ValueError) as exc:  # ValueError: Ray's for a name that is just being taken
            logger.warning("the metrics endpoints are looked after again in %.0f s: %s", _INTERVAL_S, exc)
        if stop.wait(_INTERVAL_S):
            own.close()
            return


class OtherNodes:
    """An actor on each node but this process's own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._actors: dict[str, Any] = {}

    def ensure(self) -> None:
        here = ray.get_runtime_context().get_node_id()
        alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]} - {here}  # type: ignore[no-untyped-call]
        self._actors = {node: self._actors.get(node) or self._spawn(node) for node in alive}
        asked = {node: actor.ensure.remote() for node, actor in self._actors.items()}
        for node, answer in asked.items():
            try:
                ray.get(answer, timeout=_ASK_TIMEOUT_S)
            except RayError as exc:
                logger.warning("the metrics endpoint of node %s is made anew: %s", node, str(exc).partition("\n")[0])
                del self._actors[node]

    def _spawn(self, node: str) -> Any:
        """The node's actor: another plane's, if that was quicker."""
        metrics = self._settings.metrics
        options = {
            "name": f"penstock-metrics-{node}",
            "namespace": _NAMESPACE,
            "get_if_exists": True,
            "num_cpus": 0,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False),
        }
        return ray.remote(Endpoint).options(**options).remote(self._settings.metrics_dir, metrics.host, metrics.port)
