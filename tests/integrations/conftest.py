"""A query plane over HTTP for programs that use Penstock by an interface of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.config import Settings
from penstock.serve.app import build_query_plane, create_app
from penstock.serve.plane import QueryPlane
from penstock.store.memory import MemoryStore
from tests.serve.sample_index import PROFILE, fill
from tests.served import served


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QueryPlane]:
    settings = Settings(
        profile=PROFILE.name,
        data_dir=Path(tmp_path_factory.mktemp("plane")),
        ingest={"min_free_disk_bytes": 0},  # type: ignore[arg-type]
        store={"consistency": "Strong"},  # type: ignore[arg-type]
    )
    plane = build_query_plane(settings, store=MemoryStore())
    fill(plane)
    yield plane
    plane.close()


@pytest.fixture(scope="session")
def url(plane: QueryPlane) -> Iterator[str]:
    with served(create_app(plane)) as running:
        yield running
