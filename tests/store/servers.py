"""Real stores for tests, on free ports and in folders of their own, gone afterwards, come what may."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pymilvus import MilvusClient

from penstock.embedded.milvus import EmbeddedMilvus
from penstock.embedded.milvus_standalone import MilvusStandalone


class LiteServer(EmbeddedMilvus):
    """Milvus Lite's server; `restart` finds the same port again."""

    def restart(self) -> None:
        self.start(int(self.uri.rpartition(":")[2]))


class Standalone(MilvusStandalone):
    """A real Milvus 2.3.5 with etcd inside; `restart` finds the same ports and data again."""

    def restart(self) -> None:
        self.start()

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
