"""Pools of Ray actors, pinned to CPUs and GPUs."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar, cast

import ray
from ray import ObjectRef
from ray.exceptions import (
    GetTimeoutError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)

from penstock.errors import UnavailableError, WorkerLostError, first_line
from penstock.ingest.executor.crash_notes import call_running_on
from penstock.ingest.executor.pool import Call, LeastLoaded, Ref, Usage, call_all
from penstock.ingest.executor.ray_actor import Actor, start_call, time_without_progress, when_ready
from penstock.observability import metrics, tracing

T = TypeVar("T")

logger = logging.getLogger(__name__)

_RESTART_POLL_S = 0.1
_RESTART_TIMEOUT_S = 300.0  # models are loaded again, perhaps on a node that Ray's autoscaler adds first
_PROGRESS_TIMEOUT_S = 10.0
# A living caller, which checks every `call_timeout_s`, has found its own call by then.
_TIMEOUTS_FOR_OTHERS = 2.0
_LOST = (RayActorError, WorkerCrashedError, ObjectLostError, OutOfMemoryError, GetTimeoutError)


class RayPool:
    """Ray actors that the plane owns, and the load that this process's calls put on them.

    Args:
        name: for messages: "decode".
        handles: the actors, made by `spawn_actors`.
        call_timeout_s: a call that makes no progress for this long counts as lost, as does its worker.
    """

    def __init__(self, name: str, handles: Sequence[Actor], *, call_timeout_s: float) -> None:
        self._name = name
        self._handles = tuple(handles)
        self._load: LeastLoaded[Actor] = LeastLoaded(self._handles)
        self._nodes: dict[Actor, str] = {}  # the node on which each actor was seen last
        self._call_timeout_s = call_timeout_s

    @property
    def size(self) -> int:
        """Returns the present number of actors."""
        return len(self._handles)

    def put(self, value: T) -> Ref[T]:
        """See `Pool.put`."""
        return cast("Ref[T]", ray.put(value))

    def run(self, method: Callable[..., T], *args: object, returns: int = 1) -> Call[T]:
        """See `Pool.run`."""
        with self._load.acquire() as handle:
            return self._start(handle, method, args, returns)()

    def run_on(self, worker: int, method: Callable[..., T], *args: object, returns: int = 1) -> Call[T]:
        """See `Pool.run_on`."""
        with self._load.track(self._handles[worker]) as handle:
            return self._start(handle, method, args, returns)()

    def run_on_all(self, method: Callable[..., T], *args: object, returns: int = 1) -> Sequence[Call[T]]:
        """See `Pool.run_on_all`."""
        return self.run_on_each(range(self.size), method, *args, returns=returns)

    def run_on_each(
        self, workers: Sequence[int], method: Callable[..., T], *args: object, returns: int = 1
    ) -> Sequence[Call[T]]:
        """See `Pool.run_on_each`."""
        with ExitStack() as loads:
            handles = [loads.enter_context(self._load.track(self._handles[worker])) for worker in workers]
            return call_all(partial(self._start, handle, method, args, returns) for handle in handles)

    def fetch(self, ref: Ref[T]) -> T:
        """See `Pool.fetch`."""
        return self._get(cast("ObjectRef[T]", ref), "its result")

    def replace(self, handles: Sequence[Actor]) -> None:
        """Directs later calls to these actors; calls under way continue where they are.

        The results of an actor that is removed are not lost with it: they belong to the process that called it (Ray's
        ownership), and their values lie in that process or in the object store of the node.
        """
        self._handles = tuple(handles)
        self._load.replace(self._handles)
        for removed in self._nodes.keys() - set(handles):
            self._nodes.pop(removed, None)

    def usage(self) -> Mapping[Actor, Usage]:
        """Returns this process's calls by actor, including those that were replaced and have calls under way."""
        return self._load.usage()

    def _start(
        self, handle: Actor, method: Callable[..., T], args: Sequence[object], returns: int
    ) -> Callable[[], Call[T]]:
        token, node, started_s = uuid.uuid4().hex, self._node_of(handle), time.perf_counter()
        try:
            carrier = tracing.current().carrier()
            busy_s, results = start_call(handle, token, method.__name__, returns, args, carrier=carrier)
        except RayError as exc:  # for example, Ray's object store has no space for the arguments
            raise UnavailableError(f"{self._name}: cannot send a {method.__name__} call: {first_line(exc)}") from exc
        return partial(self._finish, _PendingCall(handle, node, method.__name__, token, busy_s, results, started_s))

    def _finish(self, call: _PendingCall) -> Call[Any]:
        """Waits for a call's end.

        The first value that the actor returns is small, so that waiting for it fetches no media and no pixels.
        """
        hung = self._wait_for_end(call.handle, call.token, call.busy_s)
        try:
            busy_s = self._get(call.busy_s, call.method)
        except WorkerLostError as exc:
            with self._load.quarantine(call.handle, _RESTART_TIMEOUT_S):
                was_running = self._await_restart(call.handle, call.node) == call.token
            out_of_memory = _is_oom_kill(exc)
            raise WorkerLostError(
                str(exc), blamed=was_running and not out_of_memory, hung=hung, starved=was_running and out_of_memory
            ) from exc
        metrics.BUSY.labels(self._name).inc(busy_s)
        metrics.QUEUE_WAIT.labels(self._name).observe(time.perf_counter() - call.started_s - busy_s)
        return Call(tuple(cast("list[Ref[Any]]", call.results)), busy_s)

    def _wait_for_end(self, handle: Actor, token: str, ref: ObjectRef[float]) -> bool:
        """Returns once the call has ended, successfully or not. Kills a worker that hangs on it; Ray restarts that.

        Time for which the call waits for others does not count, in the queue or in a writer for locks on its assets
        (`time_without_progress`). The exception is another call that hangs the worker while this one is queued: the
        caller of that one may be dead, and then no other process would ever notice.

        Returns:
            whether the worker was killed because of this call.
        """
        hung = False
        while not ray.wait([ref], timeout=self._call_timeout_s, fetch_local=False)[0]:
            try:
                stalled_s, is_own = ray.get(time_without_progress(handle, token), timeout=_PROGRESS_TIMEOUT_S)
            except GetTimeoutError:  # not even that is answered: it is suspended, or holds the interpreter
                stalled_s, is_own = self._call_timeout_s, True
            except RayActorError:
                break
            if stalled_s >= self._call_timeout_s * (1.0 if is_own else _TIMEOUTS_FOR_OTHERS):
                cause = "one call" if is_own else "a call whose caller is dead"
                logger.error("a %s worker hangs on %s for %.0f s and is killed", self._name, cause, stalled_s)
                ray.kill(handle, no_restart=False)
                hung = hung or is_own
        return hung

    def _node_of(self, handle: Actor) -> str:
        """Returns the node on which the actor runs; requested once, and after each loss."""
        if handle not in self._nodes:
            with self._load.quarantine(handle, _RESTART_TIMEOUT_S):
                self._await_restart(handle, "")
        return self._nodes.get(handle, "")

    def _await_restart(self, handle: Actor, node: str) -> str:
        """Waits until Ray has restarted the actor; returns the token of the call during which it died on that node.

        Raises:
            UnavailableError: it was not restarted in time.
        """
        deadline_s = time.monotonic() + _RESTART_TIMEOUT_S
        while True:
            try:
                record = ray.get(when_ready(handle), timeout=_RESTART_TIMEOUT_S)
                break
            except (RayActorError, GetTimeoutError) as exc:
                if time.monotonic() > deadline_s:
                    raise UnavailableError(f"no {self._name} worker was restarted: {first_line(exc)}") from exc
                time.sleep(_RESTART_POLL_S)
        self._nodes[handle] = record.node
        return call_running_on(record, node)

    def _get(self, ref: ObjectRef[T], subject: str) -> T:
        """Returns a value, or raises the worker's own error.

        That error is raised outside the handler of Ray's error, which holds it: with Ray's error as its cause it would
        keep itself, and with its traceback the batch, in memory.
        """
        try:
            return ray.get(ref, timeout=self._call_timeout_s)
        except _LOST as exc:
            raise WorkerLostError(f"a {self._name} worker was lost during {subject}: {first_line(exc)}") from exc
        except RayTaskError as exc:
            failure: Exception = (
                exc.cause
                if isinstance(exc.cause, Exception)
                else UnavailableError(f"{self._name} failed during {subject}: {first_line(exc)}")
            )
            failure.add_note(str(exc))  # the worker's traceback, as text
        except RayError as exc:
            raise UnavailableError(f"{self._name}: Ray failed during {subject}: {first_line(exc)}") from exc
        try:
            raise failure
        finally:
            del failure


@dataclass(frozen=True, slots=True)
class _PendingCall:
    """A call under way: its actor, the node on which that ran at the start, and references to the results."""

    handle: Actor
    node: str
    method: str
    token: str
    busy_s: ObjectRef[float]
    results: Sequence[ObjectRef[object]]
    started_s: float


def _is_oom_kill(lost: WorkerLostError) -> bool:
    """Returns whether Ray killed the worker because the node was full: it kills the newest, whichever filled it."""
    return isinstance(lost.__cause__, OutOfMemoryError) or "OOM" in str(lost.__cause__)
