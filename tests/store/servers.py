"""Real stores for tests, on free ports and in folders of their own, gone afterwards, come what may."""

from __future__ import annotations

import os
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from pymilvus import MilvusClient

from penstock.embedded.milvus import EmbeddedMilvus
from penstock.processes import Child, free_port

ETCD = """\
name: default
listen-client-urls: http://127.0.0.1:{client}
advertise-client-urls: http://127.0.0.1:{client}
listen-peer-urls: http://127.0.0.1:{peer}
initial-advertise-peer-urls: http://127.0.0.1:{peer}
initial-cluster: default=http://127.0.0.1:{peer}
"""


class LiteServer(EmbeddedMilvus):
    """Milvus Lite's server; `restart` finds the same port again."""

    def restart(self) -> None:
        self.start(int(self.uri.rpartition(":")[2]))


class Standalone:
    """A real Milvus 2.3.5 with etcd inside: PyPI's `milvus`, less its starter, whose server outlives a killed parent.

    Args:
        folder: for binary (400 MB), configuration, data and logs.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._health = 0
        self._child: Child | None = None
        self.uri = ""

    def start(self) -> str:
        """Returns its URI when it answers: 8 s on two idle cores."""
        if not self.uri:
            self._configure()
        self.restart()
        return self.uri

    def restart(self) -> None:
        """Starts it again after `stop` or `kill`, on the same ports and data."""
        binaries = self._folder / "bin"
        env = {
            **os.environ,
            "DEPLOY_MODE": "STANDALONE",
            "METRICS_PORT": str(self._health),
            "MILVUS_RUN_DIR": str(self._folder / "run"),
            "ETCD_CONFIG_PATH": str(self._folder / "configs" / "etcd.yaml"),  # Milvus's setting etcd.config.path
            "LD_LIBRARY_PATH": str(binaries),
        }
        # It reads configs/milvus.yaml of its working folder.
        command = ["env", "-C", str(self._folder), str(binaries / "milvus"), "run", "standalone"]
        self._child = Child("Milvus 2.3.5", command, log=self._folder / "logs" / "run.log", env=env)
        self._child.wait_until(self._healthy, timeout_s=120)

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    def stop(self) -> None:
        """Ends it as an operator would. No error if it does not run."""
        child, self._child = self._child, None
        if child is not None:
            child.stop()

    def kill(self) -> None:
        """SIGKILL. No error if it does not run."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()

    def wait_for_index(self, collection: str, field: str, entries: int, *, timeout_s: float) -> None:
        """Flushes the collection whose name starts so, and waits until its index holds this many entries."""
        client = MilvusClient(self.uri)
        (name,) = (name for name in client.list_collections() if name.startswith(collection))
        client.flush(name)
        deadline_s = time.monotonic() + timeout_s
        while True:
            state = client.describe_index(name, field)
            if int(state["pending_index_rows"]) == 0 and int(state["indexed_rows"]) >= entries:
                break
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"Milvus has not indexed {entries:,} entries within {timeout_s:.0f} s: {state}")
            time.sleep(0.5)
        client.close()

    def _configure(self) -> None:
        """Unpacks the binary and writes the configuration, as the package does before it starts the server."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import milvus

            config = milvus.MilvusServerConfig(data_dir=str(self._folder))
            ports = {name: free_port() for name in config.configurable_items if name.endswith("_port")}
            config.update(**ports)
            config.resolve()
            milvus._initialize_data_files(str(self._folder))
        etcd = ETCD.format(client=ports["etcd_port"], peer=free_port())
        (self._folder / "configs" / "etcd.yaml").write_text(etcd)
        self.uri, self._health = f"http://127.0.0.1:{ports['proxy_port']}", free_port()

    def _healthy(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self._health}/healthz", timeout=1.0).text.strip() == "OK"
        except httpx.HTTPError:
            return False


@contextmanager
def milvus_lite_server() -> Iterator[LiteServer]:
    """A running Milvus Lite that the test may kill and restart."""
    with tempfile.TemporaryDirectory(prefix="penstock-lite-", ignore_cleanup_errors=True) as folder:
        server = LiteServer(Path(folder) / "data")
        try:
            server.start()
            yield server
        finally:
            server.kill()


@contextmanager
def milvus_standalone() -> Iterator[Standalone]:
    """A running Milvus 2.3.5 that the test may kill and restart."""
    with tempfile.TemporaryDirectory(prefix="penstock-milvus-", ignore_cleanup_errors=True) as folder:
        server = Standalone(Path(folder))
        try:
            server.start()
            yield server
        finally:
            server.kill()
