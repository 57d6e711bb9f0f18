"""The faults that leave a plane running. Each strikes while events flow and is over when its function returns.

None waits for everything to be settled: what was in flight when it struck may still be.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import psutil

from tests.faults.check import check
from tests.faults.ground import Ground
from tests.faults.process import PlaneProcess, eventually
from tests.faults.stream import Stream

_HALF_A_MINUTE_S = 30.0
_LOWEST_PRIORITY = 19


@dataclass(frozen=True)
class Case:
    """A running plane, its stream and its servers: the target of a fault."""

    ground: Ground
    plane: PlaneProcess
    stream: Stream


Fault: TypeAlias = Callable[[Case], None]


@contextmanager
def _in_the_middle(case: Case) -> Iterator[None]:
    """Runs its block while a stream flows, after its first events were settled."""
    before = case.plane.settled()
    with case.stream.flowing():
        eventually(lambda: case.plane.settled() > before, "the stream is being settled")
        yield


# ---- deaths ---------------------------------------------------------------------------------------------------------


def lane_killed(case: Case) -> None:
    with _in_the_middle(case):
        case.plane.kill("lane-0")
    case.stream.send(400)


def worker_killed(moment: str, worker: str, case: Case) -> None:
    """Kills a worker that is in the middle of a batch."""
    switches = case.plane.switches
    switches.hold(moment)
    case.stream.send(150)
    eventually(lambda: case.plane.pid(worker) in switches.waiting(moment), f"{worker} has come to {moment}")
    case.plane.kill(worker)
    switches.release(moment)
    case.stream.send(400)


def driver_killed(case: Case) -> None:
    """Kills the driver, whose actors end with it, and starts another."""
    with _in_the_middle(case):
        case.plane.kill_driver()
    case.stream.send(200)
    case.plane.start()
    case.stream.send(200)


def video_struck(strike: Callable[[Case], None], case: Case) -> None:
    """Strikes while a video is in its second segment: the first is not repeated."""
    switches = case.plane.switches
    switches.hold("later-segment")
    case.stream.send_these([case.stream.video("under way")])
    case.stream.send(150)
    eventually(lambda: switches.waiting("later-segment"), "a video has reached its second segment")
    under_way = set(switches.noted("later-segment"))
    before = Counter(switches.noted("first-segment"))
    strike(case)
    switches.release("later-segment")
    case.stream.send(400)
    case.plane.settle()
    again = Counter(switches.noted("first-segment")) - before
    assert not under_way & again.keys()


def _long_media_decoder(case: Case) -> None:
    """Kills the decode worker of long media, after checking that it has the lowest priority; Ray gives it 15."""
    assert psutil.Process(case.plane.pid("long_media-0")).nice() == _LOWEST_PRIORITY
    case.plane.kill("long_media-0")


def _lanes(case: Case) -> None:
    case.plane.kill("lane-0")
    case.plane.kill("lane-1")


def _driver(case: Case) -> None:
    case.plane.kill_driver()
    case.plane.start()


def _rebalance(case: Case) -> None:
    """Adds and removes a lane; neither waits for the held video."""
    case.plane.resize_lanes(3)
    case.plane.resize_lanes(2)


# ---- servers --------------------------------------------------------------------------------------------------------


def broker_killed(case: Case) -> None:
    _broker_struck(case.ground.kafka.kill, case)


def broker_stopped(case: Case) -> None:
    _broker_struck(case.ground.kafka.stop, case)


def _broker_struck(strike: Callable[[], object], case: Case) -> None:
    """Strikes with batches in an encoder, whose offsets can be committed only once the broker is back."""
    switches = case.plane.switches
    switches.hold("encode")
    case.stream.send(300)
    eventually(lambda: switches.waiting("encode"), "a batch is under way")
    assert case.plane.lag() > 0
    strike()
    switches.release("encode")
    eventually(lambda: not case.plane.status().broker_available, "the lanes see that no broker answers")
    case.ground.kafka.start()
    case.stream.send(250)


def store_killed(case: Case) -> None:
    """Kills the store during an upsert: it is stopped before, so that the upsert is sent and not answered."""
    switches, pid = case.plane.switches, case.ground.store.pid
    assert pid is not None
    with _in_the_middle(case):
        switches.hold("upsert")
        eventually(lambda: switches.waiting("upsert"), "an upsert is next")
        os.kill(pid, signal.SIGSTOP)
        switches.release("upsert")
        eventually(lambda: switches.under_way("upsert"), "an upsert is under way")
        case.ground.store.kill()
        eventually(lambda: case.plane.status().store_error, "the plane sees that the store is gone")
    case.stream.send(400)
    case.ground.store.restart()


def store_away(case: Case) -> None:
    """Stops the store for half a minute: the plane waits, and writes no dead letter."""
    case.stream.send(300)
    case.ground.store.stop()
    gone_s = time.monotonic()
    case.stream.send(250)
    eventually(lambda: case.plane.status().store_error, "the plane says that the store is gone")
    eventually(lambda: time.monotonic() - gone_s > _HALF_A_MINUTE_S, "half a minute passes")
    case.ground.store.restart()


def answers_lost(operation: str, case: Case) -> None:
    """Loses the answers of writes that succeeded."""
    case.plane.switches.on(f"lose-{operation}", times=5)
    case.stream.send(550)
    eventually(lambda: not case.plane.switches.armed(f"lose-{operation}"), "five answers are lost")


# ---- membership -----------------------------------------------------------------------------------------------------


def lane_asleep(case: Case) -> None:
    """Stops a lane past its session with a write in flight: the other lane takes its partitions, and the first one may
    no longer commit what it holds.
    """
    switches = case.plane.switches
    switches.hold("write-of-lane-0")
    case.stream.send(300)
    eventually(lambda: switches.waiting("write-of-lane-0"), "a write of this lane is under way")
    before = times_fenced(case.plane.log_of("lane-0"))
    case.plane.signal("lane-0", signal.SIGSTOP)
    switches.release("write-of-lane-0")
    try:
        case.stream.send(250)
        case.plane.settle()  # by the other lane alone
        check(case.stream)
    finally:
        case.plane.signal("lane-0", signal.SIGCONT)
    eventually(
        lambda: times_fenced(case.plane.log_of("lane-0")) > before, "it learns that another lane has its partitions"
    )
    case.stream.send(100)
    case.plane.await_balance(2)


def times_fenced(log: str) -> int:
    """Counts both ways to learn of it: a refused commit, and the group's answer."""
    return log.count("commit refused") + log.count("to another lane and drops its events")


def late_write(case: Case) -> None:
    """The writer dies while it holds the write of a lane that sleeps; its successor must refuse that write later."""
    switches = case.plane.switches
    switches.hold("write-of-lane-0")
    case.stream.send(300)
    eventually(lambda: switches.waiting("write-of-lane-0"), "a write of this lane is under way")
    case.plane.signal("lane-0", signal.SIGSTOP)
    try:
        case.plane.kill("write-0")
        switches.release("write-of-lane-0")
        case.stream.send(250)
        case.plane.settle()
    finally:
        case.plane.signal("lane-0", signal.SIGCONT)
    eventually(lambda: "refused a write of lane lane-0" in case.plane.log_of("write-0"), "its write is refused")
    case.stream.send(100)
    case.plane.await_balance(2)


def lanes_come_and_go(case: Case) -> None:
    """A third lane joins and leaves, twice."""
    for _ in range(2):
        case.stream.send(150)
        case.plane.resize_lanes(3)
        case.stream.send(150)
        case.plane.resize_lanes(2)


QUICK: Mapping[str, Fault] = {
    "lane_killed": lane_killed,
    "encoder_killed": partial(worker_killed, "encode", "passage.text-0"),
    "writer_killed": partial(worker_killed, "put_asset_rows", "write-0"),
    "driver_killed": driver_killed,
    "broker_killed": broker_killed,
    "store_killed": store_killed,
}
"""The faults of every test run."""

FAULTS: Mapping[str, Fault] = {
    **QUICK,
    "image_encoder_killed": partial(worker_killed, "encode", "joint.image-0"),
    "decoder_killed": partial(worker_killed, "decode", "decode-0"),
    "writer_killed_before_entries": partial(worker_killed, "upsert", "write-0"),
    "transcriber_killed": partial(worker_killed, "transcribe", "speech-0"),
    "clip_decoder_killed": partial(worker_killed, "segment", "decode-0"),
    "video_and_its_decoder": partial(video_struck, _long_media_decoder),
    "video_and_its_writer": partial(video_struck, lambda case: case.plane.kill("write-0")),
    "video_and_its_lanes": partial(video_struck, _lanes),
    "video_and_its_driver": partial(video_struck, _driver),
    "video_and_a_rebalance": partial(video_struck, _rebalance),
    "broker_stopped": broker_stopped,
    "store_away": store_away,
    "upsert_unanswered": partial(answers_lost, "upsert"),
    "delete_unanswered": partial(answers_lost, "delete"),
    "asset_rows_unanswered": partial(answers_lost, "put_asset_rows"),
    "lane_asleep": lane_asleep,
    "late_write": late_write,
    "lanes_come_and_go": lanes_come_and_go,
}
