"""Maintains a metrics endpoint on every node of the Ray cluster, as nodes and drivers come and go.

    one node        the drivers of the planes serve it, and take over from each other
    several nodes   each has a small actor of its own, which no driver owns, so that it outlives all of them
    quiet nodes     lose their actor, except the head's: Ray's autoscaler never takes a node away that has an actor
    processes       start the actor of their node if nothing serves it: workers, and replicas (RayService has no driver)

A lock on the node decides which process serves; the others wait for it. Names let two planes share the actors. A name
has a hash of the version and of what its actor was given: a process that starts with others ends the actors of before,
and the one that started last decides.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import ray
from ray import ObjectRef
from ray.actor import ActorHandle
from ray.exceptions import RayError
from ray.util import list_named_actors
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from penstock import __version__
from penstock.config import LogSettings, MetricsSettings, Settings
from penstock.observability.exposition import endpoint_of, is_counting, is_served
from penstock.observability.logs import configure

logger = logging.getLogger(__name__)

_INTERVAL_S = 5.0  # several attempts between two scrapes, which are often a minute apart
_TAKE_OVER_S = 2.0  # between two attempts of an actor to serve, so that a node is without an endpoint for no longer
# How long a node without processes is served: by order of a driver, and without one, which may be back soon.
_QUIET_S = 30.0
_QUIET_WITHOUT_DRIVER_S = 300.0
_CALL_TIMEOUT_S = 10.0  # enough for an actor whose process has yet to start
_NAMESPACE = "penstock"
_PREFIX = "penstock-metrics-"
_HEAD = "node:__internal_head__"  # the resource of the head's node


def keep_endpoints(stop: threading.Event, settings: Settings) -> None:
    """Maintains the endpoints of all nodes until `stop` is set. Those of other nodes once Ray is initialised."""
    own = endpoint_of(settings.metrics_dir, settings.metrics)
    actors = NodeActors(settings)
    while True:
        try:
            own.ensure()
            if ray.is_initialized():
                actors.ensure()
        except (RayError, OSError, ValueError) as exc:  # ValueError: Ray raises it for a name that is being taken
            logger.warning("metrics endpoints: next check in %.0f s after an error: %s", _INTERVAL_S, exc)
        if stop.wait(_INTERVAL_S):
            own.close()
            return


def start_keeping(settings: Settings, *, has_driver: bool) -> None:
    """Starts the thread of `keep_own_endpoint` in an actor, for as long as it lives. Without metrics there is none."""
    if settings.metrics.enabled:
        keep = partial(keep_own_endpoint, threading.Event(), settings, has_driver=has_driver)
        threading.Thread(target=keep, name="endpoint", daemon=True).start()


def keep_own_endpoint(stop: threading.Event, settings: Settings, *, has_driver: bool = False) -> None:
    """Starts the actor of this node where nothing serves it, until `stop` is set. For actors such as replicas.

    The first check is late: a driver on this node that is starting begins to serve by itself. The actors of other
    settings or another version are ended, unless there `has_driver`, which does that for all nodes.
    """
    node = ray.get_runtime_context().get_node_id()
    replaced = has_driver
    while not stop.wait(_INTERVAL_S):
        try:
            if not replaced:
                _end_others(settings, lambda of: of == node)
                replaced = True
            if not is_served(settings.metrics_dir) and not (has_driver and len(_living_nodes()) == 1):
                ray.get(_url_of(spawn_node_actor(settings, node)), timeout=_CALL_TIMEOUT_S)
        except (RayError, OSError, ValueError) as exc:
            logger.warning("metrics endpoint: next check in %.0f s after an error: %s", _INTERVAL_S, exc)


class NodeActors:
    """The endpoint actors of all nodes. A cluster of one node has none: its drivers serve without another process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._actors: dict[str, ActorHandle[NodeActor]] = {}
        self._quiet: set[str] = set()
        self._replaced = False

    def ensure(self) -> None:
        """Starts missing actors, and ends those of quiet nodes. Those that fail are replaced at the next call.

        The first call ends those of other settings or another version. Later ones leave a node to such an actor: it is
        that of a process that started after this one. A quiet node gets its actor back from its first process.
        """
        if not self._replaced:
            _end_others(self._settings, lambda _: True)
            self._replaced = True
        alive = _living_nodes()
        if len(alive) == 1 and not self._actors:
            return
        ours, others = _by_owner(self._settings)
        self._quiet = (self._quiet & alive) - set(ours.values())
        missing = alive - self._actors.keys() - set(others.values()) - self._quiet
        self._actors = {node: actor for node, actor in self._actors.items() if node in alive}
        self._actors |= {node: spawn_node_actor(self._settings, node) for node in missing}
        self._check()

    def _check(self) -> None:
        heads = {node["NodeID"] for node in ray.nodes() if _HEAD in node["Resources"]}  # type: ignore[no-untyped-call]
        calls = {node: _quiet_s_of(actor) for node, actor in self._actors.items()}
        for node, call in calls.items():
            try:
                if ray.get(call, timeout=_CALL_TIMEOUT_S) < _QUIET_S or node in heads:
                    continue
                logger.info("metrics endpoint of node %s ends: nothing counts there", node)
                ray.kill(self._actors[node])
                self._quiet.add(node)
            except RayError as exc:
                logger.warning(
                    "metrics endpoint of node %s failed and is replaced: %s", node, str(exc).partition("\n")[0]
                )
            del self._actors[node]


class NodeActor:
    """The actor of a node: serves its endpoint whenever no other process does, until nothing counts there any more.

    Args:
        directory: `Settings.metrics_dir`, on this node.
        metrics: address and certificate of the endpoint.
        log: settings of the log.
    """

    def __init__(self, directory: Path, metrics: MetricsSettings, log: LogSettings) -> None:
        configure(log, "endpoint")
        self._directory = directory
        self._endpoint = endpoint_of(directory, metrics)
        self._counted_s = time.monotonic()
        self._ensure()
        threading.Thread(target=self._serve, name="endpoint", daemon=True).start()

    def url(self) -> str:
        """Returns the address while this actor serves it, else an empty text."""
        return self._endpoint.url

    def quiet_s(self) -> float:
        """Returns the seconds since a process last counted on this node, or since the start of this actor."""
        return time.monotonic() - self._counted_s

    def _serve(self) -> None:
        while self.quiet_s() < _QUIET_WITHOUT_DRIVER_S:
            time.sleep(_TAKE_OVER_S)
            if is_counting(self._directory):
                self._counted_s = time.monotonic()
            self._ensure()
        ray.kill(ray.get_runtime_context().current_actor)  # and so not restarted

    def _ensure(self) -> None:
        try:
            self._endpoint.ensure()
        except OSError as exc:
            logger.warning("metrics endpoint: next check in %.0f s after an error: %s", _TAKE_OVER_S, exc)


def actor_name(settings: Settings, node: str) -> str:
    """Returns the name of a node's actor of this version and of these settings."""
    given = (__version__, str(settings.metrics_dir), settings.metrics.model_dump_json(), settings.log.model_dump_json())
    return f"{_PREFIX}{blake2b(repr(given).encode(), digest_size=4).hexdigest()}-{node}"


def _living_nodes() -> set[str]:
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}  # type: ignore[no-untyped-call]


def _by_owner(settings: Settings) -> tuple[dict[str, str], dict[str, str]]:
    """Returns the nodes of the actors of these settings, and of other ones or another version, by name."""
    named = [actor["name"] for actor in list_named_actors(all_namespaces=True) if actor["namespace"] == _NAMESPACE]
    nodes = {name: name.rpartition("-")[2] for name in named if name.startswith(_PREFIX)}
    ours = {name: node for name, node in nodes.items() if name == actor_name(settings, node)}
    return ours, {name: node for name, node in nodes.items() if name not in ours}


def _end_others(settings: Settings, is_meant: Callable[[str], bool]) -> None:
    """Ends the actors of other settings or another version, on the nodes that are meant."""
    for name, node in _by_owner(settings)[1].items():
        if is_meant(node):
            logger.info("metrics endpoint of node %s: the actor of another version or other settings ends", node)
            ray.kill(ray.get_actor(name, namespace=_NAMESPACE))


def spawn_node_actor(settings: Settings, node: str) -> ActorHandle[NodeActor]:
    """Returns the actor of a node: a new one, or that of another process which was quicker.

    It is detached: it ends with its node or its cluster, not with the process that started it.
    """
    options = {
        "name": actor_name(settings, node),
        "namespace": _NAMESPACE,
        "get_if_exists": True,
        "lifetime": "detached",
        "max_restarts": -1,
        "num_cpus": 0,
        "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False),
    }
    remote: Any = ray.remote(NodeActor)
    actor: ActorHandle[NodeActor] = remote.options(**options).remote(
        settings.metrics_dir, settings.metrics, settings.log
    )
    return actor


def _quiet_s_of(actor: ActorHandle[NodeActor]) -> ObjectRef[float]:
    untyped: Any = actor
    quiet_s: ObjectRef[float] = untyped.quiet_s.remote()
    return quiet_s


def _url_of(actor: ActorHandle[NodeActor]) -> ObjectRef[str]:
    untyped: Any = actor
    url: ObjectRef[str] = untyped.url.remote()
    return url
