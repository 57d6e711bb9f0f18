"""Runs the pods of a namespace by podman, as a kubelet would, and reports how they are.

For each pod that the scheduler bound to a node: a container that holds the network, then init containers one after the
other, then the containers, each with the image, command, variables, volumes, limits and security context of the
manifest. Readiness probes decide what Services find; a container that ends is started again. Not done: liveness probes
restart nothing (`failing_probes` lists them), and no container reaches the API server.

Pods start one at a time, heads of Ray before workers and these before others: `ray start` gives up after 30 s, which
is too short for two cores that start six nodes concurrently.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.operate.containers import LIMITS, podman
from tests.operate.control_plane import Cluster
from tests.operate.network import Network
from tests.operate.pod_files import Manifest, environment, expanded, make_volumes, quantity

_TURN_S = 1.0
_PROBE_S = 3.0
_RESTART_S = 2.0
_HELD_NETWORK = "network"
_MAX_START_S = 90.0
_MAX_ADDRESSES = 20


@dataclass
class _Running:
    """One pod that runs here: its address, its containers by name, and whether it has ended."""

    pod: Manifest
    address: str
    hosts: Path
    volumes: Mapping[str, Path] = field(default_factory=dict)
    containers: dict[str, str] = field(default_factory=dict)
    restarts: dict[str, int] = field(default_factory=dict)
    ready: dict[str, bool] = field(default_factory=dict)
    phase: str = "Pending"
    reported: Manifest = field(default_factory=dict)
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def name(self) -> str:
        """The name of the pod."""
        name: str = self.pod["metadata"]["name"]
        return name

    @property
    def rank(self) -> int:
        """Its place in the order of starts: heads of Ray, workers, and pods that need both."""
        return {"head": 0, "worker": 1}.get(self.pod["metadata"]["labels"].get("ray.io/node-type"), 2)

    @property
    def is_ready(self) -> bool:
        """Whether all of its containers were Ready when they were last probed."""
        return len(self.containers) == len(self.pod["spec"]["containers"]) and all(
            self.ready.get(name) for name in self.containers
        )


class Kubelet:
    """All pods of one namespace."""

    def __init__(self, cluster: Cluster, namespace: str, network: Network, folder: Path, image: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._network = network
        self._folder = folder
        self._image = image
        self._pods: dict[str, _Running] = {}
        self._states: Mapping[str, Manifest] = {}
        self._starts = threading.Semaphore(1)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kubelet", daemon=True)
        self.errors: list[str] = []

    def start(self) -> None:
        """Begins to run pods."""
        self._thread.start()

    def stop(self) -> None:
        """Removes all containers."""
        self._stopping.set()
        self._thread.join()
        for running in self._pods.values():
            running.stop.set()
            self._remove(running)

    def exec(self, pod: str, *command: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[str]:
        """Runs a command in the first container of a pod, as `kubectl exec` does."""
        running = next(running for running in self._pods.values() if running.name == pod)
        container = running.containers[running.pod["spec"]["containers"][0]["name"]]
        options = ("--interactive",) if stdin is not None else ()
        return podman("exec", *options, container, *command, stdin=stdin)

    def logs(self, pod: str, lines: int = 60) -> str:
        """Returns the end of what all containers of a pod wrote."""
        parts = []
        for running in self._pods.values():
            for name, container in running.containers.items():
                if running.name == pod:
                    done = podman("logs", "--tail", str(lines), container)
                    parts.append(f"--- {pod}/{name}\n{done.stdout}{done.stderr}")
        return "\n".join(parts)

    def failing_probes(self, kinds: Sequence[str] = ("livenessProbe", "readinessProbe")) -> list[str]:
        """Returns the probes that do not pass now, with their pod."""
        return [
            f"{running.name}/{container['name']}: {kind} {json.dumps(container[kind])}"
            for running in self._pods.values()
            for container in running.pod["spec"]["containers"]
            for kind in kinds
            if kind in container and not self._passes(running, container, container[kind])
        ]

    # --- the loop ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping.wait(_TURN_S):
            try:
                self._states = _container_states()
                self._write_hosts()
                pods = self._get("api/v1", "pods")["items"]
                for pod in pods:
                    self._see(pod)
                self._forget({pod["metadata"]["uid"] for pod in pods})
            except Exception as exc:  # shown by the test, which waits for pods
                self.errors.append(repr(exc))

    def _see(self, pod: Manifest) -> None:
        uid = pod["metadata"]["uid"]
        running = self._pods.get(uid)
        if running is None:
            if "nodeName" in pod["spec"] and "deletionTimestamp" not in pod["metadata"]:
                address = self._network.take_address()
                self._pods[uid] = running = _Running(pod, address, self._folder / "hosts")
                threading.Thread(target=self._live, args=(running,), daemon=True).start()
            return
        if "deletionTimestamp" in pod["metadata"] and not running.stop.is_set():
            running.stop.set()
            threading.Thread(target=self._end, args=(running,), daemon=True).start()

    def _forget(self, uids: set[str]) -> None:
        for uid in set(self._pods) - uids:
            running = self._pods.pop(uid)
            if not running.stop.is_set():
                running.stop.set()
                self._remove(running)

    def _live(self, running: _Running) -> None:
        try:
            spec = running.pod["spec"]
            running.volumes = make_volumes(running.pod, self._folder / running.name, self._lookup)
            self._hold_network(running)
            self._report(running)
            with self._turn(running):
                for container in spec.get("initContainers", []):
                    while self._start(running, container, wait=True) != 0:
                        if running.stop.wait(_RESTART_S):
                            return
                for container in spec["containers"]:
                    self._start(running, container)
                self._watch(running, until=time.monotonic() + _MAX_START_S)
            self._watch(running)
        except Exception as exc:  # shown by the test, which waits for the pod
            self.errors.append(f"{running.name}: {exc!r}")

    @contextmanager
    def _turn(self, running: _Running) -> Iterator[None]:
        """Waits until no other pod is starting and those of a lower rank are Ready."""
        while not running.stop.is_set():
            if all(other.is_ready for other in list(self._pods.values()) if other.rank < running.rank):
                break
            running.stop.wait(_TURN_S)
        with self._starts:
            yield

    def _watch(self, running: _Running, until: float | None = None) -> None:
        """Probes, restarts and reports, until the pod ends; with `until`, also until that time or until it is Ready."""
        spec = running.pod["spec"]
        next_probe = 0.0
        while not running.stop.is_set() and running.phase not in ("Succeeded", "Failed"):
            if until is not None and (running.is_ready or time.monotonic() > until):
                return
            probes = time.monotonic() >= next_probe
            next_probe = time.monotonic() + _PROBE_S if probes else next_probe
            for container in spec["containers"]:
                name = container["name"]
                state = self._states.get(running.containers[name], {}).get("State")
                if state == "exited" and spec.get("restartPolicy", "Always") == "Always":
                    running.restarts[name] = running.restarts.get(name, 0) + 1
                    running.stop.wait(_RESTART_S)
                    podman("start", running.containers[name])
                probe = container.get("readinessProbe")
                if probes or state != "running":
                    running.ready[name] = state == "running" and (
                        probe is None or self._passes(running, container, probe)
                    )
            self._report(running)
            running.stop.wait(_TURN_S)

    def _end(self, running: _Running) -> None:
        """Ends the containers with the grace that the pod has, then the pod."""
        grace = str(running.pod["spec"].get("terminationGracePeriodSeconds", 30))
        for container in running.containers.values():
            podman("stop", "--time", grace, container)
        self._remove(running)
        self._cluster.kubectl(
            *("-n", self._namespace, "delete", "pod", running.name, "--grace-period=0", "--force", "--ignore-not-found")
        )

    # --- containers -------------------------------------------------------------------------------------------------

    def _hold_network(self, running: _Running) -> None:
        """Starts the container that has the address of the pod. An earlier run may have left addresses reserved."""
        name = f"{running.name}-{_HELD_NETWORK}"
        for _ in range(_MAX_ADDRESSES):
            done = podman(
                *("run", "--detach", "--name", name, *LIMITS, "--network", self._network.name, "--ip", running.address),
                *("--memory", "64m", "--entrypoint", "sleep", self._image, "infinity"),
            )
            if done.returncode == 0:
                running.pod["status"] |= {"podIP": running.address, "hostIP": self._network.gateway}
                return
            podman("rm", "--force", name)
            running.address = self._network.take_address()
        raise RuntimeError(done.stderr)

    def _start(self, running: _Running, container: Manifest, *, wait: bool = False) -> int:
        """Starts a container, and returns its exit status if `wait` says so."""
        name = f"{running.name}-{container['name']}"
        variables = environment(running.pod, container, self._lookup)
        podman("rm", "--force", name)
        words = [expanded(word, variables) for word in (*container.get("command", ()), *container.get("args", ()))]
        entrypoint = ("--entrypoint", json.dumps(words[:1])) if "command" in container else ()
        done = podman(
            *("run", *(() if wait else ("--detach",)), "--name", name, *LIMITS),
            *("--network", f"container:{running.name}-{_HELD_NETWORK}", "--volume", f"{running.hosts}:/etc/hosts:ro"),
            *_security(running.pod, container),
            *_limits(container),
            *(part for key, value in variables.items() for part in ("--env", f"{key}={value}")),
            *(part for mount in container.get("volumeMounts", []) for part in _mount(mount, running.volumes)),
            *(*entrypoint, self._image, *(words[1:] if "command" in container else words)),
        )
        if not wait:
            running.containers[container["name"]] = name
            if done.returncode:
                raise RuntimeError(done.stderr)
        return done.returncode

    def _passes(self, running: _Running, container: Manifest, probe: Manifest) -> bool:
        """Returns whether a probe passes now."""
        timeout = probe.get("timeoutSeconds", 1)
        if "exec" in probe:
            return podman("exec", running.containers[container["name"]], *probe["exec"]["command"]).returncode == 0
        get = probe["httpGet"]
        ports = {port.get("name"): port["containerPort"] for port in container.get("ports", [])}
        port = ports.get(get["port"], get["port"])
        try:
            return httpx.get(f"http://{running.address}:{port}{get.get('path', '/')}", timeout=timeout).is_success
        except httpx.HTTPError:
            return False

    def _remove(self, running: _Running) -> None:
        spec = running.pod["spec"]
        names = [container["name"] for container in (*spec.get("initContainers", []), *spec["containers"])]
        for name in (*names, _HELD_NETWORK):  # the last has the network of the others
            podman("rm", "--force", "--ignore", "--time", "1", f"{running.name}-{name}")

    # --- status and names ------------------------------------------------------------------------------------------

    def _report(self, running: _Running) -> None:
        names = [container["name"] for container in running.pod["spec"]["containers"]]
        states = {name: self._states.get(running.containers.get(name, ""), {}) for name in names}
        started = len(running.containers) == len(names)
        if started and all(state.get("State") == "exited" for state in states.values()):
            if running.pod["spec"].get("restartPolicy") == "Never":
                failed = any(state["ExitCode"] for state in states.values())
                running.phase = "Failed" if failed else "Succeeded"
        elif started:
            running.phase = "Running"
        ready = running.is_ready
        conditions = {"PodScheduled": True, "Initialized": started, "ContainersReady": ready, "Ready": ready}
        status = {
            "phase": running.phase,
            "podIP": running.address,
            "podIPs": [{"ip": running.address}],
            "conditions": [{"type": kind, "status": str(holds)} for kind, holds in conditions.items()],
            "containerStatuses": [_container_status(name, states[name], running) for name in names if started],
        }
        if status != running.reported:
            running.reported = status
            path = f"api/v1/namespaces/{self._namespace}/pods/{running.name}/status"
            merge = {"Content-Type": "application/merge-patch+json"}
            self._cluster.api.patch(path, json={"status": status}, headers=merge)

    def _write_hosts(self) -> None:
        """Writes the names of all Services with the addresses behind them: what a cluster's DNS says."""
        lines = ["127.0.0.1 localhost"]
        for endpoints in self._get("api/v1", "endpoints")["items"]:
            name = f"{endpoints['metadata']['name']}.{self._namespace}"
            names = f"{endpoints['metadata']['name']} {name} {name}.svc {name}.svc.cluster.local"
            for subset in endpoints.get("subsets", []):
                lines += [f"{address['ip']} {names}" for address in subset.get("addresses", [])]
        path = self._folder / "hosts"
        with path.open("r+" if path.exists() else "w", encoding="utf-8") as file:  # in place: it is mounted
            file.write("\n".join(lines) + "\n")
            file.truncate()

    def _lookup(self, kind: str, name: str) -> Manifest:
        return self._get("api/v1", f"{kind}/{name}")

    def _get(self, group: str, path: str) -> Manifest:
        response = self._cluster.api.get(f"{group}/namespaces/{self._namespace}/{path}")
        response.raise_for_status()
        document: Manifest = response.json()
        return document


def _security(pod: Manifest, container: Manifest) -> Sequence[str]:
    security = pod["spec"]["securityContext"] | container.get("securityContext", {})
    options = ["--user", f"{security['runAsUser']}:{security['runAsGroup']}", "--read-only-tmpfs=false"]
    if security.get("readOnlyRootFilesystem"):
        options.append("--read-only")
    for capability in security.get("capabilities", {}).get("drop", []):
        options += ["--cap-drop", capability]
    if security.get("allowPrivilegeEscalation") is False:
        options += ["--security-opt", "no-new-privileges"]
    return options


def _limits(container: Manifest) -> Sequence[str]:
    limits = container.get("resources", {}).get("limits", {})
    options = ["--memory", str(int(quantity(limits["memory"])))] if "memory" in limits else []
    return [*options, "--cpus", str(quantity(limits["cpu"]))] if "cpu" in limits else options


def _mount(mount: Manifest, volumes: Mapping[str, Path]) -> Sequence[str]:
    source = volumes[mount["name"]] / mount.get("subPath", "")
    return ("--volume", f"{source}:{mount['mountPath']}:{'ro' if mount.get('readOnly') else 'rw'}")


def _container_states() -> Mapping[str, Manifest]:
    """Returns State and ExitCode of all containers, by name."""
    listed = json.loads(podman("ps", "--all", "--format", "json").stdout or "[]")
    return {container["Names"][0]: container for container in listed}


def _container_status(name: str, state: Mapping[str, Any], running: _Running) -> Manifest:
    if state.get("State") == "exited":
        ended = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(state["ExitedAt"]))
        now: Manifest = {"terminated": {"exitCode": state["ExitCode"], "finishedAt": ended}}
    else:
        now = {"running": {"startedAt": running.pod["metadata"]["creationTimestamp"]}}
    return {
        "name": name,
        "ready": running.ready.get(name, False),
        "restartCount": running.restarts.get(name, 0),
        "image": "",
        "imageID": "",
        "started": True,
        "state": now,
    }
