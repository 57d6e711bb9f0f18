"""Serves an index in memory that holds worked examples, each for a tenant of its name."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from penstock.cli.render import say
from penstock.config import FirstPlaceRule, IngestSettings, QuerySettings, Settings
from penstock.errors import UnavailableError
from penstock.processes import free_port
from penstock.records import Modality
from penstock.serve.app import build_query_plane, create_app
from tools.examples.memory_index import MemoryIndex
from tools.examples.readme import data_of

_START_TIMEOUT_S = 30.0


@contextmanager
def serve_examples(folder: Path, names: Sequence[str]) -> Iterator[str]:
    """Indexes examples, and yields the URL of a query plane over them until the block ends.

    Args:
        folder: for the media.
        names: of the examples.
    """
    ingest = IngestSettings(modalities=tuple(Modality), min_free_disk_bytes=0)
    # By shares of the index the first kind would depend on the searches before.
    query = QuerySettings(first_places=FirstPlaceRule.RELEVANCE)
    settings = Settings(profile="reference", data_dir=folder, ingest=ingest, query=query)
    index = MemoryIndex(settings)
    for name in names:
        assets = index.add([str(data_of(name))], tenant=name)
        say(f"{name}: {assets} assets indexed")
    port = free_port()
    plane = build_query_plane(settings, index.store)
    server = uvicorn.Server(uvicorn.Config(create_app(plane), host="127.0.0.1", port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, name="query-plane", daemon=True)
    thread.start()
    _wait_until_started(server, thread)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def _wait_until_started(server: uvicorn.Server, thread: threading.Thread) -> None:
    """Returns once the server answers. Raises UnavailableError if it does not start."""
    waited = threading.Event()
    for _ in range(round(_START_TIMEOUT_S / 0.02)):
        if server.started:
            return
        if not thread.is_alive():
            break
        waited.wait(0.02)
    raise UnavailableError("the query plane of the examples did not start")
