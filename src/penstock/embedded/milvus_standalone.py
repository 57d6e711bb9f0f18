"""Runs a real Milvus of one node, with etcd inside: the store of `penstock up` where `store.embedded` is `milvus`.

It is the binary of PyPI's `milvus`, without that package's own starter, whose server outlives a killed parent.
"""

from __future__ import annotations

import json
import logging
import os
import warnings
from pathlib import Path

import httpx
import psutil

from penstock.errors import ConfigError
from penstock.processes import Child, free_port

logger = logging.getLogger(__name__)

_START_TIMEOUT_S = 120.0  # 8 s on two idle cores, and as much again for unpacking 400 MB
_STOP_TIMEOUT_S = 20.0
_SAME_START_S = 1.0  # the kernel's start times of one process differ by rounding only

_ETCD = """\
name: default
listen-client-urls: http://127.0.0.1:{client}
advertise-client-urls: http://127.0.0.1:{client}
listen-peer-urls: http://127.0.0.1:{peer}
initial-advertise-peer-urls: http://127.0.0.1:{peer}
initial-cluster: default=http://127.0.0.1:{peer}
"""


class MilvusStandalone:
    """One server on one folder. Acknowledged data survive `stop`, and a SIGKILL.

    The kernel ends it with this process (`processes.Child`, on Linux). Where that fails, a file with its process id and
    start time lets the next start end it first: two servers on one folder would destroy the data.

    Attributes:
        uri: address of the server; empty before the first start.

    Args:
        folder: for the binary (400 MB), configuration, data and logs; created if missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._health_port = 0
        self._child: Child | None = None
        self.uri = ""

    def start(self) -> str:
        """Returns its URI once it answers. After `stop` or `kill` it has the same ports and data.

        Raises:
            ConfigError: `penstock[milvus]` is not installed.
            UnavailableError: it ended or did not answer in time; the message quotes its log.
        """
        if not self.uri:
            self._configure()
        end_leftover(self._pid_file)
        binaries = self._folder / "bin"
        env = {
            **os.environ,
            "DEPLOY_MODE": "STANDALONE",
            "METRICS_PORT": str(self._health_port),
            "MILVUS_RUN_DIR": str(self._folder / "run"),
            "ETCD_CONFIG_PATH": str(self._folder / "configs" / "etcd.yaml"),  # Milvus's setting etcd.config.path
            "LD_LIBRARY_PATH": str(binaries),
        }
        # It reads configs/milvus.yaml of its working folder.
        command = ["env", "-C", str(self._folder), str(binaries / "milvus"), "run", "standalone"]
        self._child = Child("Milvus 2.3.5", command, log=self._folder / "logs" / "run.log", env=env)
        record_process(self._pid_file, self._child.pid)
        try:
            self._child.wait_until(self._is_healthy, timeout_s=_START_TIMEOUT_S)
        except BaseException:
            self.stop()
            raise
        return self.uri

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._child is not None and self._child.alive

    @property
    def pid(self) -> int | None:
        """The process id; None if the server is not started."""
        return self._child.pid if self._child else None

    def stop(self) -> None:
        """Ends it in order. No error if it does not run."""
        child, self._child = self._child, None
        if child is not None:
            child.stop(timeout_s=_STOP_TIMEOUT_S)
            self._pid_file.unlink(missing_ok=True)

    def kill(self) -> None:
        """Sends SIGKILL, for tests of crashes. No error if it does not run."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()

    @property
    def _pid_file(self) -> Path:
        return self._folder / "process.json"

    def _configure(self) -> None:
        """Unpacks the binary and writes the configuration, as the package does before it starts the server."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                import milvus
            except ImportError as exc:
                raise ConfigError(
                    "store.embedded is milvus, which needs `pip install 'penstock[milvus]'` and Linux on x86-64; use "
                    "store.embedded=lite, or a Milvus of your own with store.uri"
                ) from exc
            self._folder.mkdir(parents=True, exist_ok=True)
            config = milvus.MilvusServerConfig(data_dir=str(self._folder))
            ports = {name: free_port() for name in config.configurable_items if name.endswith("_port")}
            config.update(**ports)
            config.resolve()
            milvus._initialize_data_files(str(self._folder))
        etcd = _ETCD.format(client=ports["etcd_port"], peer=free_port())
        (self._folder / "configs" / "etcd.yaml").write_text(etcd)
        self.uri, self._health_port = f"http://127.0.0.1:{ports['proxy_port']}", free_port()

    def _is_healthy(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self._health_port}/healthz", timeout=1.0).text.strip() == "OK"
        except httpx.HTTPError:
            return False


def record_process(pid_file: Path, pid: int) -> None:
    """Writes a process's id and start time, by which `end_leftover` recognises it."""
    try:
        started_s = psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:  # it ended already; the start reports why
        return
    pid_file.write_text(json.dumps({"pid": pid, "started_s": started_s}))


def end_leftover(pid_file: Path) -> bool:
    """Ends the process that a file names, if it still runs; returns whether it did. Removes the file.

    Another process that has the same id by now started at another time, and is left alone.
    """
    try:
        recorded = json.loads(pid_file.read_text())
        process = psutil.Process(recorded["pid"])
        is_same = abs(process.create_time() - recorded["started_s"]) < _SAME_START_S
    except (OSError, ValueError, KeyError, TypeError, psutil.NoSuchProcess):
        is_same = False
    pid_file.unlink(missing_ok=True)
    if not is_same:
        return False
    logger.warning("Milvus of a former start still runs (pid %d) and is ended first", process.pid)
    try:
        process.terminate()
        process.wait(_STOP_TIMEOUT_S)
    except psutil.TimeoutExpired:
        process.kill()
        process.wait()
    except psutil.NoSuchProcess:
        pass
    return True
