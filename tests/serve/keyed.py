"""A query plane that demands API keys, over the small index, for tests of permissions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from penstock.auth import Permission
from penstock.auth.keys import new_key, write_keys
from penstock.config import Settings
from penstock.serve.app import build_query_plane
from penstock.serve.plane import QueryPlane
from penstock.store.memory import MemoryStore
from tests.auth.test_keys import api_key
from tests.serve.sample_index import PROFILE, fill


@contextmanager
def keyed_plane(folder: Path, keys: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[QueryPlane, dict[str, str]]]:
    """Yields a query plane, and the texts of its API keys by their ids.

    Args:
        folder: for its data.
        keys: what each key has, other than a key of tenant acme that searches.
    """
    texts = {name: new_key(name) for name in keys}
    write_keys(folder / "keys.json", tuple(api_key(texts[name], **changes) for name, changes in keys.items()))
    settings = Settings(
        profile=PROFILE.name,
        data_dir=folder,
        auth={"mode": "keys"},  # type: ignore[arg-type]
        query={"max_image_bytes": 4096, "max_audio_bytes": 100_000},  # type: ignore[arg-type]
        ingest={"min_free_disk_bytes": 0},  # type: ignore[arg-type]
        store={"consistency": "Strong"},  # type: ignore[arg-type]
    )
    plane = build_query_plane(settings, store=MemoryStore())
    fill(plane)
    yield plane, texts
    plane.close()


def key_of(permissions: Iterable[Permission]) -> dict[str, Any]:
    """Returns what a key of tenant acme has that does this."""
    return {"permissions": tuple(permissions)}
