"""Chooses the store that `penstock up` runs by itself: Milvus Lite or a real Milvus.

A data folder keeps the one that it began with.
"""

from __future__ import annotations

from pathlib import Path

from penstock.config import Settings
from penstock.embedded.milvus import EmbeddedMilvus
from penstock.embedded.milvus_standalone import MilvusStandalone
from penstock.embedded.services import EmbeddedServer
from penstock.errors import ConfigError
from penstock.processes import free_port

_FOLDERS = {"lite": "milvus", "milvus": "milvus-standalone"}


def embedded_store(settings: Settings) -> EmbeddedServer:
    """Returns the store, not started. Raises as `check_embedded_store`."""
    check_embedded_store(settings)
    folder = settings.data_dir / _FOLDERS[settings.store.embedded]
    if settings.store.embedded == "milvus":
        standalone = MilvusStandalone(folder)
        return EmbeddedServer(standalone.start, standalone.stop, lambda: standalone.alive)
    lite = EmbeddedMilvus(folder, log=settings.data_dir / "logs" / "milvus.log")
    port = free_port()  # the same after a restart: the planes know it
    return EmbeddedServer(lambda: lite.start(port), lite.stop, lambda: lite.alive)


def check_embedded_store(settings: Settings) -> None:
    """Checks that the index of the data folder is in the store of the settings.

    Raises:
        ConfigError: it is in the other one. Events that were committed would not be indexed again there.
    """
    for name, folder in _FOLDERS.items():
        if name != settings.store.embedded and _has_data(settings.data_dir / folder):
            raise ConfigError(
                f"the index of {settings.data_dir} is in the embedded store {name!r}, and store.embedded is "
                f"{settings.store.embedded!r}, which would be empty: set store.embedded={name}, or start on another "
                "folder with --data-dir and produce again"
            )


def _has_data(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())
