"""A local Ray of one node, for `penstock up`. Run as a module (`python -m penstock.embedded.ray`), it is the head.

The head has a process of its own, so that the supervisor stays small and a Ray that fails affects nothing else.
Ray's processes share its fate (PDEATHSIG, which Ray itself sets), and it shares its parent's (`processes.Child`).

Everything listens on loopback (except for one port of Serve's replicas, which Serve binds to every interface), and
requires a token that only this user can read: on a shared machine no other user can run code here.
"""

from __future__ import annotations

import argparse
import logging
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.cpus import usable_cpus
from penstock.errors import ConfigError, UnavailableError
from penstock.processes import Child, free_port

if TYPE_CHECKING:
    from ray._private.node import Node

logger = logging.getLogger(__name__)

_START_TIMEOUT_S = 120.0  # 9 s on two idle cores, 22 s on two busy ones
_TRIES = 3  # Ray gives its own node 30 s, without a setting for it; on a machine under load that is too little at times
_MIB = 1024 * 1024
# A Unix socket's path has at most 107 bytes (Linux, sys/un.h); Ray adds up to 75 to its temporary folder.
_MAX_TEMP_DIR_BYTES = 30


class EmbeddedRay:
    """A Ray head that this process owns: it ends when this process ends, however that happens.

    Args:
        data_dir: where the token and the log are kept. Sessions and their sockets go to a short temporary folder, which
            is the same for the same data folder and removed at `stop`.
        min_cpus: CPUs that Ray is configured with, on a machine with fewer.
    """

    def __init__(self, data_dir: Path, *, min_cpus: int = 2) -> None:
        self._data_dir = data_dir
        self._min_cpus = min_cpus
        self._child: Child | None = None

    @property
    def log(self) -> Path:
        """The log file of the head and its processes."""
        return self._data_dir / "logs" / "ray.log"

    @property
    def pid(self) -> int | None:
        """The process id of the head; None unless it runs."""
        return self._child.pid if self._child is not None and self._child.alive else None

    @property
    def temp_dir(self) -> Path:
        """The folder of sessions and sockets."""
        return _temp_dir(self._data_dir)

    def start(self) -> str:
        """Starts the head and returns its address once drivers can connect. The log of the run before is replaced.

        Raises:
            UnavailableError: it did not come up (quotes its log).
            ConfigError: the temporary folder belongs to another user.
        """
        self.log.unlink(missing_ok=True)
        for _ in range(_TRIES - 1):
            try:
                return self._start()
            except UnavailableError as exc:
                logger.warning("%s Trying again.", exc)
        return self._start()

    def stop(self) -> None:
        """Stops the head and removes its temporary folder. No error if it does not run."""
        child, self._child = self._child, None
        if child is not None:
            child.stop(timeout_s=20.0)
        shutil.rmtree(self.temp_dir, ignore_errors=True)

    def _start(self) -> str:
        _create_empty(self.temp_dir)
        address_file = self.temp_dir / "address"
        cpus = max(self._min_cpus, usable_cpus())
        command = [sys.executable, "-m", "penstock.embedded.ray", str(self.temp_dir), str(address_file), str(cpus)]
        environment = {**os.environ, **ray_environment(self._data_dir), **_own_ports()}
        self._child = Child("the embedded Ray", command, log=self.log, env=environment)
        try:
            self._child.wait_until(address_file.exists, timeout_s=_START_TIMEOUT_S)
        except BaseException:
            self.stop()
            raise
        return address_file.read_text()


def ray_environment(data_dir: Path) -> Mapping[str, str]:
    """Returns the variables that the head and every driver of the embedded Ray need before Ray is imported."""
    token = data_dir / "ray-token"
    if not token.exists():
        data_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(token, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as sink:
            sink.write(secrets.token_hex(32))
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        # Ray turns 127.0.0.1 into the machine's outer address, and then listens on all of them, unless this
        # variable declares a machine without clusters. The name is historical; it is read on every platform.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        # Serve kills and remakes a proxy that is not ready after 5 s; two cores that load models are slower.
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
        "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "60",
        # Bounds of what clients send to Serve's proxy, which reads this variable when it starts (`serve/proxy.py`).
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "penstock.serve.proxy.middlewares",
        # How often Serve's controller looks at one deployment that hardly ever changes: at Ray's 0.1 s that takes 2.3 %
        # of a core (0.23 s in 10 s measured).
        "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.5",
    }


def _own_ports() -> Mapping[str, str]:
    """Returns free ports for Ray's helpers, whose default ports a second Ray on this machine would use too."""
    return {"AUTOSCALER_METRIC_PORT": str(free_port()), "DASHBOARD_METRIC_PORT": str(free_port())}


def _temp_dir(data_dir: Path) -> Path:
    base = tempfile.gettempdir()
    if len(os.fsencode(base)) > _MAX_TEMP_DIR_BYTES - len("/penstock-12345678"):
        base = "/tmp"
    name = blake2b(os.fsencode(data_dir.absolute()), digest_size=4).hexdigest()
    return Path(base) / f"penstock-{name}"


def _create_empty(folder: Path) -> None:
    """Creates an empty folder. What a killed run left there is removed; the lock on data_dir keeps others out."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError as exc:
        raise ConfigError(f"{folder} belongs to another user; remove it, or choose another data folder") from exc


# --- the head's own process ------------------------------------------------------------------------------------------


def _object_store_bytes() -> int:
    """Returns an eighth of the memory, 256 MiB to 2 GiB.

    Ray's own 30 % is too much on a machine with 4 GB and a broker.
    """
    import psutil

    total: int = psutil.virtual_memory().total
    return min(max(total // 8, 256 * _MIB), 2048 * _MIB)


def _kill_group_at_exit() -> None:
    """Starts a watcher that kills the rest of this process group when this process ends.

    Most of Ray's processes end with it immediately. Two agents of the raylet do not: they notice that it is gone, and
    then try for more than a minute to report so to a head that is gone too. The watcher waits for the end of a pipe
    that only this process holds open, in a session of its own.
    """
    read_end, _write_end = os.pipe()  # the write end stays open until this process ends
    watcher = ["/bin/sh", "-c", 'read -r _; kill -s KILL -- "-$1"', "sh", str(os.getpgrp())]
    subprocess.Popen(
        watcher, stdin=read_end, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    os.close(read_end)


def main() -> None:
    """Runs the head until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("temp_dir", type=Path)
    parser.add_argument("address_file", type=Path)
    parser.add_argument("cpus", type=int)
    arguments = parser.parse_args()

    _kill_group_at_exit()
    node = _start_node(arguments.temp_dir, arguments.cpus)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    temporary = arguments.address_file.with_suffix(".tmp")
    temporary.write_text(node.gcs_address)
    temporary.replace(arguments.address_file)
    stop.wait()
    node.kill_all_processes(check_alive=False, allow_graceful=True)


def _start_node(temp_dir: Path, cpus: int) -> Node:
    """Starts Ray's processes as `ray start --head` does, without two that nothing here needs.

    These are the autoscaler's monitor, as there is one node, and the log monitor, which sends the logs of actors to
    drivers that ask for them; together they hold 100 MB. `ray.init` cannot leave them out, and would make this process
    a driver too.
    """
    from ray._private.node import Node
    from ray._private.parameter import RayParams

    parameters = RayParams(
        node_ip_address="127.0.0.1",
        num_cpus=cpus,
        object_store_memory=_object_store_bytes(),
        include_dashboard=False,
        include_log_monitor=False,  # type: ignore[arg-type]  # Ray annotates its flag as text
        no_monitor=True,
        temp_dir=str(temp_dir),
    )
    return Node(parameters, head=True, shutdown_at_exit=False, spawn_reaper=True)


if __name__ == "__main__":
    main()
