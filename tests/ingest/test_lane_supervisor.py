"""Lanes that ended are restarted, and those that do not answer hold up neither that nor each other."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import ray

from penstock.config import load_settings
from penstock.ingest import lane_supervisor
from penstock.ingest.lane.handles import WorkerHandles
from penstock.ingest.lane_supervisor import LaneSupervisor

pytestmark = [pytest.mark.services, pytest.mark.timeout(200)]

_TIMEOUT_S = 4.0
_SUSPENDED = 3


@pytest.fixture
def one_node() -> Iterator[None]:
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 1024**2)
    yield
    ray.shutdown()


@ray.remote(num_cpus=0)
class _Lane:
    def __init__(self, answer: bool | None) -> None:
        self._answer = answer

    def is_running(self) -> bool:
        if self._answer is None:
            threading.Event().wait()  # as a process that was stopped
        return bool(self._answer)

    def journal(self) -> None:
        """Returns that it keeps none."""

    def made(self) -> None:
        """Returns once the actor is there."""


@pytest.mark.usefixtures("one_node")
def test_lanes_that_do_not_answer_are_waited_for_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_supervisor, "ANSWER_TIMEOUT_S", _TIMEOUT_S)
    restarted: list[int] = []

    def spawn(_: object, __: object, number: int, ___: object) -> Any:
        restarted.append(number)
        return lanes[-1]

    monkeypatch.setattr(lane_supervisor, "spawn_lane", spawn)
    answers = [None] * _SUSPENDED + [False, True, True]
    lanes = [_Lane.remote(answer) for answer in answers]  # type: ignore[attr-defined]
    ray.get([lane.made.remote() for lane in lanes])
    ray.kill(lanes[_SUSPENDED + 1])
    supervisor = LaneSupervisor(load_settings(profile="null:8"))
    handles = WorkerHandles([], [], [], {}, [], 1)
    supervisor.restart_ended(handles)  # without lanes
    supervisor._lanes = [*lanes]
    began_s = time.monotonic()
    supervisor.restart_ended(handles)
    assert time.monotonic() - began_s < 2 * _TIMEOUT_S
    assert restarted == [_SUSPENDED, _SUSPENDED + 1]
    assert supervisor.lanes[:_SUSPENDED] == lanes[:_SUSPENDED]
