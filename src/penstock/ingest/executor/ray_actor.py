"""The Ray actor around a worker, and the typed requests to it: the only place that names an actor's methods.

start_call    a step; waits in the actor's queue
control       a small question to the worker, answered beside the steps
when_ready, time_without_progress     questions to the actor itself
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Concatenate, Generic, ParamSpec, TypeAlias, TypeVar

import ray
from ray import ObjectRef
from ray.actor import ActorHandle
from ray.exceptions import RayError

from penstock.errors import WorkerBrokenError
from penstock.ingest.executor.crash_notes import CrashRecord
from penstock.ingest.executor.pool import call_timed

P = ParamSpec("P")
T = TypeVar("T")
WorkerT = TypeVar("WorkerT")

logger = logging.getLogger(__name__)

_RESTART_PAUSE_S = 1.0  # before a restarted worker that could not be made tries again
_CONTROL = "control"  # the concurrency group of questions, which must not wait behind the steps


class WorkerHost(Generic[WorkerT]):
    """The actor: runs the calls of one worker, and answers questions while it does.

    It keeps a journal of its calls, so that the actor that takes its place after a crash can report which call was
    running (see `crash_notes`). With several concurrent calls (`journal_dir` is None), or after the loss of the node,
    no call is blamed.

    Args:
        make: makes the worker of a number.
        number: of the worker.
        name: of the pool, for the log.
        journal_dir: the folder of the journals, each node its own; None to keep none.
        on_start: called first in the process, with `name`.
        concurrent_calls: calls that the actor serves concurrently.
    """

    def __init__(
        self,
        make: Callable[[int], WorkerT],
        number: int,
        name: str,
        journal_dir: Path | None,
        on_start: Callable[[str], None],
        *,
        concurrent_calls: int,
    ) -> None:
        on_start(name)
        self._name = f"{name}-{number}"
        self._crash_record = CrashRecord.of_this_actor(journal_dir)
        self._running: dict[str, float] = {}  # when each call began, by its token
        self._last_end_s = 0.0
        self._concurrent_calls = concurrent_calls
        self._worker = _make_or_restart(make, number)
        self._journal = self._crash_record.open_journal()  # truncates it: only once the worker is made

    def __repr__(self) -> str:  # Ray's logs show it
        return self._name

    @ray.method(concurrency_group=_CONTROL)
    def ready(self) -> CrashRecord:
        """Returns once the worker is made and its models are loaded."""
        return self._crash_record

    @ray.method(concurrency_group=_CONTROL)
    def time_without_progress(self, token: str) -> tuple[float, bool]:
        """Returns (seconds without progress, whether this call is running).

        If the call is queued or has ended, reports the oldest running call instead (0 if none is). Each of several
        concurrent calls may wait for all the others: while any of them ends, a call counts only its share of the time.
        """
        running, now_s = dict(self._running), time.monotonic()  # a copy: calls begin and end in other threads
        began_s = running.get(token, min(running.values(), default=now_s))
        without_end_s = now_s - max(began_s, self._last_end_s)
        return max(without_end_s, (now_s - began_s) / self._concurrent_calls), token in running

    @ray.method(concurrency_group=_CONTROL)
    def control(self, method: str, *args: object, **kwargs: object) -> object:
        """Calls a method of the worker beside the steps: a small question with a small answer."""
        return getattr(self._worker, method)(*args, **kwargs)

    def call(
        self, token: str, carrier: str, method: str, returns: int, *args: object
    ) -> tuple[float, *tuple[object, ...]]:
        """Runs a step and returns the seconds that it took, and then its results."""
        if self._journal is not None:
            self._journal.begin(token)
        self._running[token] = time.monotonic()
        try:
            return self._call_or_restart(carrier, method, returns, args)
        finally:
            del self._running[token]
            self._last_end_s = time.monotonic()
            if self._journal is not None:
                self._journal.end()

    def _call_or_restart(
        self, carrier: str, method: str, returns: int, args: Sequence[object]
    ) -> tuple[float, *tuple[object, ...]]:
        """Calls the worker; ends the process of one that is permanently broken, so that Ray makes another.

        The call is blamed as for a crash: an item can break a device (an index out of its range), and bisection then
        finds it; if it is harmless, it passes on the new worker.
        """
        try:
            return call_timed(self._worker, method, returns, args, carrier=carrier, worker_name=self._name)
        except WorkerBrokenError:
            logger.exception("%s is broken and ends, so that Ray restarts it", self._name)
            logging.shutdown()
            os._exit(1)  # immediately, before the note in the journal is cleared


Actor: TypeAlias = ActorHandle[WorkerHost[Any]]
"""A handle of an actor: hashable, and passed between processes."""


def _no_op(_name: str) -> None:
    pass


def spawn_actors(
    make: Callable[[int], object],
    size: int,
    *,
    name: str,
    journal_dir: Path,
    num_cpus: float,
    num_gpus: float = 0.0,
    labels: Mapping[str, str] | None = None,
    concurrent_calls: int = 1,
    first_number: int = 0,
    on_start: Callable[[str], None] = _no_op,
) -> list[Actor]:
    """Starts actors that host the workers, spread over the nodes. Ray restarts those that die, without limit.

    Args:
        make: makes the worker of a number, in its own process; imports what it needs there.
        size: number of actors.
        name: shown in Ray's logs: `decode-0`.
        journal_dir: a folder, each node its own, where an actor notes its calls; see `crash_notes`.
        num_cpus, num_gpus: reserved by each on its node.
        labels: that its node must have.
        concurrent_calls: calls that one actor serves concurrently.
        first_number: number of the first.
        on_start: called first in an actor's process, with `name`.
    """
    options = {
        "scheduling_strategy": "SPREAD",  # so that the loss of a node leaves some of every pool
        "num_cpus": num_cpus,
        "num_gpus": num_gpus,
        "label_selector": dict(labels or {}),
        "max_restarts": -1,
        "max_task_retries": 0,  # the lane decides about retries, and restarts a batch from its records
        "max_concurrency": concurrent_calls,
    }
    host = ray.remote(concurrency_groups={_CONTROL: 2})(WorkerHost)  # type: ignore[call-overload]
    journals = journal_dir if concurrent_calls == 1 else None
    return [
        host.options(**options).remote(make, number, name, journals, on_start, concurrent_calls=concurrent_calls)
        for number in range(first_number, first_number + size)
    ]


def start_call(
    actor: Actor, token: str, method: str, returns: int, args: Sequence[object], *, carrier: str
) -> tuple[ObjectRef[float], list[ObjectRef[object]]]:
    """Queues a step; returns a reference to the seconds that it takes, and one to each of its results.

    `token` names the call, and `carrier` is the context of the caller's span (`Tracing.carrier`).
    """
    untyped: Any = actor
    busy_s, *results = untyped.call.options(num_returns=1 + returns).remote(token, carrier, method, returns, *args)
    return busy_s, results


def control(
    actor: Actor, method: Callable[Concatenate[WorkerT, P], T], *args: P.args, **kwargs: P.kwargs
) -> ObjectRef[T]:
    """Calls a method of the actor's worker beside its steps, for a small question with a small answer."""
    untyped: Any = actor
    answer: ObjectRef[T] = untyped.control.remote(method.__name__, *args, **kwargs)
    return answer


def when_ready(actor: Actor) -> ObjectRef[CrashRecord]:
    """Returns a reference that resolves once the actor's worker is made and its models are loaded."""
    untyped: Any = actor
    answer: ObjectRef[CrashRecord] = untyped.ready.remote()
    return answer


def time_without_progress(actor: Actor, token: str) -> ObjectRef[tuple[float, bool]]:
    """Returns (seconds without progress, whether this call is running); see `WorkerHost.time_without_progress`."""
    untyped: Any = actor
    answer: ObjectRef[tuple[float, bool]] = untyped.time_without_progress.remote(token)
    return answer


def remote_reason(exc: RayError) -> str:
    """Returns the last line of an error of Ray's: the error in the actor, below its traceback."""
    return str(exc).strip().splitlines()[-1]


def _make_or_restart(make: Callable[[int], WorkerT], number: int) -> WorkerT:
    """Makes the worker. An error at the first start is raised; a restart is repeated until it succeeds.

    Ray never restarts an actor whose constructor raises, but it restarts one whose process ends. So a worker that is
    restarted while the store is unavailable is not lost permanently.
    """
    try:
        return make(number)
    except Exception:
        if not ray.get_runtime_context().was_current_actor_reconstructed:
            raise
        logger.exception("a restarted worker could not be made and is restarted again")
        time.sleep(_RESTART_PAUSE_S)
        os._exit(1)
