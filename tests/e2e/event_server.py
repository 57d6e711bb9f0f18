"""Serves `/v1/events` over a store in memory and the Kafka of the arguments, in a process that a test can kill."""

from __future__ import annotations

import sys
from pathlib import Path

import uvicorn

from penstock.config import Settings
from penstock.serve.app import build_query_plane, create_app
from penstock.store.memory import MemoryStore


def main(port: int, bootstrap_servers: str, folder: str) -> None:
    """Serves until the process ends."""
    settings = Settings(
        profile="null:32",
        data_dir=Path(folder),
        kafka={"bootstrap_servers": bootstrap_servers},  # type: ignore[arg-type]
        ingest={"min_free_disk_bytes": 0},  # type: ignore[arg-type]
    )
    app = create_app(build_query_plane(settings, store=MemoryStore()))
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
