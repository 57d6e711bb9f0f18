"""Media in S3 outlive the pods that stored them, with all their folders."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import fsspec
import httpx
import pytest

from penstock.config import Settings
from penstock.serve.app import build_query_plane, create_app
from tests.faults.check import check
from tests.faults.cluster import cluster, services, settle, start_driver
from tests.faults.stream import Draft, Stream
from tests.services import s3_server

pytestmark = [pytest.mark.operate, pytest.mark.timeout(900)]

_MEDIA = 500


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    with s3_server() as environment, services(tmp_path) as settings:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        fsspec.filesystem("s3", skip_instance_cache=True).mkdir("media")
        assets = settings.assets.model_copy(update={"url": "s3://media/penstock"})
        (key_file := tmp_path / "replay.key").write_text("k" * 40)  # of all pods, whose data folders are their own
        replay = settings.replay.model_copy(update={"key_file": key_file})
        yield settings.model_copy(update={"assets": assets, "replay": replay})


def ingest(settings: Settings, stream: Stream, drafts: Sequence[Draft], folder: Path) -> None:
    """Sends events to a plane of pods of its own, which are killed once everything is settled."""
    folder.mkdir()
    settings.data_dir.mkdir()
    with cluster(folder, None) as pods:
        pods.head()
        pods.worker("worker", cpus=8, own_folder=settings.data_dir)
        start_driver(pods, settings, "driver")
        stream.send_these(drafts)
        settle(stream)
        check(stream)


def served(settings: Settings, names: Sequence[str]) -> Sequence[str]:
    """Returns the hashes of what a query plane serves by these names."""
    plane = build_query_plane(settings)

    async def read() -> list[str]:
        transport = httpx.ASGITransport(create_app(plane))
        async with httpx.AsyncClient(transport=transport, base_url="http://penstock", timeout=60) as client:
            answers = [await client.get(f"/v1/media/{name}") for name in names]
        return [hashlib.sha256(answer.raise_for_status().content).hexdigest() for answer in answers]

    try:
        return asyncio.run(read())
    finally:
        plane.close()


def test_media_of_pods_that_are_gone_are_served_and_their_events_processed_again(
    settings: Settings, tmp_path: Path
) -> None:
    stream = Stream(settings)
    drafts = [stream.image(f"image-{number}") for number in range(_MEDIA)]
    ingest(settings, stream, drafts, tmp_path / "first")
    shutil.rmtree(settings.data_dir)
    names = [hashlib.sha256(draft.message.value or b"").hexdigest() for draft in drafts]
    elsewhere = settings.model_copy(update={"data_dir": tmp_path / "elsewhere"})
    assert served(elsewhere, names) == names

    again = elsewhere.model_copy(
        update={
            "data_dir": tmp_path / "again",
            "kafka": settings.kafka.model_copy(update={"group": "again"}),
        }
    )
    stream.settings = again
    ingest(again, stream, [stream.image("image-0")], tmp_path / "second")
