"""The addresses of a running `penstock up` and what it ingests, kept in a file of its data folder."""

from __future__ import annotations

import json
import os
from pathlib import Path

from penstock.config.kafka import KafkaSettings
from penstock.config.section import Section
from penstock.config.settings import Settings
from penstock.records import Modality

EMBEDDED_USER = "penstock"  # of the embedded broker


class Endpoints(Section):
    """The addresses and modalities of a running `penstock up`, in `data_dir/endpoints.json` while it runs."""

    pid: int
    bootstrap_servers: str
    store_uri: str
    ray_address: str
    query_url: str
    metrics_url: str | None = None
    kafka_password_file: Path | None = None
    modalities: tuple[Modality, ...] = ()


def with_endpoints(settings: Settings) -> Settings:
    """Returns the settings with what is unset taken from the `penstock up` on the same data folder, if one runs.

    That is the addresses, and the modalities that it ingests.
    """
    endpoints = read_endpoints(settings.data_dir)
    if endpoints is None:
        return settings
    kafka, store = settings.kafka, settings.store
    if kafka.bootstrap_servers is None:
        kafka = kafka_of(endpoints, kafka)
    if store.uri is None:
        store = store.model_copy(update={"uri": endpoints.store_uri})
    ingest = settings.ingest
    if endpoints.modalities and "modalities" not in ingest.model_fields_set:
        ingest = ingest.model_copy(update={"modalities": endpoints.modalities})
    ray_address = settings.ray_address or endpoints.ray_address
    return settings.model_copy(update={"kafka": kafka, "store": store, "ingest": ingest, "ray_address": ray_address})


def kafka_of(endpoints: Endpoints, kafka: KafkaSettings) -> KafkaSettings:
    """Returns settings of the broker that runs, with user and password if it is the embedded one."""
    update: dict[str, object] = {"bootstrap_servers": endpoints.bootstrap_servers}
    if endpoints.kafka_password_file is not None:
        update |= {
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_username": EMBEDDED_USER,
            "sasl_password": None,
            "sasl_password_file": endpoints.kafka_password_file,
        }
    return kafka.model_copy(update=update)


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
