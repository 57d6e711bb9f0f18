"""Maintains a metrics endpoint on every node of the Ray cluster, as nodes come and go. Each plane's driver runs it.

The driver serves its own node without a further process; each other node gets a small actor. Names and locks let two
planes share the endpoints, and let either take over from the other.
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

_INTERVAL_S = 5.0  # several attempts between two scrapes, which are often a minute apart
_CALL_TIMEOUT_S = 10.0  # enough for an actor whose process has yet to start
_NAMESPACE = "penstock"


def keep_endpoints(stop: threading.Event, settings: Settings) -> None:
    """Maintains the endpoints of all nodes until `stop` is set. Ray must be initialised."""
    own = Endpoint(settings.metrics_dir, settings.metrics.host, settings.metrics.port)
    others = OtherNodes(settings)
    while True:
        try:
            own.ensure()
            others.ensure()
        except (RayError, OSError, ValueError) as exc:  # ValueError: Ray raises it for a name that is being taken
            logger.warning("metrics endpoints: next check in %.0f s after an error: %s", _INTERVAL_S, exc)
        if stop.wait(_INTERVAL_S):
            own.close()
            return


class OtherNodes:
    """The endpoint actors on all nodes except the one of this process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._actors: dict[str, Any] = {}

    def ensure(self) -> None:
        """Starts missing actors, and makes each serve its node. Actors that fail are replaced at the next call."""
        here = ray.get_runtime_context().get_node_id()
        alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]} - {here}  # type: ignore[no-untyped-call]
        self._actors = {node: self._actors.get(node) or self._spawn(node) for node in alive}
        calls = {node: actor.ensure.remote() for node, actor in self._actors.items()}
        for node, call in calls.items():
            try:
                ray.get(call, timeout=_CALL_TIMEOUT_S)
            except RayError as exc:
                logger.warning(
                    "metrics endpoint of node %s failed and is replaced: %s", node, str(exc).partition("\n")[0]
                )
                del self._actors[node]

    def _spawn(self, node: str) -> Any:
        """Returns the actor of a node: a new one, or that of another plane which was quicker."""
        metrics = self._settings.metrics
        options = {
            "name": f"penstock-metrics-{node}",
            "namespace": _NAMESPACE,
            "get_if_exists": True,
            "num_cpus": 0,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False),
        }
        return ray.remote(Endpoint).options(**options).remote(self._settings.metrics_dir, metrics.host, metrics.port)
