"""Several drivers of one consumer group: one ingests, and a paused one that continues does no harm."""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import psutil
import pytest

from penstock.errors import UnavailableError
from penstock.records import Collection
from penstock.store.milvus.store import MilvusStore
from tests.faults.check import check
from tests.faults.faults import Case
from tests.faults.process import PlaneProcess, eventually
from tests.store.scans import all_entries

pytestmark = [pytest.mark.services, pytest.mark.exhaustive]

Own = Callable[..., Case]
Another = Callable[..., PlaneProcess]

_RACES = 20
_TAKEOVER_S = 30.0
_REFUSED_S = 60.0
_OUTAGE_S = 45.0  # several times the lease
_ON_AGAIN_S = 60.0
_LEASE = re.compile(r"holds the lease of \S+ in epoch (\d+)")


@pytest.fixture
def another() -> Iterator[Another]:
    """Makes further drivers of a plane's consumer group, each with a data folder of its own; not started yet."""
    planes: list[PlaneProcess] = []

    def make(case: Case, *, wait: bool = False) -> PlaneProcess:
        settings = case.plane.settings
        ingest = settings.ingest.model_copy(update={"wait_for_lease": wait})
        folder = settings.data_dir.with_name(f"{settings.data_dir.name}-{len(planes)}")
        planes.append(PlaneProcess(case.ground, settings.model_copy(update={"data_dir": folder, "ingest": ingest})))
        return planes[-1]

    yield make
    for plane in planes:
        plane.close()


def epochs(plane: PlaneProcess) -> list[int]:
    """Returns the epochs in which a driver has held the lease, by its log."""
    log = plane.log.read_text() if plane.log.exists() else ""
    return [int(epoch) for epoch in _LEASE.findall(log)]


def waits(plane: PlaneProcess) -> bool:
    return plane.log.exists() and "waiting for the driver" in plane.log.read_text()


def processes_of(plane: PlaneProcess) -> Sequence[psutil.Process]:
    """The driver and its actors."""
    return [psutil.Process(plane.driver_pid), *map(psutil.Process, set(plane.pids().values()))]


def test_a_second_driver_is_refused_and_names_the_first(own: Own, another: Another) -> None:
    case = own(ingest={"modalities": ["text", "image"]})
    case.plane.start()
    second = another(case)
    with case.stream.flowing():
        second.launch()
        assert second.await_exit(_REFUSED_S) == 4
    message = second.log.read_text().rstrip().splitlines()[-1]
    assert f"the driver with pid {case.plane.driver_pid} on " in message
    assert len(epochs(case.plane)) == 1, "the first driver was disturbed"
    case.plane.settle()
    check(case.stream)


@pytest.mark.timeout(3_600)
def test_standbys_race_for_the_lease_of_a_killed_driver_and_one_wins(
    own: Own, another: Another, record_property: Callable[[str, object], None]
) -> None:
    case = own(ingest={"modalities": ["text", "image"]})
    holder = case.plane
    holder.start()
    standbys = [another(case, wait=True), another(case, wait=True)]
    for standby in standbys:
        standby.launch()
    held = list(epochs(holder))
    for race in range(_RACES):
        winner, loser, taken_s = take_over(case, holder, standbys)
        held += epochs(winner)
        assert held == sorted(set(held)), "epochs do not rise"
        assert not epochs(loser), "both hold the lease"
        record_property(f"race {race}: seconds to the lease", f"{taken_s:.1f}")
        holder, standbys = winner, [loser, another(case, wait=True)]
        standbys[1].launch()


def take_over(
    case: Case, holder: PlaneProcess, standbys: Sequence[PlaneProcess]
) -> tuple[PlaneProcess, PlaneProcess, float]:
    """Kills the driver under load; returns the standby that took over, the other one, and the seconds that it took."""
    eventually(lambda: all(map(waits, standbys)), "both standbys wait", _REFUSED_S)
    with case.stream.flowing():
        holder.kill_driver()
        began_s = time.monotonic()
        eventually(lambda: any(map(epochs, standbys)), "a standby takes the lease", _TAKEOVER_S)
        taken_s = time.monotonic() - began_s
    winner, loser = sorted(standbys, key=epochs, reverse=True)
    winner.await_running()
    case.stream.send(50)
    winner.settle()
    check(case.stream)
    return winner, loser, taken_s


@pytest.mark.parametrize("moment", ["upsert", "put_asset_rows"])
def test_a_driver_that_was_paused_in_a_write_writes_nothing_after_its_successor(
    moment: str, own: Own, another: Another, record_property: Callable[[str, object], None]
) -> None:
    case = own(ingest={"modalities": ["text", "image"]})
    old = case.plane
    old.start()
    case.stream.send(200)
    old.settle()
    old.switches.hold(moment)
    case.stream.send(200)
    eventually(lambda: old.switches.waiting(moment), f"a writer is about to {moment}")
    paused = processes_of(old)
    for process in paused:
        process.send_signal(signal.SIGSTOP)
    new = another(case)
    began_s = time.monotonic()
    new.launch()
    eventually(lambda: epochs(new), "another driver takes the lease", _TAKEOVER_S)
    record_property("seconds to the lease", f"{time.monotonic() - began_s:.1f}")
    new.await_running()
    case.stream.send(200)
    new.settle()
    check(case.stream)
    old.switches.release(moment)
    for process in paused:
        process.send_signal(signal.SIGCONT)
    assert old.await_exit() == 4
    case.stream.send(100)
    new.settle()
    check(case.stream)
    assert len(epochs(new)) == 1, "the new driver was disturbed"


def entries(case: Case) -> set[str]:
    """Returns the ids of all entries of the stream's texts and images."""
    store = MilvusStore(case.plane.settings.store)
    try:
        return {entry.id for kind in (Collection.TEXT, Collection.IMAGE) for entry in all_entries(store, kind)}
    finally:
        store.close()


def test_an_outage_of_kafka_that_outlasts_the_lease_stops_the_writes_and_one_driver_goes_on(
    own: Own, another: Another, record_property: Callable[[str, object], None]
) -> None:
    case = own(ingest={"modalities": ["text", "image"]})
    plane = case.plane
    plane.start()
    standby = another(case, wait=True)
    standby.launch()
    eventually(lambda: waits(standby), "the standby waits", _REFUSED_S)
    case.stream.send(200)
    plane.settle()
    plane.switches.hold("encode")
    case.stream.send(300)
    eventually(lambda: plane.switches.waiting("encode"), "a batch is under way")
    case.ground.kafka.kill()
    began_s = time.monotonic()
    try:
        eventually(lambda: "lease" in " ".join(plane.status().held), "the plane is held for its lease", _OUTAGE_S)
        record_property("Kafka killed until held (lease), seconds", f"{time.monotonic() - began_s:.1f}")
        before = entries(case)
        plane.switches.release("encode")
        threading.Event().wait(_OUTAGE_S - (time.monotonic() - began_s))  # the duration of the fault itself
        assert entries(case) == before, "something was written without the lease"
    finally:
        case.ground.kafka.start()
    back_s = time.monotonic()
    case.stream.send(200)
    eventually(lambda: lag_is_zero(plane), "everything is settled again", _ON_AGAIN_S)
    record_property("Kafka back until all is settled, seconds", f"{time.monotonic() - back_s:.1f}")
    check(case.stream)
    if epochs(standby):
        assert plane.await_exit() == 4
    else:
        assert waits(standby), "the standby has ended"
        assert plane.status().state == "running"
    held = [*epochs(plane), *epochs(standby)]
    assert held == sorted(set(held)), "epochs do not rise"
    record_property("epochs of the driver and of the standby", f"{epochs(plane)} {epochs(standby)}")


def lag_is_zero(plane: PlaneProcess) -> bool:
    try:
        return plane.lag() == 0
    except UnavailableError:  # a broker that has just come back does not know the group's offsets yet
        return False
