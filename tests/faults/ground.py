"""The servers of the cases: a real broker, a real store and a Ray, shared by cases whose fault allows it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock.broker.topics import ensure_topics
from penstock.config import Settings, load_settings
from penstock.embedded.kafka import EmbeddedKafka
from penstock.embedded.ray import EmbeddedRay
from tests.services import kafka_broker
from tests.store.servers import LiteServer, Standalone, milvus_lite_server, milvus_standalone

STORE = "FAULTS_STORE"
"""The environment says by this name which store is struck: `lite` or `milvus`, which is 2.3.5."""

_REPOSITORY = Path(__file__).parents[2]
_RAY_CPUS = 16  # a count, not a limit: planes of several cases may stand side by side

# Short, so that a case takes seconds: what a fault costs is mostly the time until it is noticed.
_INGEST = {
    "modalities": ["text", "image", "audio", "video"],
    "lanes": 2,
    "batch_events": 16,
    "max_batches_in_flight": 3,
    "commit_interval_ms": 200,
    "drain_timeout_s": 15.0,
    "initial_backoff_s": 0.1,
    "max_backoff_s": 1.0,
    "min_free_disk_bytes": 0,
}
_KAFKA = {"session_timeout_ms": 6_000, "partitions": 4}  # 6 s is the least that a broker allows by default
_STORE = {"timeout_s": 5.0, "consistency": "Strong"}
_TEXT = {"max_passage_tokens": 16, "overlap_tokens": 0}  # so that a few sentences are several passages
_STORES: Mapping[str, Callable[[], AbstractContextManager[LiteServer | Standalone]]] = {
    "lite": milvus_lite_server,
    "milvus": milvus_standalone,
}
_SLICES = {"first_segment_s": 8.0, "segment_s": 6.0}  # so that videos of half a minute take several segments


@dataclass(frozen=True)
class Ground:
    """Running servers.

    Attributes:
        folder: for the planes' data folders.
        kafka, store: may be stopped and started by a case that leaves them running.
        ray: the cluster.
    """

    folder: Path
    kafka: EmbeddedKafka
    store: LiteServer | Standalone
    ray: EmbeddedRay
    ray_address: str

    def settings(self, name: str, **sections: dict[str, Any]) -> Settings:
        """Settings of a plane with topics, a group and a data folder of its own; the topics are made."""

        def section(which: str, defaults: dict[str, Any]) -> dict[str, Any]:
            return {**defaults, **sections.get(which, {})}

        names = {f"{kind}_topic": f"{name}.{kind}" for kind in ("text", "image", "audio", "video")}
        kafka = {**names, "dead_letter_topic": f"{name}.dlq", "changes_topic": f"{name}.changes", "group": name}
        kafka |= _KAFKA
        apart = ("kafka", "store", "ingest", "text", "long_media")
        settings = load_settings(
            profile="null:8",
            data_dir=self.folder / name,
            ray_address=self.ray_address,
            kafka=section("kafka", {**kafka, "bootstrap_servers": self.kafka.bootstrap_servers}),
            store=section("store", {**_STORE, "uri": self.store.uri}),
            ingest=section("ingest", _INGEST),
            text=section("text", _TEXT),
            long_media=section("long_media", _SLICES),
            metrics={"port": 0},
            **{which: values for which, values in sections.items() if which not in apart},
        )
        ensure_topics(settings.kafka, settings.ingest.modalities)
        return settings


@contextmanager
def standing() -> Iterator[Ground]:
    """All servers running; gone afterwards, come what may."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="penstock-faults-")))
        # Ray's workers must find the faulty workers of these tests.
        os.environ["PYTHONPATH"] = os.pathsep.join([str(_REPOSITORY), os.environ.get("PYTHONPATH", "")]).rstrip(":")
        ray = EmbeddedRay(folder, min_cpus=_RAY_CPUS)
        stack.callback(ray.stop)
        ray_address = ray.start()
        kafka = stack.enter_context(kafka_broker())
        store = stack.enter_context(_STORES[os.environ.get(STORE, "lite")]())
        yield Ground(folder, kafka, store, ray, ray_address)
