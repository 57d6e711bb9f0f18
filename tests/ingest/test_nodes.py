"""The ingest plane on a Ray cluster of two nodes, with a real broker and a real store: it grows, shrinks, loses a node.

The driver is this process, on the head's node, as `penstock ingest` would be.
"""

from __future__ import annotations

import io
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import ray
from PIL import Image
from ray.cluster_utils import Cluster

from penstock.audit import run_audit
from penstock.broker.base import Message
from penstock.broker.producer import MessageProducer
from penstock.broker.topics import group_lag
from penstock.config import Settings, load_settings
from penstock.errors import WorkerLostError
from penstock.ingest.executor.ray_actor import spawn_actors
from penstock.ingest.executor.ray_pool import RayPool
from penstock.ingest.plane import IngestPlane
from penstock.ingest.status import PlaneStatus
from penstock.records import Outcome
from tests.ingest.executor.test_pool import Worker
from tests.services import kafka_server
from tests.store.servers import milvus_lite_server

pytestmark = [pytest.mark.services, pytest.mark.exhaustive, pytest.mark.timeout(280)]

TEXTS, IMAGES = "media.text", "media.image"
_NODE: dict[str, Any] = {"num_cpus": 6, "object_store_memory": 128 * 1024**2, "include_dashboard": False}
# A node whose process is gone refuses each check immediately: it is noticed after 5 s instead of Ray's 15 and more.
_HEALTH = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 1_000,
    "health_check_timeout_ms": 10_000,
    "health_check_failure_threshold": 5,
}


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[Cluster]:
    cluster = Cluster(initialize_head=True, head_node_args={**_NODE, "_system_config": _HEALTH})
    try:
        cluster.add_node(**_NODE)
        ray.init(address=cluster.address, log_to_driver=False)
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()  # type: ignore[no-untyped-call]


@pytest.fixture(scope="module")
def settings() -> Iterator[Settings]:
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="penstock-nodes-", ignore_cleanup_errors=True))
        yield load_settings(
            profile="null:16",
            data_dir=Path(folder),
            kafka={"bootstrap_servers": stack.enter_context(kafka_server()), "session_timeout_ms": 6_000},
            metrics={"enabled": False},  # both nodes are this machine, and would share an endpoint
            store={"uri": stack.enter_context(milvus_lite_server()).uri},
            ingest={
                "lanes": 2,
                "decoders": 1,
                "max_decoders": 2,
                "scale_up_after_s": 2.0,
                "scale_down_after_s": 3.0,
                "batch_events": 8,
            },
        )


@pytest.fixture(scope="module")
def plane(two_nodes: Cluster, settings: Settings) -> Iterator[IngestPlane]:
    started = IngestPlane(settings)
    try:
        started.start()
        yield started
    finally:
        started.stop()


def eventually(holds: Callable[[], bool], plane: IngestPlane, awaited: str, timeout_s: float = 90.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline_s, f"did not happen: {awaited}; {plane.status()}"
        time.sleep(0.2)


def produce(settings: Settings, messages: Sequence[Message]) -> None:
    """Returns once all are acknowledged."""
    producer = MessageProducer(settings.kafka)
    try:
        for future in [producer.send(message) for message in messages]:
            future.result(60)
    finally:
        producer.close(10)


def lag(settings: Settings) -> int:
    return sum(partition.lag for partition in group_lag(settings.kafka, [TEXTS, IMAGES]))


def balance(settings: Settings) -> Mapping[tuple[str, Outcome], int]:
    """Returns the outcomes of the events by topic, once the audit finds exactly one for each."""
    report = run_audit(settings)
    assert report.balanced, report.problems
    ended: Counter[tuple[str, Outcome]] = Counter()
    for balance in report.partitions:
        assert not balance.in_flight
        ended.update({(balance.partition.topic, outcome): count for outcome, count in balance.outcomes.items()})
    return +ended


def heavy_picture(shade: int) -> bytes:
    """15 kB that take a decoder a tenth of a second: 4 million pixels, and PNG has no shortcut to a small version."""
    sink = io.BytesIO()
    Image.new("RGB", (2_000, 2_000), (shade, 255 - shade, 90)).save(sink, "PNG")
    return sink.getvalue()


def actors_on(node_id: str) -> Sequence[Any]:
    """Ray's public list of actors needs its dashboard, which is not part of Penstock."""
    from ray._private.state import actors

    return [actor for actor in actors().values() if actor["Address"]["NodeID"] == node_id and actor["State"] == "ALIVE"]


def test_a_death_is_blamed_on_its_call_wherever_the_worker_is_restarted(two_nodes: Cluster, tmp_path: Path) -> None:
    pool = RayPool("test", spawn_actors(Worker, 1, name="test", journal_dir=tmp_path, num_cpus=0.1), call_timeout_s=60)
    (handle,) = pool.usage()
    seen = {ray.get(handle.ready.remote()).node}
    for _ in range(20):
        with pytest.raises(WorkerLostError) as caught:
            pool.run(Worker.die)
        assert caught.value.blamed
        seen.add(ray.get(handle.ready.remote()).node)
        if len(seen) == 2:
            break
    assert len(seen) == 2, "it never moved"
    ray.kill(handle)


def test_a_pool_grows_under_load_and_shrinks_after_it_and_each_event_is_settled_once(
    plane: IngestPlane, settings: Settings
) -> None:
    pictures = [heavy_picture(shade) for shade in range(4)]
    sizes: list[int] = []

    def decoders(status: PlaneStatus) -> int:
        sizes.append(status.workers["decode"])
        return sizes[-1]

    produced = 0
    deadline_s = time.monotonic() + 120
    while decoders(plane.status()) < 2:
        assert time.monotonic() < deadline_s, f"it does not grow: {plane.status()}"
        if lag(settings) < 100:
            produce(
                settings, [Message(IMAGES, b"p%d" % (produced + number), pictures[number % 4]) for number in range(50)]
            )
            produced += 50
    eventually(lambda: not lag(settings), plane, "all pictures are settled")
    eventually(lambda: decoders(plane.status()) == 1, plane, "the pool shrinks again")
    assert balance(settings) == {(IMAGES, Outcome.INDEXED): produced}
    assert sum(plane.status().outcomes["image"].values()) == produced
    assert [size for before, size in pairwise(sizes) if size < before] == [1]


def test_the_loss_of_a_node_under_load_loses_no_event_and_doubles_none(
    plane: IngestPlane, settings: Settings, two_nodes: Cluster
) -> None:
    (lost,) = two_nodes.worker_nodes
    assert actors_on(lost.node_id), "nothing of the plane is on the node that will be lost"
    before = balance(settings)
    bad = [Message(IMAGES, b"bad%d" % number, b"\x89PNG\r\n\x1a\n no picture") for number in range(10)]
    count = 0
    with ThreadPoolExecutor(1) as thread:
        removed: Future[None] | None = None
        while count < 900 or removed is None or not removed.done():
            produce(
                settings,
                [Message(TEXTS, b"t%d" % number, b"Text %d." % number) for number in range(count, count + 100)],
            )
            count += 100
            if removed is None and plane.status().outcomes.get("text", {}).get("indexed", 0):
                removed = thread.submit(two_nodes.remove_node, lost, allow_graceful=False)
        removed.result()
    replaced = [Message(TEXTS, b"t%d" % number, b"Its newer version %d." % number) for number in range(0, count, 9)]
    produce(settings, [*replaced, *bad])
    eventually(lambda: not lag(settings), plane, "everything is settled", 150.0)
    assert balance(settings) == {
        **before,
        (TEXTS, Outcome.INDEXED): count,
        (TEXTS, Outcome.SUPERSEDED): len(replaced),
        (IMAGES, Outcome.DEAD_LETTERED): len(bad),
    }
    assert not actors_on(lost.node_id)
