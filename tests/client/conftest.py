"""Clients against a query plane with a store in memory, and against scripted responses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from penstock.broker.memory.broker import MemoryBroker
from penstock.client import PenstockClient
from penstock.config import Settings
from penstock.media.known_good import sample
from penstock.records import AssetRef, Collection, Entry, Modality
from penstock.serve.app import build_query_plane, create_app
from penstock.serve.plane import QueryPlane
from penstock.serve.use_cases.events import EventService
from penstock.serve.use_cases.live import LiveFeed
from penstock.store.memory import MemoryStore
from tests.client.scripted_server import ScriptedServer, scripted_server
from tests.serve.sample_index import PROFILE, entry, fill
from tests.served import served

VIDEO = sample(Modality.VIDEO)


@pytest.fixture(scope="session")
def broker() -> MemoryBroker:
    """Returns the broker that takes events of the query plane."""
    broker = MemoryBroker()
    for topic in ("media.text", "media.image", "media.document"):
        broker.create_topic(topic)
    return broker


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory, broker: MemoryBroker) -> Iterator[QueryPlane]:
    settings = Settings(
        profile=PROFILE.name,
        data_dir=Path(tmp_path_factory.mktemp("plane")),
        ingest={"min_free_disk_bytes": 0},  # type: ignore[arg-type]
        store={"consistency": "Strong"},  # type: ignore[arg-type]
    )
    plane = build_query_plane(settings, store=MemoryStore())
    fill(plane)
    plane.changes.set_available(True)
    ingest = plane.settings.ingest.model_copy(update={"modalities": (Modality.TEXT, Modality.IMAGE, Modality.DOCUMENT)})
    events = EventService(plane.settings.model_copy(update={"ingest": ingest}), broker.producer)
    yield replace(plane, live=LiveFeed(plane.changes, is_followed=True, max_clients=4), events=events)
    events.close()
    plane.close()


@pytest.fixture(scope="session")
def film(plane: QueryPlane) -> Entry:
    """Adds a video, whose bytes are `VIDEO`, and returns its only passage of speech."""
    uri = f"asset:{plane.assets.put(VIDEO)}"  # type: ignore[attr-defined]
    asset = AssetRef("default", "media.video", "film")
    speech = entry(Collection.SPEECH, "", asset=asset, text="a wolf howls", end_ms=2_000, uri=uri, mime="video/mp4")
    plane.store.upsert(Collection.SPEECH, [speech])
    return speech


@pytest.fixture(scope="session")
def url(plane: QueryPlane) -> Iterator[str]:
    with served(create_app(plane)) as running:
        yield running


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as running:
        yield running


@pytest.fixture
def waits() -> list[float]:
    """The waits of `client`, seconds, which take no time."""
    return []


@pytest.fixture
def client(server: ScriptedServer, waits: list[float]) -> Iterator[PenstockClient]:
    with PenstockClient(server.url, tenant="acme", sleep=waits.append) as opened:
        yield opened
