"""Runs the baselines of `bench ingest`, (a) to (c), against the broker and the store of a running stack."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.baselines import BATCH, BaselineModel, load_model, model_only, naive_loop
from benchmarks.synthetic_images import SyntheticImages
from penstock.assembly import open_store
from penstock.broker.base import Message
from penstock.broker.consumer import LaneConsumer
from penstock.broker.producer import MessageProducer
from penstock.broker.topics import ensure_topics
from penstock.config import KafkaSettings, Settings
from penstock.cpus import usable_cpus
from penstock.encoders.load import profile_fingerprints
from penstock.encoders.profiles import load_profile
from penstock.records import Modality
from penstock.store.milvus.store import MilvusStore
from penstock.store.spec import index_spec

_TOPIC, _GROUP = "bench.loops", "bench-loops"
_VERSION = 2  # of the collections that the loops and the lone writer fill


@dataclass(slots=True)
class BaselineLoops:
    """Runs (a) to (c) in this process, while the stack idles.

    Attributes:
        model: decodes and encodes.
        consumer: of a topic that only the loops use.
        producer: fills that topic.
        store: collections that only the loops fill.
    """

    model: BaselineModel
    consumer: LaneConsumer
    producer: MessageProducer
    store: MilvusStore
    _next: int = 0

    def round(self, images: list[bytes]) -> dict[str, float]:
        """Returns the images per second of each loop."""
        some = images[: max(1, len(images) // 3)]
        return {
            "bare": len(images) / model_only(self.model, images),
            "naive": len(some) / self.naive(some, 1),
            "naive_batched": len(images) / self.naive(images, BATCH),
        }

    def naive(self, images: list[bytes], batch: int) -> float:
        """Returns the seconds of the loop. The records are in the topic before it starts, and no others."""
        for image in images:
            self._next += 1
            self.producer.send(Message(_TOPIC, key=f"loop-{self._next:09d}".encode(), value=image))
        self.producer.flush(30.0)
        return naive_loop(self.model, self.consumer, self.store, events=len(images), batch=batch)


@contextmanager
def baseline_loops(settings: Settings, *, threads: int) -> Iterator[BaselineLoops]:
    """Loads the model and warms it up, with a topic, a group and collections of its own.

    Args:
        settings: of the stack.
        threads: CPU threads of the encoders; 0: every core.
    """
    kafka = settings.kafka.model_copy(update={"image_topic": _TOPIC, "group": _GROUP})
    ensure_topics(kafka, [Modality.IMAGE])
    producer, consumer = MessageProducer(kafka), _joined(kafka)
    try:
        with own_collections(settings) as store:
            loops = BaselineLoops(load_model(settings, threads=threads or usable_cpus()), consumer, producer, store)
            warm_up = list(SyntheticImages(BATCH).images(10**9, BATCH))
            model_only(loops.model, warm_up)
            loops.naive(warm_up, BATCH)
            yield loops
    finally:
        consumer.close(5.0)
        producer.close(5.0)


@contextmanager
def own_collections(settings: Settings) -> Iterator[MilvusStore]:
    """Opens collections beside those of the stack, in the same store, for what is compared with it."""
    profile = load_profile(settings.profile)
    own = settings.store.model_copy(update={"version": _VERSION})
    store = open_store(own)
    try:
        store.ensure(index_spec(profile, profile_fingerprints(profile), own))
        yield store
    finally:
        store.close()


def _joined(kafka: KafkaSettings) -> LaneConsumer:
    """Returns a member of the loops' group that has its partitions."""
    consumer = LaneConsumer(kafka, [_TOPIC], drain_timeout_s=1.0)
    deadline_s = time.monotonic() + 60.0
    while not consumer.assignments() and time.monotonic() < deadline_s:
        consumer.poll(1.0, 1)
    return consumer
