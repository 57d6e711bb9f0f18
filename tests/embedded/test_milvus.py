"""Tests the server of Milvus Lite as `penstock up` runs it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import psutil
import pytest

from penstock.config import StoreSettings
from penstock.embedded import milvus as embedded
from penstock.embedded.milvus import EmbeddedMilvus
from penstock.errors import ConfigError
from penstock.records import Collection
from penstock.store.milvus.store import MilvusStore
from tests.store.builders import asset, entry, spec
from tests.store.scans import all_entries
from tests.store.servers import LiteServer, milvus_lite_server

DIM = 256
WIDE = np.full(DIM, 1 / 16, dtype=np.float32)  # L2-normalised; wide rows keep the server's workers in each other's way


def fill(uri: str, writer: int, *, rounds: int, batch: int, together: threading.Barrier | None = None) -> None:
    """Acknowledged upserts of `rounds` × `batch` entries, begun when all writers are ready."""
    store = MilvusStore(StoreSettings(uri=uri))
    store.ensure(spec(dim=DIM))
    if together is not None:
        together.wait()
    for number in range(rounds):
        keys = [f"{writer}-{number * batch + n}" for n in range(batch)]
        store.upsert(Collection.IMAGE, [entry(asset(key=key), joint=WIDE) for key in keys])
    store.close()


@pytest.mark.services
@pytest.mark.exhaustive
def test_overlapping_writes_and_a_kill_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four writers upsert into one collection concurrently; the server is killed when the last one is acknowledged.

    With ten workers, Milvus Lite's default, it loses rows. All are still in its log: with the small memtable most are
    in files.
    """
    monkeypatch.setattr(embedded, "MEMTABLE_BYTES", 128 * 1024 * 1024)
    writers, rounds, batch = 4, 40, 100
    failures: list[BaseException] = []
    together = threading.Barrier(writers)

    def write(writer: int) -> None:
        try:
            fill(server.uri, writer, rounds=rounds, batch=batch, together=together)
        except BaseException as exc:
            failures.append(exc)
            together.abort()

    with milvus_lite_server() as server:
        threads = [threading.Thread(target=write, args=(writer,)) for writer in range(writers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        server.kill()
        server.restart()
        store = MilvusStore(StoreSettings(uri=server.uri))
        store.ensure(spec(dim=DIM))
        assert store.count(Collection.IMAGE) == writers * rounds * batch
        keys = {stored.asset.key for stored in all_entries(store, Collection.IMAGE)}
        assert keys == {f"{writer}-{n}" for writer in range(writers) for n in range(rounds * batch)}
        store.close()


@pytest.mark.services
def test_an_orderly_stop_keeps_everything(tmp_path: Path) -> None:
    with EmbeddedMilvus(tmp_path / "milvus") as server:
        fill(server.start(), 0, rounds=1, batch=10)
        server.stop()
        assert not server.alive
        store = MilvusStore(StoreSettings(uri=server.start()))
        store.ensure(spec(dim=DIM))
        assert store.count(Collection.IMAGE) == 10
        store.close()


@pytest.mark.services
def test_the_server_listens_on_loopback_only(lite: LiteServer) -> None:
    assert lite.pid is not None
    connections = psutil.Process(lite.pid).net_connections("tcp")
    listening = [bound for bound in connections if bound.status == psutil.CONN_LISTEN]
    # IPv4, as IPv6 writes it
    assert {bound.laddr.ip.removeprefix("::ffff:") for bound in listening} == {"127.0.0.1"}


def test_a_port_in_use_gives_a_message_of_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"^port {port} for Milvus Lite is in use.*$"):
            EmbeddedMilvus(tmp_path / "milvus").start(port)


@pytest.mark.services
def test_the_server_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from penstock.embedded.milvus import EmbeddedMilvus\n"
        "server = EmbeddedMilvus(Path(sys.argv[1])); server.start(); print(server.pid, flush=True); sys.stdin.read()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "milvus")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert parent.stdout is not None
    server = psutil.Process(int(parent.stdout.readline()))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    _ended, alive = psutil.wait_procs([server], timeout=10)
    assert not alive
