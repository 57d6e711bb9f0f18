"""Pools that change their size while lanes use them.

    grow      start an actor ─► wait until it is ready ─► publish the new set to all lanes
    shrink    publish the smaller set ─► wait until no lane has a call under way on the actor ─► terminate it

A set of actors has a version. A lane that missed one receives it again, and a restarted lane begins with the latest. So
a change of size does not affect the events in flight.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import ray
from ray import ObjectRef
from ray.exceptions import RayError

from penstock.encoders.base import Fingerprint
from penstock.ingest.executor.crash_notes import CrashRecord
from penstock.ingest.executor.pool import Usage
from penstock.ingest.executor.ray_actor import Actor, control, remote_reason, when_ready
from penstock.ingest.executor.scaling_policy import PoolSample, ScalingPolicy
from penstock.ingest.executor.workers import EncodeWorker

LaneT = TypeVar("LaneT", bound=Hashable)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LaneUsage:
    """The calls of one lane to the pools.

    Attributes:
        version: of the set of actors that it uses.
        at_s: its own monotonic clock.
        pools: by pool and actor.
    """

    version: int
    at_s: float
    pools: Mapping[str, Mapping[Actor, Usage]]


@dataclass(frozen=True, slots=True)
class PoolLoad:
    """The load of a pool between two measurements: see `scaling_policy.PoolSample`."""

    utilization: float
    queued: float


class LoadMeter(Generic[LaneT]):
    """Derives the load of each pool from successive reports of the lanes, by whatever identifies a lane."""

    def __init__(self) -> None:
        self._previous: dict[LaneT, LaneUsage] = {}

    def measure(self, lanes: Mapping[LaneT, LaneUsage], sizes: Mapping[str, int]) -> Mapping[str, PoolLoad]:
        """Returns the load of each pool since the last call; nothing if a lane is new.

        The share of a new lane in the load is not known yet. An actor counts as busy at most all of the time, though
        calls of several lanes may have overlapped there.
        """
        previous, self._previous = self._previous, dict(lanes)
        if lanes.keys() - previous.keys():
            return {}
        busy: dict[str, dict[Actor, float]] = defaultdict(lambda: defaultdict(float))
        calls: dict[str, float] = defaultdict(float)
        for lane, now in lanes.items():
            before = previous[lane]
            passed_s = max(now.at_s - before.at_s, 1e-9)
            for pool, actors in now.pools.items():
                for actor, usage in actors.items():
                    usage_before = before.pools.get(pool, {}).get(actor, Usage())
                    busy[pool][actor] += (usage.busy_s - usage_before.busy_s) / passed_s
                    calls[pool] += (usage.call_s - usage_before.call_s) / passed_s
        loads: dict[str, PoolLoad] = {}
        for pool, size in sizes.items():
            workers = sum(min(1.0, share) for share in busy[pool].values())
            loads[pool] = PoolLoad(min(1.0, workers / size) if size else 0.0, max(0.0, calls[pool] - workers))
        return loads


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """The actors of a pool.

    Attributes:
        start: starts the actor of a number.
        resources: what one reserves, in words: "1 CPU".
        fingerprint: of the model that a new encoder has to have; None for workers without a model.
    """

    start: Callable[[int], Actor]
    resources: str
    fingerprint: Fingerprint | None = None


@dataclass(frozen=True, slots=True)
class _StartingActor:
    handle: Actor
    answer: ObjectRef[CrashRecord] | ObjectRef[Fingerprint]
    deadline_s: float


@dataclass(slots=True)
class ElasticPool:
    """The actors of one pool, including those that start and those that end. Used from one thread.

    Args:
        name: for the log.
        handles: the actors that lanes call.
        spec: how to start more.
        policy: decides on the size.
        start_timeout_s: an actor that is not ready after this time is abandoned.
        clock: monotonic seconds.
    """

    name: str
    handles: tuple[Actor, ...]
    spec: WorkerSpec
    policy: ScalingPolicy
    start_timeout_s: float
    clock: Callable[[], float]
    retiring: dict[Actor, int] = field(default_factory=dict)  # the version of the first set without it
    _starting: list[_StartingActor] = field(default_factory=list)
    _next_number: int = field(init=False)

    def __post_init__(self) -> None:
        self._next_number = len(self.handles)

    @property
    def is_stable(self) -> bool:
        """Returns whether no actor is starting or retiring."""
        return not self._starting and not self.retiring

    def unpublished(self) -> Sequence[Actor]:
        """Returns the actors that no lane is to call: not yet, or no longer."""
        return [*self.retiring, *(starting.handle for starting in self._starting)]

    def plan(self, sample: PoolSample, next_version: int) -> bool:
        """Starts or retires actors if the pool needs another size; returns whether the set is smaller now."""
        decision = self.policy.observe(sample)
        change = decision.size - len(self.handles)
        if change:
            logger.warning(
                "%s: scaling from %d to %d workers: %s", self.name, len(self.handles), decision.size, decision.reason
            )
        for _ in range(change):
            self._start_actor()
        for handle in self.handles[decision.size :]:
            self.retiring[handle] = next_version
        self.handles = self.handles[: decision.size]
        return change < 0

    def admit_ready(self) -> bool:
        """Adds the actors that are ready and abandons those that are late; returns whether any was added."""
        ready = [actor for actor in self._starting if ray.wait([actor.answer], timeout=0, fetch_local=False)[0]]
        late = [actor for actor in self._starting if actor not in ready and self.clock() > actor.deadline_s]
        admitted = [actor.handle for actor in ready if self._is_fit(actor)]
        for actor in late:
            self._abandon(actor, f"not ready after {self.start_timeout_s:.0f} s. {self._free_resources()}")
        self._starting = [actor for actor in self._starting if actor not in ready and actor not in late]
        self.handles += tuple(admitted)
        return bool(admitted)

    def terminate_idle(self, lanes: Sequence[LaneUsage]) -> None:
        """Terminates the retiring actors that no lane calls any more; `lanes` are the reports of all lanes."""
        for handle, version in list(self.retiring.items()):
            if all(lane.version >= version and handle not in lane.pools.get(self.name, {}) for lane in lanes):
                ray.kill(handle)
                del self.retiring[handle]

    def _start_actor(self) -> None:
        handle = self.spec.start(self._next_number)
        self._next_number += 1
        answer: ObjectRef[CrashRecord] | ObjectRef[Fingerprint] = (
            when_ready(handle) if self.spec.fingerprint is None else control(handle, EncodeWorker.fingerprint)
        )
        self._starting.append(_StartingActor(handle, answer, self.clock() + self.start_timeout_s))

    def _is_fit(self, actor: _StartingActor) -> bool:
        """Returns whether an actor started with the right model; abandons it if not."""
        try:
            answer = ray.get(actor.answer)
        except RayError as exc:
            self._abandon(actor, f"it did not start: {remote_reason(exc)}")
            return False
        if self.spec.fingerprint not in (None, answer):
            self._abandon(
                actor, f"it has another model ({answer}) than the pool ({self.spec.fingerprint}): correct its node"
            )
            return False
        return True

    def _abandon(self, actor: _StartingActor, reason: str) -> None:
        logger.error("abandoned an additional %s worker: %s", self.name, reason)
        ray.kill(actor.handle)
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
        """Returns whether any pool may grow; the lag is needed only then."""
        return any(pool.policy.rules.max_workers > pool.policy.rules.min_workers for pool in self._pools.values())

    def handles(self) -> Mapping[str, Sequence[Actor]]:
        """Returns the actors that lanes are to call, by pool."""
        return {name: pool.handles for name, pool in self._pools.items()}

    def unpublished(self) -> Sequence[Actor]:
        """Returns the actors that no lane is to call: not yet, or no longer."""
        return [handle for pool in self._pools.values() for handle in pool.unpublished()]

    def step(self, lanes: Sequence[LaneUsage | None], loads: Mapping[str, PoolLoad], *, blocked: bool) -> None:
        """Moves every pool one step towards its size.

        Args:
            lanes: the report of each lane; None for one that did not answer. It may be calling any actor.
            loads: by pool; a pool that is missing keeps its size.
            blocked: whether something other than the pools holds the events back.
        """
        next_version, changed = self.version + 1, False
        reports = [lane for lane in lanes if lane is not None]
        for name, pool in self._pools.items():
            changed |= pool.admit_ready()
            if len(reports) == len(lanes):
                pool.terminate_idle(reports)
            if not pool.is_stable:
                pool.policy.reset()
            elif name in loads:
                load = loads[name]
                sample = PoolSample(len(pool.handles), load.utilization, load.queued, self._lag(name), blocked)
                changed |= pool.plan(sample, next_version)
        self.version += changed
