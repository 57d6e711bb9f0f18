"""Pools that change their size while lanes use them.

    grow      start an actor ─► wait until it is ready ─► publish the new set to all lanes
    shrink    publish the smaller set ─► wait until no lane has a call under way on the actor ─► end it

A set has a version. A lane that missed one is told again, and one that is started anew begins with the latest. So a
change of size does nothing to the events in flight.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayError

from penstock.encoders.base import Fingerprint
from penstock.ingest.executor.pool import Usage
from penstock.ingest.executor.scaling_policy import PoolSample, ScalingPolicy

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LaneUsage:
    """What one lane asks of the pools.

    Attributes:
        version: of the set of actors that it uses.
        at_s: its own monotonic clock.
        pools: by pool and actor.
    """

    version: int
    at_s: float
    pools: Mapping[str, Mapping[Any, Usage]]


@dataclass(frozen=True, slots=True)
class PoolLoad:
    """How a pool fared between two looks: see `scaling.Sample`."""

    utilization: float
    queued: float


class LoadMeter:
    """Makes of what the lanes report, one look after another, how busy each pool was in between."""

    def __init__(self) -> None:
        self._before: dict[Any, LaneUsage] = {}

    def measure(self, lanes: Mapping[Any, LaneUsage], sizes: Mapping[str, int]) -> Mapping[str, PoolLoad]:
        """By pool. Empty if one of the lanes is new: its share in the load is not known yet.

        An actor counts as busy at most all of the time, though several lanes' calls may have overlapped there.
        """
        before, self._before = self._before, dict(lanes)
        if lanes.keys() - before.keys():
            return {}
        busy: dict[str, dict[Any, float]] = defaultdict(lambda: defaultdict(float))
        calls: dict[str, float] = defaultdict(float)
        for lane, now in lanes.items():
            passed_s = max(now.at_s - before[lane].at_s, 1e-9)
            for pool, actors in now.pools.items():
                for actor, usage in actors.items():
                    was = before[lane].pools.get(pool, {}).get(actor, Usage())
                    busy[pool][actor] += (usage.busy_s - was.busy_s) / passed_s
                    calls[pool] += (usage.call_s - was.call_s) / passed_s
        measured: dict[str, PoolLoad] = {}
        for pool, size in sizes.items():
            workers = sum(min(1.0, share) for share in busy[pool].values())
            measured[pool] = PoolLoad(min(1.0, workers / size) if size else 0.0, max(0.0, calls[pool] - workers))
        return measured


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """The actors of a pool.

    Attributes:
        start: starts one of a number.
        needs: what one reserves, in words: "1 CPU".
        fingerprint: of the model that a new encoder has to have; None for workers without a model.
    """

    start: Callable[[int], Any]
    resources: str
    fingerprint: Fingerprint | None = None


@dataclass(frozen=True, slots=True)
class _Starting:
    handle: Any
    answer: Any
    deadline_s: float


@dataclass(slots=True)
class ElasticPool:
    """The actors of one pool, those that come and those that go. Used from one thread.

    Args:
        name: for the log.
        handles: the actors that lanes call.
        kind: how to start more.
        scaler: decides on the size.
        start_s: an actor that is not ready after so long is given up.
        clock: monotonic seconds.
    """

    name: str
    handles: tuple[Any, ...]
    spec: WorkerSpec
    policy: ScalingPolicy
    start_timeout_s: float
    clock: Callable[[], float]
    retiring: dict[Any, int] = field(default_factory=dict)  # the version of the first set without it
    _starting: list[_Starting] = field(default_factory=list)
    _next_number: int = field(init=False)

    def __post_init__(self) -> None:
        self._next_number = len(self.handles)

    @property
    def is_stable(self) -> bool:
        return not self._starting and not self.retiring

    def unpublished(self) -> Sequence[Any]:
        """Actors that no lane calls: not yet, or no more."""
        return [*self.retiring, *(one.handle for one in self._starting)]

    def plan(self, sample: PoolSample, next_version: int) -> bool:
        """Starts or retires actors, if the pool should have another size; whether the set is a smaller one now."""
        decision = self.policy.observe(sample)
        more = decision.size - len(self.handles)
        if more:
            size = len(self.handles)
            logger.warning("%s goes from %d to %d workers: %s", self.name, size, decision.size, decision.reason)
        for _ in range(more):
            self._start_one()
        for handle in self.handles[decision.size :]:
            self.retiring[handle] = next_version
        self.handles = self.handles[: decision.size]
        return more < 0

    def admit_ready(self) -> bool:
        """Takes in the actors that have become ready, and gives up those that take too long; whether any came."""
        ready = [one for one in self._starting if ray.wait([one.answer], timeout=0, fetch_local=False)[0]]
        late = [one for one in self._starting if one not in ready and self.clock() > one.deadline_s]
        joined = [one.handle for one in ready if self._fits(one)]
        for one in late:
            self._give_up(one, f"is not ready after {self.start_timeout_s:.0f} s. {self._free_resources()}")
        self._starting = [one for one in self._starting if one not in ready and one not in late]
        self.handles += tuple(joined)
        return bool(joined)

    def terminate_idle(self, lanes: Sequence[LaneUsage]) -> None:
        """Ends the retired actors that no lane calls any more; `lanes` is what all of them said."""
        for handle, version in list(self.retiring.items()):
            if all(lane.version >= version and handle not in lane.pools.get(self.name, {}) for lane in lanes):
                ray.kill(handle)
                del self.retiring[handle]

    def _start_one(self) -> None:
        handle = self.spec.start(self._next_number)
        self._next_number += 1
        answer = handle.ready.remote() if self.spec.fingerprint is None else handle.ask.remote("fingerprint")
        self._starting.append(_Starting(handle, answer, self.clock() + self.start_timeout_s))

    def _fits(self, one: _Starting) -> bool:
        try:
            answer = ray.get(one.answer)
        except RayError as exc:
            self._give_up(one, f"could not be made: {str(exc).strip().splitlines()[-1]}")
            return False
        if self.spec.fingerprint not in (None, answer):
            self._give_up(one, f"has another model ({answer}) than the pool ({self.spec.fingerprint}): mend its node")
            return False
        return True

    def _give_up(self, one: _Starting, why: str) -> None:
        logger.error("a further %s worker is given up, as it %s", self.name, why)
        ray.kill(one.handle)
        self.policy.suspend_growth()

    def _free_resources(self) -> str:
        free = ray.available_resources()  # type: ignore[no-untyped-call]
        return (
            f"It needs {self.spec.resources}, and {free.get('CPU', 0):g} CPUs and {free.get('GPU', 0):g} GPUs are free "
            "in the cluster: add nodes, or lower the pool's maximum; where an autoscaler adds them, raise "
            "ingest.worker_start_timeout_s"
        )


class Autoscaler:
    """All pools that can change their size, and the version of their set of actors.

    Args:
        pools: by name.
        lag: records of a pool's topics that are not settled; None if it is not known.
    """

    def __init__(self, pools: Mapping[str, ElasticPool], lag: Callable[[str], int | None]) -> None:
        self._pools = pools
        self._lag = lag
        self.version = 0

    @property
    def can_scale(self) -> bool:
        """Whether any pool may; the lag is of interest only then."""
        return any(pool.policy.rules.max_workers > pool.policy.rules.min_workers for pool in self._pools.values())

    def handles(self) -> Mapping[str, Sequence[Any]]:
        """What lanes are to call, by pool."""
        return {name: pool.handles for name, pool in self._pools.items()}

    def unpublished(self) -> Sequence[Any]:
        """Actors that no lane calls: not yet, or no more."""
        return [handle for pool in self._pools.values() for handle in pool.unpublished()]

    def step(self, lanes: Sequence[LaneUsage | None], loads: Mapping[str, PoolLoad], *, blocked: bool) -> None:
        """Moves every pool one step on.

        Args:
            lanes: what each lane said; None for one that gave no answer. It may be calling anyone.
            measured: by pool; a pool that is missing is left at its size.
            held: whether something else than the pools holds the events up.
        """
        next_version, changed = self.version + 1, False
        answers = [lane for lane in lanes if lane is not None]
        for name, pool in self._pools.items():
            changed |= pool.admit_ready()
            if len(answers) == len(lanes):
                pool.terminate_idle(answers)
            if not pool.is_stable:
                pool.policy.reset()
            elif name in loads:
                now = loads[name]
                sample = PoolSample(len(pool.handles), now.utilization, now.queued, self._lag(name), blocked)
                changed |= pool.plan(sample, next_version)
        self.version += changed
