"""Workers behind one protocol: in this process (`LocalPool`), or as Ray actors (`ray_pool.RayPool`).

A step is a method of a worker. What it returns stays where it was made and travels by reference: the `Ref`s of one
step go into the next one's call, so that media and pixels never pass through the lane; only small reports are fetched.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from penstock.errors import WorkerBrokenError, WorkerLostError

T = TypeVar("T")
WorkerT = TypeVar("WorkerT", bound=Hashable)

Ref: TypeAlias = Any
"""A result: a future of a `LocalPool`, an object reference of a `RayPool`."""


@dataclass(frozen=True, slots=True)
class Call:
    """A finished call of a worker's method.

    Attributes:
        results: a reference to each value the method returned.
        busy_s: seconds the worker was busy with it, without waiting in its queue.
    """

    results: tuple[Ref, ...]
    busy_s: float


class Pool(Protocol):
    """Workers of one kind that share the work. Safe to call from several threads."""

    @property
    def size(self) -> int:
        """Workers there are now."""

    def put(self, value: object) -> Ref:
        """Makes a value available to several calls without sending it twice."""

    def run(self, method: str, *args: Any, returns: int = 1) -> Call:
        """Calls a method of the least busy worker and waits for its end; the results stay where they are.

        Args:
            method: name of the worker's method.
            *args: values, or refs of pools of the same kind, which are resolved where the worker is.
            returns: how many values the method returns; a tuple, if more than one.

        Raises:
            WorkerLostError: the worker died, was broken for good and is made anew, gave no answer in time, or an
                argument was lost with its node.
            PenstockError: whatever the method raised.
        """

    def run_on(self, worker: int, method: str, *args: Any, returns: int = 1) -> Call:
        """The same, on a certain worker: 0 to `size` - 1."""

    def run_on_all(self, method: str, *args: Any, returns: int = 1) -> Sequence[Call]:
        """The same, on each worker at the same time, in their order. Raises once all have ended, what the first of
        those that failed did.
        """

    def fetch(self, ref: Ref) -> Any:
        """The value itself; for small ones. Raises as `run` does."""


class LocalPool:
    """Workers in this process, one thread each.

    Args:
        make: makes the worker of a number; called `size` times, in this thread, and again for one that is broken.
        size: number of workers.
    """

    def __init__(self, make: Callable[[int], object], size: int = 1) -> None:
        self._make = make
        self._workers = [make(number) for number in range(size)]
        self._threads = [ThreadPoolExecutor(1, thread_name_prefix="worker") for _ in range(size)]
        self._load = LeastLoaded(range(size))

    @property
    def size(self) -> int:
        return len(self._workers)

    def put(self, value: object) -> Ref:
        future: Future[object] = Future()
        future.set_result(value)
        return future

    def run(self, method: str, *args: Any, returns: int = 1) -> Call:
        with self._load.acquire() as worker:
            return self._call(worker, method, args, returns)

    def run_on(self, worker: int, method: str, *args: Any, returns: int = 1) -> Call:
        with self._load.track(worker):
            return self._call(worker, method, args, returns)

    def run_on_all(self, method: str, *args: Any, returns: int = 1) -> Sequence[Call]:
        with ExitStack() as loads:
            for worker in range(self.size):
                loads.enter_context(self._load.track(worker))
            return call_all(partial(self._begin, worker, method, args, returns) for worker in range(self.size))

    def fetch(self, ref: Ref) -> Any:
        return ref.result()

    def close(self) -> None:
        """Ends the threads; the workers go with the pool."""
        for thread in self._threads:
            thread.shutdown(wait=True)

    def _call(self, worker: int, method: str, args: Sequence[Any], returns: int) -> Call:
        return self._begin(worker, method, args, returns)()

    def _begin(self, worker: int, method: str, args: Sequence[Any], returns: int) -> Callable[[], Call]:
        values = [arg.result() if isinstance(arg, Future) else arg for arg in args]
        done = self._threads[worker].submit(call_timed, self._workers[worker], method, returns, values)
        return partial(self._answer, worker, done)

    def _answer(self, worker: int, done: Future[tuple[Any, ...]]) -> Call:
        try:
            busy_s, *results = done.result()
        except WorkerBrokenError as exc:
            self._workers[worker] = self._make(worker)
            raise WorkerLostError(str(exc), blamed=True) from exc
        return Call(tuple(self.put(value) for value in results), busy_s)


def call_all(calls_to_start: Iterable[Callable[[], Callable[[], Call]]]) -> Sequence[Call]:
    """Asks every one and then waits for every one, whatever becomes of the others: when this returns or raises, none is
    under way.

    Args:
        asks: each begins a call, and returns what waits for its end.

    Raises:
        Exception: what the first that failed did.
    """
    failed: list[Exception] = []
    begun = [answer for ask in calls_to_start if (answer := _tried(ask, failed)) is not None]
    calls = [call for answer in begun if (call := _tried(answer, failed)) is not None]
    if failed:
        raise failed[0]
    return calls


def _tried(step: Callable[[], T], failed: list[Exception]) -> T | None:
    try:
        return step()
    except Exception as exc:
        failed.append(exc)
        return None


def call_timed(worker: object, method: str, returns: int, args: Sequence[Any]) -> tuple[Any, ...]:
    """Calls the method; how long it took stands before what it returned."""
    started_s = time.perf_counter()
    result = getattr(worker, method)(*args)
    busy_s = time.perf_counter() - started_s
    return (busy_s, result) if returns == 1 else (busy_s, *result)


@dataclass(slots=True)
class Usage:
    """What one process has asked of one worker.

    Attributes:
        calls: under way now.
        busy_s: seconds, so far, in which at least one was.
        call_s: seconds that all calls took together, so far; its rise per second is the mean number of calls.
    """

    calls: int = 0
    busy_s: float = 0.0
    call_s: float = 0.0


class LeastLoaded(Generic[WorkerT]):
    """Calls under way at each worker, to pick the least busy one, and how long there were any.

    Workers may be replaced at any time; one that is gone is remembered until its last call has ended.

    Args:
        workers: what stands for each.
        clock: monotonic seconds.
    """

    def __init__(self, workers: Iterable[WorkerT], clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._workers = list(workers)
        self._usage: dict[WorkerT, Usage] = {worker: Usage() for worker in self._workers}
        self._quarantined_until_s: dict[WorkerT, float] = {}  # until when others are picked first
        self._accrued_until_s = clock()
        self._turn = 0
        self._lock = threading.Lock()

    def replace(self, workers: Iterable[WorkerT]) -> None:
        """From now on calls go to these; those under way go on."""
        with self._lock:
            self._accrue()
            self._workers = list(workers)
            for worker in self._workers:
                self._usage.setdefault(worker, Usage())
            for worker in list(self._usage):
                self._drop_if_gone(worker)

    def usage(self) -> Mapping[WorkerT, Usage]:
        """Of each worker, those included that were replaced and still have calls under way."""
        with self._lock:
            self._accrue()
            return {worker: copy(usage) for worker, usage in self._usage.items()}

    @contextmanager
    def acquire(self) -> Iterator[WorkerT]:
        """A call to the worker with the fewest; picked and counted in one step, lest it is replaced in between."""
        with self._lock:
            self._accrue()
            self._turn += 1  # so that idle workers take turns
            order = [(index - self._turn) % len(self._workers) for index in range(len(self._workers))]
            _, worker = min(zip(order, self._workers, strict=True), key=self._rank)
            self._begin(worker)
        try:
            yield worker
        finally:
            self._end(worker)

    @contextmanager
    def track(self, worker: WorkerT) -> Iterator[WorkerT]:
        """A call to this very worker."""
        with self._lock:
            self._begin(worker)
        try:
            yield worker
        finally:
            self._end(worker)

    @contextmanager
    def quarantine(self, worker: WorkerT, retry_after_s: float) -> Iterator[None]:
        """Around waiting for a worker that is not there: it has the fewest calls, as it takes none, and is picked last.

        If it does not come back (an error passes through), it is picked last for `again_after_s` seconds more.
        """
        with self._lock:
            self._quarantined_until_s[worker] = math.inf
        try:
            yield
        except BaseException:
            with self._lock:
                self._quarantined_until_s[worker] = self._clock() + retry_after_s
            raise
        else:
            with self._lock:
                self._quarantined_until_s.pop(worker, None)

    def _rank(self, turn_and_worker: tuple[int, WorkerT]) -> tuple[bool, int, int]:
        turn, worker = turn_and_worker
        return self._quarantined_until_s.get(worker, 0.0) > self._accrued_until_s, self._usage[worker].calls, turn

    def _begin(self, worker: WorkerT) -> None:
        self._accrue()
        self._usage.setdefault(worker, Usage()).calls += 1

    def _end(self, worker: WorkerT) -> None:
        with self._lock:
            self._accrue()
            self._usage[worker].calls -= 1
            self._drop_if_gone(worker)

    def _accrue(self) -> None:
        """Adds up what was under way since the last change."""
        now_s = self._clock()
        passed_s, self._accrued_until_s = now_s - self._accrued_until_s, now_s
        for usage in self._usage.values():
            usage.busy_s += passed_s if usage.calls else 0.0
            usage.call_s += passed_s * usage.calls

    def _drop_if_gone(self, worker: WorkerT) -> None:
        if worker not in self._workers and worker in self._usage and not self._usage[worker].calls:
            del self._usage[worker]
            self._quarantined_until_s.pop(worker, None)
