"""The measured load, and pools that change their size; actors run on a Ray cluster of their own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray

from penstock.broker.base import Partition, PartitionLag
from penstock.encoders.base import Fingerprint
from penstock.errors import UnavailableError
from penstock.ingest.executor.autoscaler import Autoscaler, ElasticPool, LaneUsage, LoadMeter, PoolLoad, WorkerSpec
from penstock.ingest.executor.pool import Usage
from penstock.ingest.executor.ray_actor import spawn_actors
from penstock.ingest.executor.scaling_policy import ScalingPolicy, ScalingRules
from penstock.ingest.lag import LagMonitor

RULES = ScalingRules(min_workers=1, max_workers=3, up_after_s=1.0, down_after_s=3.0)
OVERLOADED = {"test": PoolLoad(utilization=1.0, queued=9.0)}
IDLE = {"test": PoolLoad(utilization=0.0, queued=0.0)}
GOOD = Fingerprint("model", "0" * 16, "1" * 16)


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def report(version: int = 0, at_s: float = 0.0, **actors: Usage) -> LaneUsage:
    return LaneUsage(version, at_s, {"test": actors})


def test_the_first_report_of_a_lane_gives_no_load() -> None:
    meter = LoadMeter()
    assert meter.measure({"lane": report(a=Usage(1, 5.0, 9.0))}, {"test": 1}) == {}
    assert meter.measure({"lane": report(at_s=2.0, a=Usage(1, 6.0, 12.0))}, {"test": 1})["test"].utilization == 0.5
    assert meter.measure({"lane": report(at_s=4.0), "new": report()}, {"test": 1}) == {}


def test_the_load_is_that_of_all_lanes_together() -> None:
    meter = LoadMeter()
    meter.measure({"one": report(), "other": report()}, {"test": 2})
    measured = meter.measure(
        {"one": report(at_s=2.0, a=Usage(2, 2.0, 4.0)), "other": report(at_s=4.0, a=Usage(1, 4.0, 4.0), b=Usage())},
        {"test": 2},
    )
    assert measured["test"] == PoolLoad(utilization=0.5, queued=2.0)  # a is busy all the time, with three calls


def test_lag_is_summed_by_topic_and_unknown_while_the_broker_is_unavailable() -> None:
    stop, answers = threading.Event(), [UnavailableError("away"), None]

    def look() -> list[PartitionLag]:
        answer = answers.pop(0) if answers else stop.set()
        if answer is not None:
            raise answer
        return [PartitionLag(Partition(topic, number), 3, 0, 10) for topic in "ab" for number in range(2)]

    watch = LagMonitor(look, stop, interval_s=0.0)
    assert watch.total("ab") is None
    watch.start()
    assert stop.wait(10)
    while watch.total("a") != 14:
        time.sleep(0.01)
    assert watch.total("ab") == 28
    assert watch.total("c") == 0


class Worker:
    def __init__(self, number: int, fingerprint: Fingerprint = GOOD) -> None:
        self._fingerprint = fingerprint

    def fingerprint(self) -> Fingerprint:
        return self._fingerprint


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray.init("local", num_cpus=4, include_dashboard=False, object_store_memory=100 * 1024**2, log_to_driver=False)
    yield
    ray.shutdown()


AutoscalerMaker = Callable[..., tuple[Autoscaler, Clock]]


@pytest.fixture
def make_autoscaler(cluster: None, tmp_path: Path) -> Iterator[AutoscalerMaker]:
    autoscalers: list[Autoscaler] = []

    def make(*, num_cpus: float = 0.1, fingerprint: Fingerprint = GOOD) -> tuple[Autoscaler, Clock]:
        start = partial(spawn_actors, partial(Worker, fingerprint=fingerprint), 1, name="test", journal_dir=tmp_path)
        clock = Clock()
        pool = ElasticPool(
            "test",
            tuple(start(num_cpus=0.1)),
            WorkerSpec(lambda number: start(num_cpus=num_cpus, first_number=number)[0], "1 CPU", GOOD),
            ScalingPolicy(RULES, clock),
            60.0,
            clock,
        )
        autoscalers.append(Autoscaler({"test": pool}, lambda _: None))
        return autoscalers[-1], clock

    yield make
    for autoscaler in autoscalers:
        for handle in [*autoscaler.handles()["test"], *autoscaler.unpublished()]:
            ray.kill(handle)


def turns(
    autoscaler: Autoscaler, clock: Clock, measured: dict[str, PoolLoad], lane: LaneUsage | None, count: int
) -> None:
    for _ in range(count):
        clock.now_s += 1.0
        autoscaler.step([lane], measured, blocked=False)


def until(holds: Callable[[], bool], turn: Callable[[], object]) -> None:
    while not holds():
        turn()
        time.sleep(0.02)


def ended(actor: Any) -> bool:
    try:
        ray.get(actor.ready.remote(), timeout=0.2)
    except ray.exceptions.RayActorError:
        return True
    except ray.exceptions.GetTimeoutError:
        pass
    return False


@pytest.mark.services
def test_a_new_actor_is_called_once_it_is_ready_and_a_retired_one_ends_once_no_lane_calls_it(
    make_autoscaler: AutoscalerMaker,
) -> None:
    autoscaler, clock = make_autoscaler()
    (first,) = autoscaler.handles()["test"]
    turns(autoscaler, clock, OVERLOADED, report(), 2)
    assert len(autoscaler.unpublished()) == 1, "it is starting, and no lane calls it yet"
    until(lambda: autoscaler.version == 1, lambda: autoscaler.step([report()], {}, blocked=False))
    kept, second = autoscaler.handles()["test"]
    assert kept == first

    turns(autoscaler, clock, IDLE, report(version=1), 5)
    assert autoscaler.version == 2
    assert autoscaler.handles()["test"] == (first,)
    reports = {
        "it still uses the previous set": LaneUsage(1, 0.0, {"test": {}}),
        "a call of it is under way": LaneUsage(2, 0.0, {"test": {second: Usage(1, 0.0, 0.0)}}),
        "it did not answer": None,
    }
    for why, lane in reports.items():
        turns(autoscaler, clock, {}, lane, 1)
        assert list(autoscaler.unpublished()) == [second], why
        assert not ended(second), why
    turns(autoscaler, clock, {}, LaneUsage(2, 0.0, {"test": {first: Usage(1, 0.0, 0.0)}}), 1)
    assert not autoscaler.unpublished()
    until(lambda: ended(second), lambda: None)


@pytest.mark.services
def test_an_actor_without_room_is_abandoned_and_the_log_gives_the_reason(
    make_autoscaler: AutoscalerMaker, caplog: pytest.LogCaptureFixture
) -> None:
    autoscaler, clock = make_autoscaler(num_cpus=99)
    turns(autoscaler, clock, OVERLOADED, report(), 2)
    (pending,) = autoscaler.unpublished()
    turns(autoscaler, clock, OVERLOADED, report(), 62)
    assert not autoscaler.unpublished()
    assert "not ready after 60 s. It needs 1 CPU, and" in caplog.text
    turns(autoscaler, clock, OVERLOADED, report(), 60)
    assert not autoscaler.unpublished(), "it is not retried immediately"
    assert autoscaler.version == 0
    until(lambda: ended(pending), lambda: None)


@pytest.mark.services
def test_an_encoder_with_another_model_does_not_join(
    make_autoscaler: AutoscalerMaker, caplog: pytest.LogCaptureFixture
) -> None:
    autoscaler, clock = make_autoscaler(fingerprint=Fingerprint("model", "f" * 16, "1" * 16))
    turns(autoscaler, clock, OVERLOADED, report(), 2)
    until(lambda: not autoscaler.unpublished(), lambda: autoscaler.step([report()], {}, blocked=False))
    assert "has another model" in caplog.text
    assert autoscaler.version == 0
