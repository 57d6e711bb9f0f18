"""Workers behind one protocol: in this process (`LocalPool`), or as Ray actors (`ray_pool.RayPool`).

A step is a method of a worker. Its results stay where they were made and travel by reference: the `Ref`s of one step go
into the call of the next one, so that media and pixels never pass through the lane. Only small reports are fetched.
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
from typing import Any, Generic, Protocol, TypeVar, cast

from penstock.errors import WorkerBrokenError, WorkerLostError
from penstock.observability import tracing

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
FirstT = TypeVar("FirstT")
RestT = TypeVar("RestT")
WorkerT = TypeVar("WorkerT", bound=Hashable)

MAX_OOM_KILLS_BY_OTHERS = 3  # a batch or image that lost more workers to a lack of memory is taken to be the cause


class Ref(Generic[T_co]):
    """A result that stays in the worker's process or object store until it is fetched.

    A type for the checker alone, so that a reference costs nothing: at run time it is a future of a `LocalPool` or an
    object reference of a `RayPool`, and only pools of that kind resolve it.
    """


@dataclass(frozen=True, slots=True)
class Call(Generic[T_co]):
    """A finished call of a worker's method that returns `T_co`.

    Attributes:
        results: a reference to each value that the method returned.
        busy_s: seconds for which the call occupied the worker, without the wait in its queue.
    """

    results: tuple[Ref[Any], ...]
    busy_s: float

    @property
    def result(self) -> Ref[T_co]:
        """Returns the reference to the value of a method that returns one."""
        return self.results[0]

    def pair(self: Call[tuple[FirstT, RestT]]) -> tuple[Ref[FirstT], Ref[RestT]]:
        """Returns the references to the values of a method that returns two."""
        first, second = self.results
        return first, second

    def first_and_rest(
        self: Call[tuple[FirstT, *tuple[RestT, ...]]],
    ) -> tuple[Ref[FirstT], tuple[Ref[RestT], ...]]:
        """Returns the references to the values of a method that returns one value and others of one type."""
        return self.results[0], self.results[1:]


class Pool(Protocol):
    """Workers of one kind that share the work. Safe to call from several threads.

    Every call takes the method itself, as the class of the workers defines it; a worker runs its own method of that
    name. `proxies` gives the calls their types.
    """

    @property
    def size(self) -> int:
        """Returns the present number of workers."""

    def put(self, value: T) -> Ref[T]:
        """Makes a value available to several calls without sending it twice."""

    def run(self, method: Callable[..., T], *args: object, returns: int = 1) -> Call[T]:
        """Calls a method of the least busy worker and waits for its end; the results stay where they are.

        Args:
            method: the worker's method.
            *args: values, or refs of pools of the same kind, which are resolved where the worker is.
            returns: the number of values that the method returns; a tuple, if more than one.

        Raises:
            WorkerLostError: the worker died, broke permanently and is replaced, did not answer in time, or an argument
                was lost with its node.
            PenstockError: the method raised it.
        """

    def run_on(self, worker: int, method: Callable[..., T], *args: object, returns: int = 1) -> Call[T]:
        """Calls a method of the worker of this number, 0 to `size` - 1. See `run`."""

    def run_on_all(self, method: Callable[..., T], *args: object, returns: int = 1) -> Sequence[Call[T]]:
        """Calls a method of every worker concurrently and returns the calls in the workers' order. See `run`.

        Raises only once all calls have ended, and then the error of the first call that failed.
        """

    def run_on_each(
        self, workers: Sequence[int], method: Callable[..., T], *args: object, returns: int = 1
    ) -> Sequence[Call[T]]:
        """Calls a method of the workers of these numbers concurrently, in their order. See `run_on_all`."""

    def fetch(self, ref: Ref[T]) -> T:
        """Returns the value itself; for small ones. Raises as `run` does."""


class LocalPool:
    """Workers in this process, one thread each.

    Args:
        make: makes the worker of a number; called `size` times in this thread, and again for a worker that broke.
        size: number of workers.
    """

    def __init__(self, make: Callable[[int], object], size: int = 1) -> None:
        self._make = make
        self._workers = [make(number) for number in range(size)]
        self._threads = [ThreadPoolExecutor(1, thread_name_prefix="worker") for _ in range(size)]
        self._load = LeastLoaded(range(size))

    @property
    def size(self) -> int:
        """Returns the number of workers."""
        return len(self._workers)

    def put(self, value: T) -> Ref[T]:
        """See `Pool.put`."""
        future: Future[T] = Future()
        future.set_result(value)
        return cast("Ref[T]", future)

    def run(self, method: Callable[..., T], *args: object, returns: int = 1) -> Call[T]:
        """See `Pool.run`."""
        with self._load.acquire() as worker:
            return self._start(worker, method, args, returns)()

    def run_on(self, worker: int, method: Callable[..., T], *args: object, returns: int = 1) -> Call[T]:
        """See `Pool.run_on`."""
        with self._load.track(worker):
            return self._start(worker, method, args, returns)()

    def run_on_all(self, method: Callable[..., T], *args: object, returns: int = 1) -> Sequence[Call[T]]:
        """See `Pool.run_on_all`."""
        return self.run_on_each(range(self.size), method, *args, returns=returns)

    def run_on_each(
        self, workers: Sequence[int], method: Callable[..., T], *args: object, returns: int = 1
    ) -> Sequence[Call[T]]:
        """See `Pool.run_on_each`."""
        with ExitStack() as loads:
            for worker in workers:
                loads.enter_context(self._load.track(worker))
            return call_all(partial(self._start, worker, method, args, returns) for worker in workers)

    def fetch(self, ref: Ref[T]) -> T:
        """See `Pool.fetch`."""
        return cast("Future[T]", ref).result()

    def close(self) -> None:
        """Ends the threads; the workers end with the pool."""
        for thread in self._threads:
            thread.shutdown(wait=True)

    def _start(
        self, worker: int, method: Callable[..., T], args: Sequence[object], returns: int
    ) -> Callable[[], Call[T]]:
        values = [arg.result() if isinstance(arg, Future) else arg for arg in args]
        carrier, name = tracing.current().carrier(), f"local-{worker}"
        done = self._threads[worker].submit(
            call_timed, self._workers[worker], method.__name__, returns, values, carrier=carrier, worker_name=name
        )
        return partial(self._finish, worker, done)

    def _finish(self, worker: int, done: Future[tuple[float, *tuple[object, ...]]]) -> Call[Any]:
        try:
            busy_s, *results = done.result()
        except WorkerBrokenError as exc:
            self._workers[worker] = self._make(worker)
            raise WorkerLostError(str(exc), blamed=True) from exc
        return Call(tuple(self.put(value) for value in results), busy_s)


def call_all(starters: Iterable[Callable[[], Callable[[], Call[T]]]]) -> Sequence[Call[T]]:
    """Starts every call and then waits for every one, also after one failed: none is under way afterwards.

    Args:
        starters: each starts a call, and returns a function that waits for its end.

    Raises:
        Exception: the error of the first call that failed.
    """
    errors: list[Exception] = []
    started = [finish for start in starters if (finish := _attempt(start, errors)) is not None]
    calls = [call for finish in started if (call := _attempt(finish, errors)) is not None]
    if errors:
        raise errors[0]
    return calls


def _attempt(step: Callable[[], T], errors: list[Exception]) -> T | None:
    try:
        return step()
    except Exception as exc:
        errors.append(exc)
        return None


def call_timed(
    worker: object, method: str, returns: int, args: Sequence[object], *, carrier: str, worker_name: str
) -> tuple[float, *tuple[object, ...]]:
    """Calls the method of this name; returns the seconds that it took, and then its results.

    `carrier` is the context of the caller's span, see `Tracing.carrier`.
    """
    started_s = time.perf_counter()
    with tracing.current().span(method, parent=carrier, worker=worker_name):
        result = getattr(worker, method)(*args)
    busy_s = time.perf_counter() - started_s
    return (busy_s, result) if returns == 1 else (busy_s, *result)


@dataclass(slots=True)
class Usage:
    """The calls of one process to one worker.

    Attributes:
        calls: under way now.
        busy_s: seconds, so far, in which at least one was.
        call_s: seconds that all calls took together, so far; its rise per second is the mean number of calls.
    """

    calls: int = 0
    busy_s: float = 0.0
    call_s: float = 0.0


class LeastLoaded(Generic[WorkerT]):
    """Picks the worker with the fewest calls under way, and adds up how long there were any.

    Workers may be replaced at any time; one that is removed is remembered until its last call has ended.

    Args:
        workers: a key for each.
        clock: monotonic seconds.
    """

    def __init__(self, workers: Iterable[WorkerT], clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._workers = list(workers)
        self._usage: dict[WorkerT, Usage] = {worker: Usage() for worker in self._workers}
        self._quarantined_until_s: dict[WorkerT, float] = {}  # others are picked first
        self._accrued_until_s = clock()
        self._turn = 0
        self._lock = threading.Lock()

    def replace(self, workers: Iterable[WorkerT]) -> None:
        """Directs later calls to these workers; calls under way continue where they are."""
        with self._lock:
            self._accrue()
            self._workers = list(workers)
            for worker in self._workers:
                self._usage.setdefault(worker, Usage())
            for worker in list(self._usage):
                self._drop_if_removed(worker)

    def usage(self) -> Mapping[WorkerT, Usage]:
        """Returns the usage of each worker, including those that were replaced and still have calls under way."""
        with self._lock:
            self._accrue()
            return {worker: copy(usage) for worker, usage in self._usage.items()}

    @contextmanager
    def acquire(self) -> Iterator[WorkerT]:
        """Counts a call to the worker with the fewest calls for the duration of the block.

        Picking and counting are one step, so that the worker is not replaced in between.
        """
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
        """Counts a call to this worker for the duration of the block."""
        with self._lock:
            self._begin(worker)
        try:
            yield worker
        finally:
            self._end(worker)

    @contextmanager
    def quarantine(self, worker: WorkerT, retry_after_s: float) -> Iterator[None]:
        """Ranks a worker last while the block waits for its return.

        Without this it would rank first, as it accepts no call and so has the fewest. If it does not return (an error
        passes through), it ranks last for `retry_after_s` more seconds.
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
            self._drop_if_removed(worker)

    def _accrue(self) -> None:
        """Adds the time since the last change to every worker that had calls under way."""
        now_s = self._clock()
        passed_s, self._accrued_until_s = now_s - self._accrued_until_s, now_s
        for usage in self._usage.values():
            usage.busy_s += passed_s if usage.calls else 0.0
            usage.call_s += passed_s * usage.calls

    def _drop_if_removed(self, worker: WorkerT) -> None:
        if worker not in self._workers and worker in self._usage and not self._usage[worker].calls:
            del self._usage[worker]
            self._quarantined_until_s.pop(worker, None)
