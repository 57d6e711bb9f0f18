"""The faults that have to page, each struck in a house under load and undone at the end of its block."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import TypeAlias

import psutil
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from kafka.structs import TopicPartition

from penstock.broker.base import Message
from penstock.broker.topics import group_lag
from penstock.errors import UnavailableError
from penstock.processes import free_bytes
from tests.e2e.stack import eventually
from tests.ops.house import MIN_FREE_BYTES, House
from tests.ops.load import images, send

_CORRUPT = 300
_NOTICED_S = 60.0
_STARTS = 4
Strike: TypeAlias = Callable[[House], AbstractContextManager[None]]


@dataclass(frozen=True)
class Fault:
    """A fault and the alert that it has to raise.

    Attributes:
        title: as the table of faults has it.
        alert: as `house.firing` describes it.
        strike: begins the fault, and ends it at the end of its block.
        window_s: the part of the time until the alert's expression holds that is a window of the rules.
        also: what the same alert says of other topics that the fault hits, too.
    """

    title: str
    alert: str
    strike: Strike
    window_s: float = 0.0
    also: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """The name of the alert."""
        return f"Penstock{self.alert.split()[0]}"


@contextmanager
def store_stopped(house: House) -> Iterator[None]:
    house.store.stop()
    try:
        yield
    finally:
        house.store.restart()


@contextmanager
def store_hangs(house: House) -> Iterator[None]:
    assert house.store.pid is not None
    with suspended([psutil.Process(house.store.pid)]):
        yield


@contextmanager
def broker_stopped(house: House) -> Iterator[None]:
    house.kafka.stop()
    try:
        yield
    finally:
        _restart_broker(house)


def _restart_broker(house: House) -> None:
    """Starts it, more than once if need be: on a machine under load it may take longer than it is given."""
    for _ in range(_STARTS - 1):
        with suppress(UnavailableError):
            house.kafka.start()
            return
    house.kafka.start()


@contextmanager
def disk_full(house: House) -> Iterator[None]:
    """Leaves half of what ingest wants to be free."""
    folder = house.settings.data_dir
    filler = folder / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free_bytes(folder) - MIN_FREE_BYTES // 2)
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def dead_letters_refused(house: House) -> Iterator[None]:
    """Makes the dead-letter topic refuse what cannot be indexed, so that a partition halts."""
    topic = house.settings.kafka.dead_letter_topic
    with _admin(house) as admin:
        _limit_messages(admin, topic, 100)
        send(house, [Message("media.image", b"halts", b"no image")])
        try:
            yield
        finally:
            _limit_messages(admin, topic, 64 * 1024 * 1024)


@contextmanager
def lanes_hang(house: House) -> Iterator[None]:
    with suspended(house.actors("LaneHost")):
        yield


@contextmanager
def driver_killed(house: House) -> Iterator[None]:
    house.kill("ingest")
    try:
        yield
    finally:
        house.start("ingest")


@contextmanager
def query_stopped(house: House) -> Iterator[None]:
    house.stop("serve")
    try:
        yield
    finally:
        house.start("serve")


@contextmanager
def records_removed(house: House) -> Iterator[None]:
    """Removes records that wait, as retention does to a plane that is held for too long."""
    kafka = house.settings.kafka
    topic = kafka.text_topic
    with disk_full(house), _admin(house) as admin:
        eventually(lambda: house.metric('penstock_held{why="disk"}') > 0, "ingest is held", _NOTICED_S)
        eventually(lambda: min(waiting(house, topic)) > 5, "records wait in each partition", 3 * _NOTICED_S)
        partitions = group_lag(kafka, [topic])
        admin.delete_records({TopicPartition(topic, part.partition.partition): -1 for part in partitions})
    yield


def waiting(house: House, topic: str) -> Sequence[int]:
    """Returns how many records are not committed, of each partition."""
    return [partition.lag for partition in group_lag(house.settings.kafka, [topic])]


@contextmanager
def corrupt_images(house: House) -> Iterator[None]:
    half = next(images()).value
    assert half is not None
    half = half[: len(half) // 2]
    send(house, [Message("media.image", f"corrupt-{number}".encode(), half) for number in range(_CORRUPT)])
    yield


@contextmanager
def suspended(processes: Sequence[psutil.Process]) -> Iterator[None]:
    """Stops processes without ending them."""
    assert processes
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            if process.is_running():
                process.resume()


@contextmanager
def _admin(house: House) -> Iterator[KafkaAdminClient]:
    admin = KafkaAdminClient(bootstrap_servers=house.settings.kafka.bootstrap_servers)
    try:
        yield admin
    finally:
        admin.close()


def _limit_messages(admin: KafkaAdminClient, topic: str, max_bytes: int) -> None:
    admin.alter_configs(
        [ConfigResource(ConfigResourceType.TOPIC, topic, configs={"max.message.bytes": str(max_bytes)})]
    )


FAULTS: Sequence[Fault] = (
    Fault("the disk of media is full", "IngestHeld disk", disk_full),
    Fault("the dead-letter topic refuses a letter", "PartitionHalted", dead_letters_refused),
    Fault("all lanes hang", "IngestStalled media.text", lanes_hang, 45.0, frozenset({"IngestStalled media.image"})),
    Fault("the ingest driver is killed", "DriverAbsent", driver_killed),
    Fault("the query plane is stopped", "QueryReplicasMissing", query_stopped),
    Fault("records are removed before they were read", "OffsetsLost media.text", records_removed),
    Fault("a flood of corrupt images", "DeadLettersJump corrupt", corrupt_images),
    Fault("Milvus is stopped", "DependencyDown store", store_stopped),
    Fault("Milvus hangs", "DependencyDown store", store_hangs),
    Fault("Kafka is stopped", "IngestHeld broker", broker_stopped),
)
