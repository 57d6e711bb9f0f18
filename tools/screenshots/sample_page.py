"""Serves the page over an index in memory of samples, which the steps of the ingest plane fill."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import uvicorn
from fastapi import FastAPI

from penstock.config import FirstPlaceRule, IngestSettings, QuerySettings, Settings
from penstock.errors import UnavailableError
from penstock.processes import free_port
from penstock.records import Collection, IndexChange, Modality, Position
from penstock.samples import compose, load_concepts, sample_texts
from penstock.samples.documents import sample_documents
from penstock.samples.timed_media import sample_timed_media
from penstock.serve.app import build_query_plane, create_app
from penstock.serve.plane import QueryPlane
from penstock.serve.use_cases.live import LiveFeed
from tools.examples.memory_index import MemoryIndex

_IMAGE_PX = 320
_START_TIMEOUT_S = 30.0
_MAX_CLIENTS = 8


@dataclass(frozen=True, slots=True)
class SamplePage:
    """A page that is being served.

    Attributes:
        url: where.
        plane: what answers it.
        settings: of the plane.
    """

    url: str
    plane: QueryPlane
    settings: Settings


@contextmanager
def serve_samples(
    folder: Path,
    *,
    texts: Sequence[str] | None,
    images: Sequence[str],
    media: Sequence[str],
    documents: Sequence[str] = (),
    others: Mapping[str, Path] = MappingProxyType({}),
) -> Iterator[SamplePage]:
    """Indexes samples, and yields their page until the block ends.

    Args:
        folder: for the media, and for the files that are sent.
        texts: keys of sample texts; None: all of them.
        images: ids of concepts, each of which is an image.
        media: keys of sample audio and video.
        documents: keys of sample documents.
        others: further files by tenant, as `penstock produce` reads them.
    """
    ingest = IngestSettings(modalities=tuple(Modality), min_free_disk_bytes=0)
    # By shares of the index the first kind would depend on the searches before.
    query = QuerySettings(first_places=FirstPlaceRule.RELEVANCE)
    settings = Settings(profile="reference", data_dir=folder / "data", ingest=ingest, query=query)
    index = MemoryIndex(settings)
    index.add([str(_written(folder, texts, images, media, documents))], tenant=settings.tenant)
    for tenant, path in others.items():
        index.add([str(path)], tenant=tenant)
    plane = build_query_plane(settings, index.store)
    plane.changes.set_available(True)
    plane = replace(plane, live=LiveFeed(plane.changes, is_followed=True, max_clients=_MAX_CLIENTS))
    with served(create_app(plane)) as url:
        yield SamplePage(url, plane, settings)


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """Serves an application on a free port of this machine, and yields its URL until the block ends."""
    port = free_port()
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="query-plane", daemon=True)
    thread.start()
    _wait_until_started(server, thread)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def announce(
    page: SamplePage, collection: Collection, *, topic: str, key: str, fresh_ms: int, age_s: float = 0.0
) -> None:
    """Announces an asset of the index as the change feed does once it is stored."""
    now_ms = time.time_ns() // 1_000_000 - round(age_s * 1000)
    change = IndexChange(
        tenant=page.settings.tenant,
        topic=topic,
        key=key,
        origin=Position(topic, 0, 0),
        deleted=False,
        timestamp_ms=now_ms - fresh_ms,
        indexed_at_ms=now_ms,
        counts={collection: 1},
    )
    page.plane.changes.receive([change])


def _written(
    folder: Path,
    texts: Sequence[str] | None,
    images: Sequence[str],
    media: Sequence[str],
    documents: Sequence[str],
) -> Path:
    """Returns a file that names all samples, as `penstock produce` reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    concepts = {concept.id: concept for concept in load_concepts()}
    rows: list[dict[str, object]] = [
        {"key": f"notes/{text.key}", "title": text.title, "text": text.text}
        for text in sample_texts()
        if texts is None or text.key in texts
    ]
    for seed, name in enumerate(images):
        compose(concepts[name], seed, _IMAGE_PX).save(folder / f"{name}.jpg", quality=90)
        rows.append({"key": f"photos/{name}.jpg", "title": concepts[name].name.capitalize(), "path": f"{name}.jpg"})
    rows += [
        {"key": f"media/{sample.file.name}", "title": sample.title, "path": str(sample.file)}
        for sample in sample_timed_media()
        if sample.key in media
    ]
    rows += [
        {"key": f"documents/{document.file.name}", "title": document.title, "path": str(document.file)}
        for document in sample_documents()
        if document.key in documents
    ]
    path = folder / "samples.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
    return path


def _wait_until_started(server: uvicorn.Server, thread: threading.Thread) -> None:
    """Returns once the server answers. Raises UnavailableError if it does not start."""
    waited = threading.Event()
    for _ in range(round(_START_TIMEOUT_S / 0.02)):
        if server.started:
            return
        if not thread.is_alive():
            break
        waited.wait(0.02)
    raise UnavailableError("the page did not start")
