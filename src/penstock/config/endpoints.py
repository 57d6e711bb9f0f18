"""The addresses of a running `penstock up`, kept in a file of its data folder."""

from __future__ import annotations

import json
import os
from pathlib import Path

from penstock.config.section import Section
from penstock.config.settings import Settings


class Endpoints(Section):
    """The addresses of the services of a running `penstock up`, in `data_dir/endpoints.json` while it runs."""

    pid: int
    bootstrap_servers: str
    store_uri: str
    ray_address: str
    query_url: str
    metrics_url: str | None = None


def with_endpoints(settings: Settings) -> Settings:
    """Returns the settings with unset addresses taken from the `penstock up` on the same data folder, if one runs."""
    endpoints = read_endpoints(settings.data_dir)
    if endpoints is None:
        return settings
    kafka, store = settings.kafka, settings.store
    if kafka.bootstrap_servers is None:
        kafka = kafka.model_copy(update={"bootstrap_servers": endpoints.bootstrap_servers})
    if store.uri is None:
        store = store.model_copy(update={"uri": endpoints.store_uri})
    ray_address = settings.ray_address or endpoints.ray_address
    return settings.model_copy(update={"kafka": kafka, "store": store, "ray_address": ray_address})


def endpoints_file(data_dir: Path) -> Path:
    """Returns the path of the file, whether it exists or not."""
    return data_dir / "endpoints.json"


def read_endpoints(data_dir: Path) -> Endpoints | None:
    """Returns the endpoints of the `penstock up` that runs on this folder; None if none does."""
    try:
        endpoints = Endpoints.model_validate(json.loads(endpoints_file(data_dir).read_text()))
        os.kill(endpoints.pid, 0)
    except (OSError, ValueError):
        return None
    return endpoints


def write_endpoints(data_dir: Path, endpoints: Endpoints) -> None:
    """Replaces the file atomically, so that a reader never sees half of it."""
    target = endpoints_file(data_dir)
    temporary = target.with_suffix(".tmp")
    temporary.write_text(endpoints.model_dump_json(indent=2))
    temporary.replace(target)


def demo_folder(settings: Settings) -> Path:
    """Returns the data folder of the demo, which is separate from the user's own data."""
    return settings.data_dir / "demo"


def start_hint(settings: Settings) -> str:
    """Returns a sentence that says how to start services when none run on the data folder."""
    demo = demo_folder(settings)
    if read_endpoints(demo) is not None:
        return f"Start one with `penstock up`, or use the demo that runs: `penstock --data-dir {demo} …`"
    return "Start one with `penstock up`"
