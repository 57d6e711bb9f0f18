"""The query plane on a real Ray Serve, over a real Milvus Lite."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import ray

from penstock.config import Settings
from penstock.embedded.milvus import EmbeddedMilvus
from penstock.encoders.load import load_encoders, profile_fingerprints
from penstock.encoders.profiles import load_profile
from penstock.errors import ConfigError, UnavailableError
from penstock.records import AssetRef, Collection, EncoderInput, Field, bare_entry
from penstock.serve import deployment
from penstock.store.milvus.store import MilvusStore
from penstock.store.spec import index_spec

PROFILE = load_profile("null:32")
TEXT = "a cat on a mat"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Yields the settings of a store with one text and of a local Ray; both end with the module."""
    folder: Path = tmp_path_factory.mktemp("query")
    with EmbeddedMilvus(folder / "milvus") as server:
        uri = server.start()
        configured = Settings(
            profile=PROFILE.name,
            data_dir=folder,
            store={"uri": uri},  # type: ignore[arg-type]
            query={"port": 0},  # type: ignore[arg-type]
            ingest={"min_free_disk_bytes": 0},  # type: ignore[arg-type]
        )
        fill(configured)
        ray.init("local", num_cpus=2, include_dashboard=False, object_store_memory=100 * 1024**2, log_to_driver=False)
        try:
            yield configured
        finally:
            ray.shutdown()


def fill(settings: Settings) -> None:
    encoders = load_encoders(PROFILE)
    asset = AssetRef("default", "media.text", "cat")
    vectors = {
        field: encoders[role].encode(EncoderInput(role, ("k",), texts=(TEXT,))).vectors[0]
        for field, role in ((Field.PASSAGE, "passage.text"), (Field.JOINT, "joint.text"))
    }
    entry = replace(
        bare_entry(asset, Collection.TEXT),
        title="cat",
        text=TEXT,
        mime="text/plain",
        end_char=len(TEXT),
        vectors=vectors,
    )
    store = MilvusStore(settings.store)
    store.ensure(index_spec(PROFILE, profile_fingerprints(PROFILE), settings.store))
    store.upsert(Collection.TEXT, [entry])
    store.close()


@pytest.mark.services
def test_serve_answers_on_a_free_port_takes_an_update_and_stops(settings: Settings) -> None:
    try:
        url = deployment.deploy(settings)
        with httpx.Client(base_url=url, timeout=20) as client:
            assert client.get("/readyz").json() == {
                "ready": True,
                "checks": {"store": "ok", "encoders": "ok", "disk": "ok"},
            }
            answer = client.post("/v1/search", json={"text": TEXT})
            assert answer.status_code == 200
            assert [hit["key"] for hit in answer.json()["hits"]] == ["cat"]
            refused = client.post("/v1/search", json={"text": ""})
            assert (refused.status_code, refused.headers["content-type"]) == (400, "application/problem+json")
            assert client.get("/docs").status_code == 200
        # A driver that is restarted finds its Serve again, at the same address.
        assert deployment.deploy(settings) == url
        assert httpx.get(f"{url}/healthz", timeout=20).status_code == 200
    finally:
        deployment.shutdown()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/healthz", timeout=5)


@pytest.mark.services
def test_errors_that_keep_the_plane_from_starting_are_raised_before_anything_starts(settings: Settings) -> None:
    def changed(**update: object) -> Settings:
        return settings.model_copy(update=update)

    with pytest.raises(ConfigError, match="nonsense"):
        deployment.deploy(changed(profile="nonsense"))
    with pytest.raises(ConfigError, match=r"store\.uri"):
        deployment.deploy(changed(store=settings.store.model_copy(update={"uri": None})))
    unreachable = settings.store.model_copy(update={"uri": "http://127.0.0.1:9", "timeout_s": 1.0})
    with pytest.raises(UnavailableError, match="127"):
        deployment.deploy(changed(store=unreachable))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"port {port} .* in use"):
            deployment.deploy(changed(query=settings.query.model_copy(update={"port": port})))
